"""The files of a container's log, rotated as conmon changes them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

import pytest

from podling.kubelet import log_files


def change(path: Path, text: str) -> None:
    """What conmon does when a file is full."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.write_text(text)
    temporary.rename(path)


def texts(path: Path) -> list[str]:
    return [one.read_text() for one, _ in log_files.files(path)]


def following(path: Path, reader: BinaryIO) -> str | None:
    file = log_files.open_following(path, reader.fileno())
    if file is None:
        return None
    with file:
        return file.read().decode()


def test_files_that_were_changed_are_kept_up_to_their_number_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0")
    newest = log_files.keep(path, None)
    for number in range(1, 6):
        assert log_files.in_use(path, newest)
        assert log_files.keep(path, newest) is None
        change(path, str(number))
        assert not log_files.in_use(path, newest)
        newest = log_files.keep(path, newest)
        log_files.prune(path, 3)
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
    newest = log_files.keep(path, None)
    first = path.open("rb")
    assert following(path, first) is None
    for number in range(1, 4):
        change(path, str(number))
        os.utime(path, ns=((number + 1) * 10**9, (number + 1) * 10**9))
        if number == 1:
            # The runtime has changed files, and the new one has no second name yet.
            assert following(path, first) == "1"
        newest = log_files.keep(path, newest)
    _, second, third, last = log_files.named(path)
    assert following(path, first) == "1"
    with second.open("rb") as reader:
        assert following(path, reader) == "2"
    with third.open("rb") as reader:
        os.link(last, f"{last}1")  # as for a moment when the file in use has a second name already
        assert following(path, reader) == "3"
    with last.open("rb") as reader:
        assert following(path, reader) is None
    log_files.prune(path, 3)
    assert following(path, first) == "2"
    first.close()


def test_files_stay_in_order_when_the_clock_is_set_back(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_text("0")
    newest = path.with_name("0.log.29991231-235959.999999")
    os.link(path, newest)
    for number in range(1, 4):
        change(path, str(number))
        kept = log_files.keep(path, newest)
        assert kept is not None
        newest = kept
    assert texts(path) == ["0", "1", "2", "3"]


def test_a_log_of_an_earlier_version_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.with_name("0.log.20261127-231501").write_text("0")
    path.write_text("1")
    log_files.keep(path, log_files.named(path)[-1])
    assert texts(path) == ["0", "1"]
