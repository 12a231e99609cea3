"""The files of a container's log, rotated as conmon changes them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from podling.kubelet import log_files


def change(path: Path, text: str) -> None:
    """What conmon does when a file is full."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def texts(path: Path) -> list[str]:
    return [one.read_text() for one in [*log_files.rotated(path), path]]


def test_files_that_were_changed_are_kept_up_to_their_number_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0")
    assert not log_files.keep(path)
    for number in range(1, 6):
        assert log_files.in_use(path)
        change(path, str(number))
        assert not log_files.in_use(path)
        assert log_files.keep(path)
        assert not log_files.keep(path)
        log_files.prune(path, 2)
    assert texts(path) == ["3", "4", "5"]
    log_files.remove_all(path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("files", [2, 3, 5, 10])
@pytest.mark.parametrize("size", [64 << 10, 10 << 20])
def test_all_files_together_stay_below_1_2_times_the_promise(files: int, size: int) -> None:
    assert log_files.largest(size, files) * (files + 2) <= 1.2 * size * files
    assert log_files.largest(size, files) > 32 << 10  # what conmon writes at a time


def test_a_file_that_is_deleted_gives_back_its_space_though_a_reader_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(bytes(1 << 20))
    with path.open("rb") as reader:
        log_files.remove(path)
        assert os.fstat(reader.fileno()).st_blocks == 0


def test_a_reader_goes_from_file_to_file_also_when_its_own_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0")
    os.utime(path, ns=(10**9, 10**9))
    log_files.keep(path)
    first = path.open("rb")
    assert log_files.following(path, first.fileno()) is None
    for number in range(1, 4):
        change(path, str(number))
        os.utime(path, ns=((number + 1) * 10**9, (number + 1) * 10**9))
        if number == 1:
            # The runtime has changed files, and nobody has rotated them yet.
            assert log_files.following(path, first.fileno()) == path
        log_files.keep(path)
    second, third = log_files.rotated(path)[1:]
    assert log_files.following(path, first.fileno()) == second
    with second.open("rb") as reader:
        assert log_files.following(path, reader.fileno()) == third
    with third.open("rb") as reader:
        assert log_files.following(path, reader.fileno()) == path
    log_files.prune(path, 1)
    assert log_files.following(path, first.fileno()) == third
    first.close()
