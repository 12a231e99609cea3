"""A store whose files were damaged opens at an older revision: it tells, and no client mistakes the new for the lost."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from podling.store.acknowledged import Acknowledged
from podling.store.protocol import Compacted, Rollback
from podling.store.sqlite import SQLiteStore

WRITER = """
import asyncio, os, sys
from pathlib import Path
from podling.store.sqlite import SQLiteStore

async def main():
    store = await SQLiteStore.open(Path(sys.argv[1]))
    for number in range(20):
        await store.create(f"/a/{number:02}", lambda revision: b"x" * 9000)
    os._exit(0)  # as kill -9: the write-ahead log stays

asyncio.run(main())
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of 20 acknowledged writes, all of them in the write-ahead log."""
    path = tmp_path / "s.db"
    asyncio.run(_open(path))  # the tables are in the database itself
    subprocess.run([sys.executable, "-c", WRITER, str(path)], check=True)
    return path


def _flip(wal: Path) -> None:
    data = bytearray(wal.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    wal.write_bytes(data)


def _cut(wal: Path) -> None:
    os.truncate(wal, wal.stat().st_size // 2)


DAMAGE: dict[str, Callable[[Path], None]] = {"a bit flip": _flip, "a cut": _cut, "deletion": Path.unlink}


async def _open(path: Path) -> tuple[Rollback | None, int]:
    async with await SQLiteStore.open(path) as store:
        return store.rollback, store.revision


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_of_the_log_is_told_with_both_revisions(path: Path, damage: str) -> None:
    DAMAGE[damage](path.with_name("s.db-wal"))

    async def main() -> None:
        async with await SQLiteStore.open(path) as store:
            lost = store.rollback
            assert lost is not None
            assert lost.acknowledged == 20
            kept = (await store.list("/a/")).entries
            assert len(kept) == lost.opened < 20
            # No revision is used twice, and who has seen the lost ones, or less, lists again.
            assert store.revision == 21
            for since in range(1, 21):
                with pytest.raises(Compacted):
                    await anext(store.watch("/a/", since=since))
            assert await store.create("/b", lambda revision: b"%d" % revision) == 22
            events = store.watch("/b", since=21)
            assert (await anext(events)).revision == 22
            await events.aclose()
        assert await _open(path) == (None, 22)

    asyncio.run(main())


def test_an_older_copy_of_the_whole_database_is_told(tmp_path: Path) -> None:
    async def write(count: int) -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            for _ in range(count):
                await store.create(f"/{store.revision}", lambda revision: b"")

    asyncio.run(write(5))
    shutil.copy(tmp_path / "s.db", tmp_path / "copy")
    asyncio.run(write(5))
    shutil.copy(tmp_path / "copy", tmp_path / "s.db")
    assert asyncio.run(_open(tmp_path / "s.db")) == (Rollback(5, 10), 11)


def test_a_torn_transaction_that_was_not_acknowledged_is_no_damage(path: Path) -> None:
    wal = path.with_name("s.db-wal")
    page = wal.read_bytes()[32 : 32 + 24 + 4096]
    with wal.open("ab") as file:  # what a process leaves that dies while it writes
        file.write(page[:3000])
    assert asyncio.run(_open(path)) == (None, 20)


@pytest.mark.parametrize("content", [b"", b"\0" * 30, b"garbage", b"%020d 00000000\n" % 99, b"9" * 5000])
def test_a_note_that_cannot_be_read_raises_no_alarm(path: Path, content: bytes) -> None:
    """After a power cut it may hold anything."""
    path.with_name("s.db.revision").write_bytes(content)
    assert asyncio.run(_open(path)) == (None, 20)


def test_the_note_is_replaced_in_place(tmp_path: Path) -> None:
    note = Acknowledged(tmp_path / "note")
    assert note.read() == 0
    for revision in (1, 10**18, 2):
        note.write(revision)
        assert note.read() == revision
        assert (tmp_path / "note").stat().st_size == 30
    note.close()
