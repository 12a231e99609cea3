"""No disk, no descriptors, or a write cut short, at each place where server and commands write a file of their own.

What was there stays as it was, nothing is left beside it, and the error names the cause.
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.small_disk import fill

from podling.apiserver import authentication, kubeconfig, pki
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError
from podling.cli.settings import Settings
from podling.store.acknowledged import Acknowledged
from podling.store.reserve import Reserve


@contextmanager
def _limited(which: int, soft: int) -> Iterator[None]:
    before, hard = resource.getrlimit(which)
    resource.setrlimit(which, (soft, hard))
    try:
        yield
    finally:
        resource.setrlimit(which, (before, hard))


@contextmanager
def _full(directory: Path) -> Iterator[None]:
    filler = fill(directory)
    yield
    filler.unlink()


@contextmanager
def _no_descriptors(directory: Path) -> Iterator[None]:
    lowest = os.dup(0)
    os.close(lowest)
    with _limited(resource.RLIMIT_NOFILE, lowest):
        yield


@contextmanager
def _cut(directory: Path) -> Iterator[None]:
    """The kernel writes 16 bytes and refuses the rest."""
    with _limited(resource.RLIMIT_FSIZE, 16):
        yield


SHORTAGES = {
    "no disk": (_full, errno.ENOSPC),
    "no descriptors": (_no_descriptors, errno.EMFILE),
    "cut short": (_cut, errno.EFBIG),
}


def _settings(directory: Path, port: int) -> None:
    cluster_settings.save(replace(Settings(data_dir=directory), port=port))


def _copy_of_settings(directory: Path, port: int) -> None:
    cluster_settings.save(replace(Settings(data_dir=directory), port=port), directory)


def _kubeconfig(directory: Path, port: int) -> None:
    kubeconfig.write(directory / "admin.kubeconfig", f"port: {port}\n" * 10)


def _token_file(directory: Path, port: int) -> None:
    (directory / "tokens.csv").unlink(missing_ok=True)
    authentication.ensure_admin_token(directory / "tokens.csv")


PLACES: dict[str, Callable[[Path, int], None]] = {
    "settings": _settings,
    "copy of the settings": _copy_of_settings,
    "kubeconfig": _kubeconfig,
}


def _content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "filler"}


@pytest.mark.parametrize("shortage", SHORTAGES)
@pytest.mark.parametrize("place", PLACES)
def test_a_file_that_cannot_be_replaced_stays_as_it_was(disk: Path, place: str, shortage: str) -> None:
    PLACES[place](disk, 6443)
    before = _content(disk)
    without, number = SHORTAGES[shortage]
    with without(disk), pytest.raises((CommandError, OSError)) as caught:
        PLACES[place](disk, 7443)
    assert os.strerror(number) in str(caught.value)
    assert "[Errno" not in str(caught.value) or not isinstance(caught.value, CommandError)
    assert _content(disk) == before
    PLACES[place](disk, 7443)
    assert _content(disk) != before


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_token_file_is_there_as_a_whole_or_not_at_all(disk: Path, shortage: str) -> None:
    without, number = SHORTAGES[shortage]
    with without(disk), pytest.raises(OSError, match=os.strerror(number)):
        _token_file(disk, 0)
    assert _content(disk) == {}
    _token_file(disk, 0)
    assert authentication.load_static_tokens(disk / "tokens.csv")


@pytest.mark.parametrize("shortage", SHORTAGES)
def test_a_cluster_whose_certificates_were_cut_short_gets_them_at_the_next_start(disk: Path, shortage: str) -> None:
    def ensure() -> None:
        pki.ensure(disk / "pki", node_name="n", addresses=[], service_address="10.96.0.1", cluster_domain="c.local")

    (disk / "pki").mkdir()
    without, number = SHORTAGES[shortage]
    with without(disk), pytest.raises(OSError, match=os.strerror(number)):
        ensure()
    assert not [path for path in (disk / "pki").iterdir() if path.name.startswith(".")]
    ensure()
    made = _content(disk / "pki")
    ensure()
    assert _content(disk / "pki") == made


def test_a_note_of_the_revision_that_is_cut_short_raises_no_alarm(tmp_path: Path) -> None:
    note = Acknowledged(tmp_path / "note")
    with _limited(resource.RLIMIT_FSIZE, 16):
        note.write(7)
    assert note.read() == 0
    note.write(8)
    assert note.read() == 8
    note.close()


@pytest.mark.parametrize("shortage", ["no descriptors", "cut short"])
def test_a_reserve_that_cannot_be_made_is_none(disk: Path, shortage: str) -> None:
    reserve = Reserve(disk / "reserve")
    without, _ = SHORTAGES[shortage]
    with without(disk):
        assert not reserve.fill()
    assert reserve.fill()
