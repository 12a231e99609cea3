"""kill -9 at random moments while a child writes, and a disk that fills up."""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling.store import database
from podling.store.protocol import Event, EventType, StoreUnavailable
from podling.store.sqlite import SQLiteOptions, SQLiteStore

ROUNDS = 40

WRITER = """
import asyncio, os, random, sys
from pathlib import Path
from podling.store.sqlite import SQLiteOptions, SQLiteStore

OPTIONS = SQLiteOptions(history_events=200, history_seconds=0, maintenance_seconds=0.01)

async def write(store, number, seed):
    rng = random.Random(seed * 100 + number)
    key = f"/k/{number}"
    while True:
        size = rng.choice((10, 300, 9000))
        encode = lambda revision: b"%d %s " % (revision, key.encode()) + b"x" * size
        current = store.get(key)
        if current is None:
            verb, revision = "put", await store.create(key, encode)
        elif rng.random() < 0.1:
            verb, revision = "delete", (await store.delete(key, encode, expected=current.revision)).revision
        else:
            verb, revision = "put", await store.update(key, encode, expected=current.revision)
        os.write(1, f"{verb} {key} {revision}\\n".encode())

async def main():
    store = await SQLiteStore.open(Path(sys.argv[1]), OPTIONS)
    os.write(1, b"open\\n")
    async with asyncio.TaskGroup() as group:
        for number in range(16):
            group.create_task(write(store, number, int(sys.argv[2])))

asyncio.run(main())
"""


def write_and_kill(path: Path, seed: int, seconds: float) -> list[tuple[str, str, int]]:
    """Runs a writer for so long, kills it, returns the writes that it was told are durable, in order."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as output:
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(seed)], stdout=writing)
        os.close(writing)
        try:
            assert output.readline() == b"open\n"
            os.set_blocking(reading, False)
            received = b""
            end = time.monotonic() + seconds
            while (left := end - time.monotonic()) > 0:
                select.select([output], [], [], left)
                received += output.read() or b""
        finally:
            child.send_signal(signal.SIGKILL)
            child.wait()
        received += output.read() or b""
    writes = []
    for line in received.decode().splitlines():
        verb, key, revision = line.split()
        writes.append((verb, key, int(revision)))
    return writes


async def check(path: Path, expected: dict[str, int], acknowledged: list[tuple[str, str, int]], before: int) -> int:
    """Opens the store; `expected` (key -> revision, 0: deleted) becomes what it holds. Returns its revision."""
    async with await SQLiteStore.open(path, SQLiteOptions(history_events=200, history_seconds=0)) as store:
        last = before
        for verb, key, revision in acknowledged:
            assert revision > before
            expected[key] = revision if verb == "put" else 0
            last = max(last, revision)
        assert store.revision >= last, "no acknowledged write is lost"
        # At most one write a key was on its way when the child died; it is there as a whole or not at all.
        events: dict[str, Event] = {}
        if store.revision > last:
            watch = store.watch("/", since=last)
            async for event in watch:
                assert event.key not in events
                events[event.key] = event
                if event.revision == store.revision:
                    break
            await watch.aclose()
        for key in [f"/k/{number}" for number in range(16)]:
            entry = store.get(key)
            there = entry.revision if entry else 0
            if entry:
                assert entry.value.startswith(b"%d %s " % (entry.revision, key.encode()))
                assert len(entry.value.rsplit(b" ", 1)[1]) in (10, 300, 9000)
            if there != expected.get(key, 0):
                unacknowledged = await latest(store, key, expected.get(key, 0), before)
                assert there == (0 if unacknowledged.type is EventType.DELETED else unacknowledged.revision)
            expected[key] = there
        return store.revision


async def latest(store: SQLiteStore, key: str, known: int, before: int) -> Event:
    """The one event of the key after the write that was acknowledged last."""
    events = []
    watch = store.watch("/", since=max(known, store.compacted))
    async for event in watch:
        if event.key == key:
            events.append(event)
        if event.revision == store.revision:
            break
    await watch.aclose()
    (event,) = events if known else events[-1:]
    return event


def test_kill_9_loses_no_acknowledged_write_and_leaves_no_half_one(tmp_path: Path) -> None:
    seed = random.randrange(1 << 16)
    print(f"seed {seed}")
    rng = random.Random(seed)
    path = tmp_path / "store.db"
    expected: dict[str, int] = {}
    revision = 0
    total = 0
    for number in range(ROUNDS):
        acknowledged = write_and_kill(path, seed + number, rng.uniform(0.0, 0.25))
        total += len(acknowledged)
        after = asyncio.run(check(path, expected, acknowledged, revision))
        assert after >= revision
        revision = after
    assert total > 1000


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", disk], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", disk], check=True)


@pytest.mark.parametrize("wal_limit", [database.WAL_LIMIT_BYTES, 100_000], ids=["writing", "checkpointing"])
def test_a_full_disk_fails_writes_loses_nothing_and_recovers(
    small_disk: Path, wal_limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is found full by a write to the WAL, or by the copy of the WAL into the file that a write makes due."""
    monkeypatch.setattr(database, "WAL_LIMIT_BYTES", wal_limit)
    path = small_disk / "store.db"
    written: list[str] = []

    async def fill(store: SQLiteStore) -> None:
        for number in range(1000):
            await store.create(f"/k/{number}", lambda r: b"x" * 10_000)
            written.append(f"/k/{number}")

    async def keys(store: SQLiteStore) -> list[str]:
        return [entry.key for entry in (await store.list("/k/")).entries]

    async def main() -> None:
        async with await SQLiteStore.open(path) as store:
            with pytest.raises(StoreUnavailable, match="cannot write to the store: no space is left on the disk of"):
                await fill(store)
            assert 20 < len(written) < 200
            assert await keys(store) == sorted(written)
            await asyncio.to_thread(subprocess.run, ["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
            await store.create("/k/after", lambda r: b"x" * 10_000)
            written.append("/k/after")

        async with await SQLiteStore.open(path) as store:
            assert await keys(store) == sorted(written)

    asyncio.run(main())


def test_a_store_on_a_full_disk_can_be_opened_and_read(small_disk: Path) -> None:
    path = small_disk / "store.db"
    filler = small_disk / "filler"
    filler.write_bytes(b"\0" * (512 << 10))  # what is freed later, however much is written meanwhile
    acknowledged = write_and_kill(path, 1, 0.1)
    with pytest.raises(OSError, match="No space left"):
        (small_disk / "rest").write_bytes(b"\0" * (2 << 20))

    async def main() -> None:
        async with await SQLiteStore.open(path) as store:
            assert store.revision >= max(revision for _, _, revision in acknowledged)
            filler.unlink()
            await store.create("/again", lambda r: b"")

    asyncio.run(main())
