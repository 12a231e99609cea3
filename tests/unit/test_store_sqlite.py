"""What the SQLite store promises beyond its model: slow watchers, cancelled callers, damage, locks, errors of the disk."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from podling.store.database import Database, DatabaseCorrupt, DatabaseLocked
from podling.store.history import History, Record
from podling.store.index import prefix_end
from podling.store.protocol import Compacted, Event, EventType, KeyExists, StoreError
from podling.store.retention import Retention
from podling.store.sqlite import SQLiteOptions, SQLiteStore


def value(text: str = "v") -> Callable[[int], bytes]:
    return lambda revision: f"{text}@{revision}".encode()


async def fill(store: SQLiteStore, prefix: str, count: int) -> None:
    await asyncio.gather(*(store.create(f"{prefix}{number:05}", value()) for number in range(count)))


def test_a_cancelled_caller_leaves_its_write_whole(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            write = asyncio.create_task(store.create("/a", value()))
            await asyncio.sleep(0)
            write.cancel()
            with pytest.raises(asyncio.CancelledError):
                await write
            with pytest.raises(KeyExists):
                await store.create("/a", value("other"))
            entry = store.get("/a")
            assert entry is not None
            assert entry.value == b"v@1"

    asyncio.run(main())


def test_reads_show_nothing_before_it_is_durable(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            write = asyncio.create_task(store.create("/a", value()))
            await asyncio.sleep(0)
            assert store.get("/a") is None
            assert (await store.list("/")).entries == []
            assert store.revision == 0
            await write
            on_disk = sqlite3.connect(tmp_path / "s.db")
            assert on_disk.execute("SELECT key, value FROM log").fetchall() == [("/a", b"v@1")]
            on_disk.close()

    asyncio.run(main())


def test_an_encoder_that_raises_takes_no_revision(tmp_path: Path) -> None:
    def broken(revision: int) -> bytes:
        raise RuntimeError(f"not at {revision}")

    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            with pytest.raises(RuntimeError, match="not at 1"):
                await store.create("/a", broken)
            assert await store.create("/a", value()) == 1

    asyncio.run(main())


def test_a_value_that_cannot_be_written_does_not_stop_the_writer(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            with pytest.raises(StoreError, match="cannot write to the store"):
                await store.create("/a/\ud800", value())
            await store.create("/a", value())

    asyncio.run(main())


def test_a_watcher_that_falls_behind_catches_up_from_disk_in_order(tmp_path: Path) -> None:
    options = SQLiteOptions(watch_queue=10, memory_events=20)

    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db", options) as store:
            await store.create("/a/first", value())
            events = store.watch("/a/", since=0)
            seen = [(await anext(events)).revision]
            await fill(store, "/a/", 500)
            async for event in events:
                seen.append(event.revision)
                if event.revision == 501:
                    break
            assert seen == list(range(1, 502))
            await events.aclose()

    asyncio.run(main())


def test_a_watcher_that_falls_behind_compaction_is_told(tmp_path: Path) -> None:
    options = SQLiteOptions(watch_queue=10, memory_events=20, history_events=40, history_seconds=0)

    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db", options) as store:
            await store.create("/a/first", value())
            events = store.watch("/a/", since=0)
            await anext(events)
            for number in range(20):
                await fill(store, f"/a/{number}/", 20)
            seen = [(await anext(events)).revision for _ in range(10)]
            assert seen == list(range(2, 12)), "what was queued is delivered first"
            with pytest.raises(Compacted) as compacted:
                await anext(events)
            assert compacted.value.requested == 11
            assert 11 < compacted.value.oldest == store.compacted <= 361

    asyncio.run(main())


def test_bookmarks_come_when_other_keys_move_on(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db", SQLiteOptions(bookmark_seconds=0.01)) as store:
            await store.create("/a/1", value())
            events = store.watch("/a/", since=0, bookmarks=True)
            assert (await anext(events)).key == "/a/1"
            await store.create("/b/1", value())
            assert await anext(events) == Event(EventType.BOOKMARK, "", b"", 2)
            waiting = asyncio.create_task(anext(events))
            await asyncio.sleep(0)
            await store.create("/a/2", value())
            assert await waiting == Event(EventType.ADDED, "/a/2", b"v@3", 3), "no bookmark overtakes an event"
            await events.aclose()

    asyncio.run(main())


def test_wait_returns_at_its_revision_and_not_before(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            waiting = asyncio.create_task(store.wait(2))
            await store.create("/a", value())
            assert not waiting.done()
            await store.create("/b", value())
            await waiting
            await store.wait(1)

    asyncio.run(main())


def test_closing_ends_watches_and_waits_and_refuses_writes(tmp_path: Path) -> None:
    async def main() -> None:
        store = await SQLiteStore.open(tmp_path / "s.db")
        queued = asyncio.create_task(store.create("/a", value()))
        watching = asyncio.create_task(anext(store.watch("/b", since=0), None))
        waiting = asyncio.create_task(store.wait(99))
        await asyncio.sleep(0)
        await store.close()
        assert await queued == 1
        assert await watching is None
        with pytest.raises(StoreError, match="closed"):
            await waiting
        with pytest.raises(StoreError, match="closed"):
            await store.create("/b", value())

    asyncio.run(main())


def test_a_second_opener_is_refused_with_the_holder_named(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import asyncio, sys; from pathlib import Path; from podling.store.sqlite import SQLiteStore\n"
            "async def main():\n"
            "    async with await SQLiteStore.open(Path(sys.argv[1])):\n"
            "        print('open', flush=True); sys.stdin.read()\n"
            "asyncio.run(main())",
            str(tmp_path / "s.db"),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    with pytest.raises(DatabaseLocked, match=f"s.db is in use by process {holder.pid}$"):
        asyncio.run(SQLiteStore.open(tmp_path / "s.db"))
    holder.communicate("")
    asyncio.run(open_and_close(tmp_path / "s.db"))


async def open_and_close(path: Path) -> int:
    async with await SQLiteStore.open(path) as store:
        return store.revision


def test_a_new_store_is_private_to_its_user(tmp_path: Path) -> None:
    asyncio.run(open_and_close(tmp_path / "s.db"))
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"none/s\.db: No such file or directory"):
        asyncio.run(SQLiteStore.open(tmp_path / "none" / "s.db"))


def test_every_commit_syncs(tmp_path: Path) -> None:
    async def main() -> None:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            writer = store._database._writer
            assert writer.execute("PRAGMA synchronous").fetchone() == (2,)
            assert writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)

    asyncio.run(main())


async def make_store(path: Path) -> None:
    async with await SQLiteStore.open(path) as store:
        await fill(store, "/a/", 200)
        entry = store.get("/a/00007")
        assert entry is not None
        await store.update("/a/00007", value("changed"), expected=entry.revision)


def test_a_changed_byte_in_a_value_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make_store(path))
    content = path.read_bytes()
    assert content.count(b"v@117") == 1
    path.write_bytes(content.replace(b"v@117", b"v@119"))
    with pytest.raises(DatabaseCorrupt, match="damaged: revision 117 of /a/00116 has a wrong checksum"):
        asyncio.run(SQLiteStore.open(path))


def test_a_truncated_file_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make_store(path))
    path.write_bytes(path.read_bytes()[:-4096])
    with pytest.raises(DatabaseCorrupt, match=r"s\.db is damaged: "):
        asyncio.run(SQLiteStore.open(path))


def test_a_missing_row_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    asyncio.run(make_store(path))
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM log WHERE revision = 8")
    connection.close()
    with pytest.raises(DatabaseCorrupt, match="damaged: revision 8 of /a/00007 is missing"):
        asyncio.run(SQLiteStore.open(path))


@pytest.mark.parametrize("content", [b"not a database at all" * 50, b"SQLite format 3\0" + b"\1" * 4080])
def test_a_file_that_is_no_database_is_reported(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.db"
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match=r"s\.db"):
        asyncio.run(SQLiteStore.open(path))
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE other (x)")
    connection.close()
    content = path.read_bytes()
    with pytest.raises(DatabaseCorrupt, match="is not a Podling store"):
        asyncio.run(SQLiteStore.open(path))
    assert path.read_bytes() == content


def test_the_file_stays_small_under_endless_lease_updates(tmp_path: Path) -> None:
    """20 leases renewed 30 000 times, 15 MB of values: the file stays near the history it may keep."""
    options = SQLiteOptions(
        history_events=1000, history_seconds=0, history_bytes=1 << 20, memory_events=200, maintenance_seconds=0.05
    )
    path = tmp_path / "s.db"
    largest = 0

    def size() -> int:
        return sum(file.stat().st_size for file in tmp_path.iterdir() if not file.name.endswith(("-shm", ".reserve")))

    async def renew(store: SQLiteStore, key: str) -> None:
        nonlocal largest
        revision = await store.create(key, lambda r: b"%d" % r)
        for _ in range(1500):
            revision = await store.update(key, lambda r: b"%0500d" % r, expected=revision)
            if revision % 97 == 0:
                largest = max(largest, size())

    async def main() -> None:
        async with await SQLiteStore.open(path, options) as store:
            async with asyncio.TaskGroup() as group:
                for number in range(20):
                    group.create_task(renew(store, f"/leases/{number:02}"))
            assert store.compacted > store.revision - 2 * options.history_events

    asyncio.run(main())
    assert largest < 24 << 20
    assert size() < 3 << 20


def test_space_is_given_back_after_a_burst(tmp_path: Path) -> None:
    options = SQLiteOptions(history_events=10, history_seconds=0, maintenance_seconds=0.01)
    path = tmp_path / "s.db"

    async def main() -> None:
        async with await SQLiteStore.open(path, options) as store:
            keys = [f"/a/{number}" for number in range(2000)]
            revisions = await asyncio.gather(*(store.create(key, lambda r: b"x" * 4000) for key in keys))
            await asyncio.gather(
                *(store.delete(k, lambda r: b"", expected=r) for k, r in zip(keys, revisions, strict=True))
            )
            await store.create("/b", value())
            async with asyncio.timeout(120):
                # Nothing tells when the file shrinks.
                while path.stat().st_size > 3 << 20 or store.compacted < store.revision - 20:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("SELECT count(*) FROM log").fetchone()[0] < 50

    asyncio.run(main())


def test_reading_history_that_was_compacted_meanwhile_is_refused(tmp_path: Path) -> None:
    retention = Retention(events=4, seconds=0, bytes=1 << 20)
    database = Database(tmp_path / "s.db", retention)
    database.open(History(0, max_records=1, max_bytes=1))
    try:
        for revision in range(1, 41):
            database.commit([Record(Event(EventType.ADDED, f"/{revision:02}", b"", revision), None)])
        compacted = database.commit([Record(Event(EventType.ADDED, "/41", b"", 41), None)])
        records, reached = database.read(compacted, 41, "", "", 100)
        assert [record.event.revision for record in records] == list(range(compacted + 1, 42))
        assert reached == 41
        with pytest.raises(Compacted):
            database.read(compacted - 1, 41, "", "", 100)
    finally:
        database.close()


def test_a_failed_commit_fails_its_writes_only_and_the_store_goes_on(tmp_path: Path) -> None:
    """The disk is full: a limit on the pages of the file makes SQLite fail as it does then."""

    async def main() -> list[str]:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            await fill(store, "/a/", 10)
            store._database._writer.execute("PRAGMA max_page_count = 20")
            large = await asyncio.gather(
                *(store.create(f"/large/{number}", lambda r: b"x" * 50_000) for number in range(5)),
                return_exceptions=True,
            )
            assert all("no space is left on the disk of" in str(error) for error in large)
            assert all(isinstance(error, StoreError) for error in large)
            assert store.get("/large/0") is None
            assert store.revision == 10
            await store.create("/small", value())
            store._database._writer.execute("PRAGMA max_page_count = 100000")
            await store.create("/large/0", lambda r: b"x" * 50_000)
            events = store.watch("/", since=10)
            assert [(await anext(events)).key for _ in range(2)] == ["/small", "/large/0"]
            await events.aclose()
            return [entry.key for entry in (await store.list("/")).entries]

    keys = asyncio.run(main())
    assert len(keys) == 12

    async def reopened() -> list[str]:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            return [entry.key for entry in (await store.list("/")).entries]

    assert asyncio.run(reopened()) == keys


def test_writes_survive_file_size_errors_and_go_on_when_they_end(tmp_path: Path) -> None:
    """A child runs into RLIMIT_FSIZE (a write error of the operating system), then the limit goes away."""
    script = """
import asyncio, resource, sys
from pathlib import Path
from podling.store.protocol import StoreError
from podling.store.sqlite import SQLiteStore

async def main():
    async with await SQLiteStore.open(Path(sys.argv[1])) as store:
        written = []
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
        try:
            for number in range(1000):
                await store.create(f"/{number}", lambda r: b"x" * 5000)
                written.append(f"/{number}")
        except StoreError as error:
            print(error)
        assert 10 < len(written) < 1000
        assert [e.key for e in (await store.list("/")).entries] == sorted(written)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        await store.create("/again", lambda r: b"x" * 5000)
        print(*written, "/again")

asyncio.run(main())
"""
    child = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "s.db")], capture_output=True, text=True, timeout=60, check=True
    )
    error, written = child.stdout.splitlines()
    assert error.startswith("cannot write to the store: ")

    async def reopened() -> list[str]:
        async with await SQLiteStore.open(tmp_path / "s.db") as store:
            return [entry.key for entry in (await store.list("/")).entries]

    assert asyncio.run(reopened()) == sorted(written.split())


@pytest.mark.parametrize(("prefix", "end"), [("/a/", "/a0"), ("/a\U0010ffff", "/b"), ("", ""), ("\U0010ffff", "")])
def test_prefix_end(prefix: str, end: str) -> None:
    assert prefix_end(prefix) == end
