"""Values that the store's check does not pass: they are kept apart, and cost nobody but themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from podling.store.protocol import Compacted, Conflict, Entry, Event, EventType, KeyExists, KeyNotFound
from podling.store.sqlite import SQLiteOptions, SQLiteStore


def check(entry: Entry) -> str:
    return "it is bad" if entry.value.startswith(b"bad") else ""


def value(text: str) -> Callable[[int], bytes]:
    return lambda revision: f"{text}@{revision}".encode()


async def reopened(path: Path) -> SQLiteStore:
    return await SQLiteStore.open(path, check=check)


async def with_bad_values(path: Path) -> None:
    """/a/1 good, /a/2 bad, /a/3 bad but replaced, /a/4 good; written by a store without a check."""
    async with await SQLiteStore.open(path) as store:
        await store.create("/a/1", value("good"))
        former = await store.create("/a/2", value("good"))
        await store.update("/a/2", value("bad"), expected=former)
        former = await store.create("/a/3", value("bad"))
        await store.update("/a/3", value("good"), expected=former)
        await store.create("/a/4", value("good"))


async def first(store: SQLiteStore, since: int) -> Event:
    events = store.watch("/a/", since=since)
    try:
        return await anext(events)
    finally:
        await events.aclose()


def test_lists_and_reads_go_on_without_it(tmp_path: Path) -> None:
    async def main() -> None:
        await with_bad_values(tmp_path / "s.db")
        async with await reopened(tmp_path / "s.db") as store:
            assert [entry.key for entry in (await store.list("/a/")).entries] == ["/a/1", "/a/3", "/a/4"]
            assert store.get("/a/2") is None
            assert {key: found.problem for key, found in store.unreadable.items()} == {"/a/2": "it is bad"}
            assert store.revision == 6
            assert await store.create("/a/5", value("good")) == 7

    asyncio.run(main())


@pytest.mark.parametrize("since", range(5))
def test_whoever_would_come_to_see_it_has_to_list_again(tmp_path: Path, since: int) -> None:
    """Revision 3 is the bad value that still counts, 4 the one that 5 replaced: 5 cannot be shown, for its former is bad."""

    async def main() -> None:
        await with_bad_values(tmp_path / "s.db")
        async with await reopened(tmp_path / "s.db") as store:
            with pytest.raises(Compacted):
                await first(store, since)
            with pytest.raises(Compacted):
                await store.list("/a/", revision=since or 1)
            assert (await first(store, 5)).key == "/a/4"
            assert [entry.key for entry in (await store.list("/a/", revision=5)).entries] == ["/a/1", "/a/3"]

    asyncio.run(main())


def test_its_key_exists_until_it_is_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        await with_bad_values(tmp_path / "s.db")
        async with await reopened(tmp_path / "s.db") as store:
            with pytest.raises(KeyExists):
                await store.create("/a/2", value("good"))
            with pytest.raises(Conflict):
                await store.delete("/a/2", value("gone"), expected=1)
            events = store.watch("/a/", since=store.revision)
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            await store.delete("/a/2", value("gone"), expected=3)
            assert await waiting == Event(EventType.DELETED, "/a/2", b"gone@7", 7), "without the former value"
            await events.aclose()
            assert not store.unreadable
            with pytest.raises(KeyNotFound):
                await store.delete("/a/2", value("gone"), expected=3)
            with pytest.raises(Compacted):  # the list of then would hold it
                await store.list("/a/", revision=6)
            assert await store.create("/a/2", value("good")) == 8
        async with await reopened(tmp_path / "s.db") as store:
            assert not store.unreadable
            assert (await first(store, 7)).value == b"good@8"
            with pytest.raises(Compacted):
                await first(store, 6)

    asyncio.run(main())


def test_it_is_found_again_at_every_start_and_outlives_compaction(tmp_path: Path) -> None:
    async def main() -> None:
        await with_bad_values(tmp_path / "s.db")
        for _ in range(3):
            options = SQLiteOptions(history_events=4, history_seconds=0)
            async with await SQLiteStore.open(tmp_path / "s.db", options, check=check) as store:
                assert list(store.unreadable) == ["/a/2"]
                for _ in range(20):
                    entry = store.get("/a/1")
                    assert entry is not None
                    await store.update("/a/1", value("good"), expected=entry.revision)
        async with await reopened(tmp_path / "s.db") as store:
            assert store.compacted > 6
            assert list(store.unreadable) == ["/a/2"]

    asyncio.run(main())
