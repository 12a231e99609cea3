"""Container logs: tail, since, timestamps, partial lines, limits, following to the end and across a rotation."""

from __future__ import annotations

import asyncio
import io
import os
from pathlib import Path
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.kubelet import logs
from podling.kubelet.logs import FileWatch, LogOptions, read_logs, tail_offset
from podling.kubelet.server import _options

LINES = [
    b"2026-01-02T03:04:05.000000001+00:00 stdout F one\n",
    b"2026-01-02T03:04:06.5+00:00 stderr F two\n",
    b"2026-01-02T03:04:07+00:00 stdout P thr\n",
    b"2026-01-02T03:04:07.1+00:00 stdout F ee\n",
]


def collect(path: Path, options: LogOptions) -> bytes:
    async def run() -> bytes:
        exited = asyncio.Event()
        exited.set()
        return b"".join([part async for part in read_logs(path, options, exited)])

    return asyncio.run(run())


def log(tmp_path: Path) -> Path:
    path = tmp_path / "0.log"
    path.write_bytes(b"".join(LINES))
    return path


def test_partial_lines_are_joined(tmp_path: Path) -> None:
    assert collect(log(tmp_path), LogOptions()) == b"one\ntwo\nthree\n"


def test_timestamps_stand_once_before_a_joined_line(tmp_path: Path) -> None:
    got = collect(log(tmp_path), LogOptions(timestamps=True, tail_lines=2))
    assert got == b"2026-01-02T03:04:07.000000000Z three\n"


def test_tail_and_limit(tmp_path: Path) -> None:
    assert collect(log(tmp_path), LogOptions(tail_lines=0)) == b""
    assert collect(log(tmp_path), LogOptions(tail_lines=3)) == b"two\nthree\n"
    assert collect(log(tmp_path), LogOptions(limit_bytes=5)) == b"one\nt"


def test_since_is_compared_as_a_time(tmp_path: Path) -> None:
    assert collect(log(tmp_path), LogOptions(since="2026-01-02T04:04:06.5+01:00")) == b"two\nthree\n"


def test_one_stream(tmp_path: Path) -> None:
    assert collect(log(tmp_path), LogOptions(stream="Stderr")) == b"two\n"


def test_follow_reads_what_comes_across_a_rotation_and_ends_with_the_container(tmp_path: Path) -> None:
    path = log(tmp_path)

    async def run() -> bytes:
        exited, seen = asyncio.Event(), asyncio.Queue[bytes]()

        async def read() -> None:
            async for part in read_logs(path, LogOptions(follow=True, tail_lines=1), exited):
                seen.put_nowait(part)

        got = b""
        task = asyncio.create_task(read())
        got += await seen.get()
        with path.open("ab") as file:
            file.write(b"2026-01-02T03:04:08+00:00 stdout F four\n")
        got += await seen.get()
        path.rename(tmp_path / "0.log.old")
        path.write_bytes(b"2026-01-02T03:04:09+00:00 stdout F five\n")
        got += await seen.get()
        exited.set()
        await task
        return got

    assert asyncio.run(run()) == b"ee\nfour\nfive\n"


@given(st.lists(st.text(alphabet="ab", max_size=3), max_size=30), st.integers(0, 40))
def test_tail_offset_is_the_start_of_the_last_lines(lines: list[str], count: int) -> None:
    data = "".join(line + "\n" for line in lines).encode()
    expected = "".join(line + "\n" for line in lines[max(0, len(lines) - count) :]).encode()
    file = io.BytesIO(data)
    assert data[tail_offset(file, count) :] == expected


def test_a_file_that_comes_some_time_after_its_predecessor_was_moved_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = log(tmp_path)
    looked: asyncio.Queue[bool] = asyncio.Queue()
    replaced = logs._next
    runner = asyncio.Runner()
    loop = runner.get_loop()

    def look(file: BinaryIO, at: Path) -> BinaryIO | None:
        found = replaced(file, at)
        loop.call_soon_threadsafe(looked.put_nowait, found is not None)
        return found

    monkeypatch.setattr(logs, "_next", look)

    async def run() -> bytes:
        exited = asyncio.Event()
        stream = read_logs(path, LogOptions(follow=True, tail_lines=1), exited)
        first = await anext(stream)
        following = asyncio.create_task(anext(stream))
        path.rename(tmp_path / "0.log.old")
        assert not await looked.get()
        path.write_bytes(b"2026-01-02T03:04:09+00:00 stdout F five\n")
        async with asyncio.timeout(5):
            second = await following
        await stream.aclose()
        return first + second

    with runner:
        assert runner.run(run()) == b"ee\nfive\n"


def test_carriage_returns_are_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "0.log"
    path.write_bytes(b"2026-01-02T03:04:05+00:00 stdout F 10%\r 20%\r\n2026-01-02T03:04:06+00:00 stdout F done\n")
    assert collect(path, LogOptions()) == b"10%\r 20%\r\ndone\n"


def test_what_a_container_wrote_around_a_rotation_right_before_its_end_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = log(tmp_path)
    replaced = logs._next
    runner = asyncio.Runner()
    loop = runner.get_loop()
    exited = asyncio.Event()

    def look(file: BinaryIO, at: Path) -> BinaryIO | None:
        if not (tmp_path / "0.log.old").exists():
            with path.open("ab") as old:
                old.write(b"2026-01-02T03:04:08+00:00 stdout F four\n")
            path.rename(tmp_path / "0.log.old")
            path.write_bytes(b"2026-01-02T03:04:09+00:00 stdout F five\n")
            loop.call_soon_threadsafe(exited.set)
        return replaced(file, at)

    monkeypatch.setattr(logs, "_next", look)

    async def run() -> bytes:
        stream = read_logs(path, LogOptions(follow=True, tail_lines=1), exited)
        got = await anext(stream)
        following = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        path.open("ab").close()  # closing it is an event
        got += await following
        return got + b"".join([part async for part in stream])

    with runner:
        assert runner.run(run()) == b"ee\nfour\nfive\n"


def test_log_options_that_make_no_sense_are_refused_before_the_answer_begins() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        _options({"sinceTime": "yesterday"})
    with pytest.raises(ValueError, match="negative"):
        _options({"tailLines": "-1"})
    with pytest.raises(ValueError, match="value out of range"):
        _options({"sinceSeconds": "9" * 30})
    assert _options({"sinceSeconds": str(2**63 - 1)}).since == "1970-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("stamp", "shown"),
    [
        ("2026-01-02T03:04:05.5+00:00", "2026-01-02T03:04:05.500000000Z"),
        ("2026-01-02T03:04:05.123456789+02:00", "2026-01-02T01:04:05.123456789Z"),
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000000Z"),
    ],
)
def test_timestamps_are_in_utc_with_nine_digits(tmp_path: Path, stamp: str, shown: str) -> None:
    path = tmp_path / "log"
    path.write_text(f"{stamp} stdout F hello\n")
    assert collect(path, LogOptions(timestamps=True)) == f"{shown} hello\n".encode()


def test_a_log_that_is_gone_before_it_is_watched_leaves_no_descriptor_open(tmp_path: Path) -> None:
    async def run() -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        with pytest.raises(FileNotFoundError):
            FileWatch(tmp_path / "0.log")
        assert sorted(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())
