"""A disk that is full or fails below the store: writes say so, reads go on, deletions work, nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.small_disk import fill

from podling.store import database, sqlite
from podling.store.protocol import StoreError, StoreUnavailable
from podling.store.reserve import BYTES, STEP, Reserve
from podling.store.sqlite import SQLiteOptions, SQLiteStore

OPTIONS = SQLiteOptions(maintenance_seconds=0.01)


async def until(holds: Callable[[], object], seconds: float = 20) -> None:
    """Waits for what the store does in the background, of which no event tells."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def value(size: int = 3000) -> Callable[[int], bytes]:
    return lambda revision: b"%d " % revision + b"x" * size


async def reserved(directory: Path) -> None:
    path = directory / "s.db.reserve"
    await until(lambda: path.exists() and path.stat().st_size == BYTES)


async def refused(store: SQLiteStore) -> str:
    """Writes until one fails, and returns why; the WAL may have room left from before."""
    with pytest.raises(StoreUnavailable) as caught:  # noqa: PT012
        for number in range(10_000):
            await store.create(f"/more/{number}", value(100_000))
    return str(caught.value)


def test_a_full_disk_refuses_writes_and_takes_deletions(disk: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(disk / "s.db", OPTIONS) as store:
            await asyncio.gather(*(store.create(f"/a/{number:03}", value()) for number in range(300)))
            await reserved(disk)
            filler = fill(disk)
            problem = await refused(store)
            assert f"no space is left on the disk of {disk}: free some there" in problem
            assert store.problem == problem
            # Reads go on.
            assert len((await store.list("/a/")).entries) == 300
            # A deletion in two steps, as of Pods; others beside it are refused.
            entry = store.get("/a/000")
            assert entry is not None
            marked, other = await asyncio.gather(
                store.update("/a/000", value(), expected=entry.revision, from_reserve=True),
                store.create("/other", value(200_000)),
                return_exceptions=True,
            )
            assert isinstance(marked, int)
            assert isinstance(other, StoreUnavailable)
            await store.delete("/a/000", value(), expected=marked)
            # Each on its own, so that none shares a commit.
            for number in range(1, 300):
                entry = store.get(f"/a/{number:03}")
                assert entry is not None
                await store.delete(entry.key, value(), expected=entry.revision)
                fill(disk)  # whatever was given back and not used is somebody's by now
            assert store.problem == problem, "others still fail"
            filler.unlink()
            await store.create("/again", value())
            assert store.problem == ""
            await reserved(disk)
        async with await SQLiteStore.open(disk / "s.db", OPTIONS) as store:
            assert not (await store.list("/a/")).entries
            assert store.get("/again") is not None

    asyncio.run(main())


def test_a_store_that_nobody_writes_to_finds_out_that_there_is_room_again(disk: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(disk / "s.db", OPTIONS) as store:
            filler = fill(disk)
            await refused(store)
            filler.unlink()
            await until(lambda: not store.problem)

    asyncio.run(main())


def test_the_reserve_takes_no_more_than_a_quarter_of_what_is_free(disk: Path) -> None:
    reserve = Reserve(disk / "reserve")
    with (disk / "filler").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, (64 << 20) - 4 * BYTES + 8192)
    assert not reserve.fill()
    assert not reserve.give(disk / "filler")
    (disk / "filler").unlink()
    assert reserve.fill()
    to = disk / "to"
    to.write_bytes(b"")
    steps = 0
    while reserve.give(to):
        steps += 1
    assert steps == BYTES // STEP
    assert to.stat().st_size == 0
    assert to.stat().st_blocks * 512 >= STEP


@pytest.mark.parametrize(
    ("code", "name"), [(sqlite3.SQLITE_IOERR_FSYNC, "SQLITE_IOERR_FSYNC"), (sqlite3.SQLITE_IOERR_WRITE, "IOERR_WRITE")]
)
def test_a_disk_that_fails_is_named_and_another_write_recovers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, name: str
) -> None:
    real = database.Database._transaction

    def failing(self: database.Database, rows: Any, compact: int) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode, error.sqlite_errorname = code, name
        raise error

    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            monkeypatch.setattr(database.Database, "_transaction", failing)
            with pytest.raises(StoreUnavailable, match=f"the disk of {tmp_path} fails: disk I/O error .{name}."):
                await store.create("/a", value())
            assert store.problem
            assert store.get("/a") is None
            monkeypatch.setattr(database.Database, "_transaction", real)
            await store.create("/a", value())
            assert store.problem == ""

    asyncio.run(main())


def test_a_write_that_the_disk_does_not_answer_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a disk that hangs nothing fails: the age of the oldest write tells."""
    monkeypatch.setattr(sqlite, "STALLED_SECONDS", 0.05)

    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            other = sqlite3.connect(tmp_path / "s.db", isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            write = asyncio.ensure_future(store.create("/a", value()))
            await until(lambda: store.problem, 4)  # SQLite itself gives up after 5 s
            assert "a write has been waiting for the disk" in store.problem
            other.execute("ROLLBACK")
            await write
            assert store.problem == ""
            other.close()

    asyncio.run(main())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS])
@pytest.mark.parametrize("file", ["s.db", "s.db.lock"])
def test_a_store_that_cannot_be_made_says_why_and_leaves_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, file: str
) -> None:
    real = os.open

    def failing(path: Any, flags: int, *more: Any, **options: Any) -> int:
        if str(path) == str(tmp_path / file) and flags & os.O_CREAT:
            raise OSError(number, os.strerror(number))
        return real(path, flags, *more, **options)

    async def main() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "open", failing)
            with pytest.raises(StoreError, match=f"{tmp_path}/s.db: {os.strerror(number)}"):
                await SQLiteStore.open(tmp_path / "s.db")
        lock = os.open(tmp_path / "s.db.lock", os.O_RDWR | os.O_CREAT)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(lock)
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            await store.create("/a", value())

    asyncio.run(main())
