"""The SQLite store against a model: a list of writes and plain functions over it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from podling.store.protocol import (
    Compacted,
    Conflict,
    Entry,
    Event,
    EventType,
    FutureRevision,
    KeyExists,
    KeyNotFound,
)
from podling.store.sqlite import SQLiteOptions, SQLiteStore

T = TypeVar("T")

# Few keys, so that they collide; "/a/x" is a prefix of other keys, "/b" orders between the directories.
KEYS = st.sampled_from(["/a/x", "/a/x/1", "/a/y", "/a/\U0010ffff", "/b", "/b/x", "/b/ü"])
PREFIXES = st.sampled_from(["", "/", "/a/", "/a/x", "/b", "/b/", "/c/"])
WORDS = st.binary(max_size=6)
OPTIONS = SQLiteOptions(
    history_events=12,
    history_seconds=0,
    memory_events=5,
    watch_queue=3,
    bookmark_seconds=0.001,
    maintenance_seconds=0.001,
)


def at(revision: int, word: bytes) -> bytes:
    return b"%d:" % revision + word


class Model:
    def __init__(self) -> None:
        self.events: list[Event] = []

    @property
    def revision(self) -> int:
        return self.events[-1].revision if self.events else 0

    def state(self, revision: int) -> dict[str, Entry]:
        state: dict[str, Entry] = {}
        for event in self.events:
            if event.revision > revision:
                break
            if event.type is EventType.DELETED:
                del state[event.key]
            else:
                state[event.key] = Entry(event.key, event.value, event.revision)
        return state

    def get(self, key: str) -> Entry | None:
        return self.state(self.revision).get(key)

    def written(self, type: EventType, key: str, value: bytes, revision: int) -> None:
        former = self.get(key)
        assert revision > self.revision
        self.events.append(Event(type, key, value, revision, former.value if former else None))

    def since(self, revision: int, prefix: str) -> list[Event]:
        return [e for e in self.events if e.revision > revision and e.key.startswith(prefix)]


class Watcher:
    def __init__(self, prefix: str, since: int, events: AsyncIterator[Event]) -> None:
        self.prefix = prefix
        self.reached = since
        self.events = events


class StoreMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.TemporaryDirectory()
        self.path = Path(self.directory.name) / "store.db"
        self.model = Model()
        self.watchers: list[Watcher] = []

    def run(self, awaitable: Awaitable[T]) -> T:
        async def within() -> T:
            async with asyncio.timeout(20):
                return await awaitable

        return self.loop.run_until_complete(within())

    @initialize()
    def open(self) -> None:
        self.store = self.run(SQLiteStore.open(self.path, OPTIONS))

    def teardown(self) -> None:
        self.close_watchers()
        self.run(self.store.close())
        self.loop.close()
        self.directory.cleanup()

    def close_watchers(self) -> None:
        for watcher in self.watchers:
            self.run(watcher.events.aclose())  # type: ignore[attr-defined]
        self.watchers.clear()

    # One write at a time

    @rule(key=KEYS, word=WORDS)
    def create(self, key: str, word: bytes) -> None:
        if self.model.get(key) is not None:
            with pytest.raises(KeyExists):
                self.run(self.store.create(key, lambda r: at(r, word)))
            return
        revision = self.run(self.store.create(key, lambda r: at(r, word)))
        self.model.written(EventType.ADDED, key, at(revision, word), revision)

    @rule(key=KEYS, word=WORDS, stale=st.booleans(), delete=st.booleans())
    def update_or_delete(self, key: str, word: bytes, stale: bool, delete: bool) -> None:
        current = self.model.get(key)
        expected = current.revision - stale if current else self.model.revision
        write: Callable[..., Awaitable[Any]] = self.store.delete if delete else self.store.update
        if current is None:
            with pytest.raises(KeyNotFound):
                self.run(write(key, lambda r: at(r, word), expected=expected))
        elif stale:
            with pytest.raises(Conflict) as conflict:
                self.run(write(key, lambda r: at(r, word), expected=expected))
            assert conflict.value.current == current
        else:
            result = self.run(write(key, lambda r: at(r, word), expected=expected))
            revision = result.revision if delete else result
            self.model.written(EventType.DELETED if delete else EventType.MODIFIED, key, at(revision, word), revision)
            if delete:
                assert result == Entry(key, at(revision, word), revision)

    @rule(key=KEYS, times=st.integers(2, 8))
    def burst(self, key: str, times: int) -> None:
        for _ in range(times):
            self.touch(key)

    # Many at once: whatever order the store chose must explain every outcome

    @rule(keys=st.lists(KEYS, min_size=2, max_size=8))
    def race(self, keys: list[str]) -> None:
        before = {key: self.model.get(key) for key in keys}

        async def write(number: int, key: str) -> tuple[EventType, str, bytes, int] | Exception:
            word = b"%d" % number
            entry = before[key]
            try:
                if entry is None:
                    revision = await self.store.create(key, lambda r: at(r, word))
                    return EventType.ADDED, key, at(revision, word), revision
                if number % 3 == 0:
                    deleted = await self.store.delete(key, lambda r: at(r, word), expected=entry.revision)
                    return EventType.DELETED, key, deleted.value, deleted.revision
                revision = await self.store.update(key, lambda r: at(r, word), expected=entry.revision)
                return EventType.MODIFIED, key, at(revision, word), revision
            except (KeyExists, Conflict, KeyNotFound) as error:
                return error

        async def write_all() -> list[tuple[EventType, str, bytes, int] | Exception]:
            return await asyncio.gather(*(write(number, key) for number, key in enumerate(keys)))

        outcomes = self.run(write_all())
        done = sorted((o for o in outcomes if not isinstance(o, Exception)), key=lambda outcome: outcome[3])
        assert sorted(o[1] for o in done) == sorted(set(keys)), "each key is written by exactly one of its writers"
        assert [o[3] for o in done] == list(range(self.model.revision + 1, self.model.revision + 1 + len(done)))
        for outcome in done:
            self.model.written(*outcome)

    # Lists

    @rule(prefix=PREFIXES, limit=st.integers(0, 3), back=st.integers(0, 20), disturb=st.booleans())
    def list_pages(self, prefix: str, limit: int, back: int, disturb: bool) -> None:
        revision = max(0, self.model.revision - back)
        entries: list[Entry] = []
        start = ""
        try:
            page = self.run(self.store.list(prefix, limit=limit, revision=revision))
            listed = page.revision
            assert listed == (revision or self.model.revision)
            expected = sorted(
                (e for e in self.model.state(listed).values() if e.key.startswith(prefix)), key=lambda e: e.key
            )
            while True:
                entries += page.entries
                assert page.remaining == len(expected) - len(entries)
                assert len(page.entries) <= (limit or len(expected))
                if not page.next_key:
                    break
                start = page.next_key
                if disturb:
                    self.touch(start)
                page = self.run(self.store.list(prefix, start=start, limit=limit, revision=listed))
                assert page.revision == listed
        except Compacted as error:
            assert error.requested < error.oldest <= self.store.compacted  # noqa: PT017
        else:
            assert entries == expected

    def touch(self, key: str) -> None:
        current = self.model.get(key)
        if current is None:
            return
        revision = self.run(self.store.update(key, lambda r: at(r, b"touched"), expected=current.revision))
        self.model.written(EventType.MODIFIED, key, at(revision, b"touched"), revision)

    @rule(ahead=st.integers(1, 3))
    def list_in_the_future(self, ahead: int) -> None:
        with pytest.raises(FutureRevision):
            self.run(self.store.list("/", revision=self.model.revision + ahead))

    # Watches

    @rule(prefix=PREFIXES, back=st.integers(0, 25), bookmarks=st.booleans())
    def watch(self, prefix: str, back: int, bookmarks: bool) -> None:
        since = max(0, self.model.revision - back)
        self.watchers.append(Watcher(prefix, since, self.store.watch(prefix, since=since, bookmarks=bookmarks)))

    @rule(number=st.integers(0, 5), at_most=st.integers(0, 30))
    def read_watch(self, number: int, at_most: int) -> None:
        if not self.watchers:
            return
        watcher = self.watchers[number % len(self.watchers)]
        for expected in self.model.since(watcher.reached, watcher.prefix)[:at_most]:
            try:
                event = self.run(anext(watcher.events))
                while event.type is EventType.BOOKMARK:
                    assert watcher.reached < event.revision < expected.revision, "nothing before a bookmark is missing"
                    watcher.reached = event.revision
                    event = self.run(anext(watcher.events))
            except Compacted as error:
                assert watcher.reached < error.oldest <= self.store.compacted  # noqa: PT017
                self.watchers.remove(watcher)
                return
            assert event == expected
            watcher.reached = event.revision

    # Restart

    @rule()
    def reopen(self) -> None:
        self.close_watchers()
        compacted = self.store.compacted
        self.run(self.store.close())
        self.store = self.run(SQLiteStore.open(self.path, OPTIONS))
        assert self.store.compacted >= compacted

    @invariant()
    def newest_values_are_as_written(self) -> None:
        if not hasattr(self, "store"):
            return
        assert self.store.revision == self.model.revision
        state = self.model.state(self.model.revision)
        page = self.run(self.store.list(""))
        assert {entry.key: entry for entry in page.entries} == state
        for key, entry in state.items():
            assert self.store.get(key) == entry

    @invariant()
    def kept_history_is_as_configured(self) -> None:
        if hasattr(self, "store"):
            kept = len(self.model.since(self.store.compacted, ""))
            assert kept >= min(OPTIONS.history_events, len(self.model.events))


TestStoreAgainstModel = StoreMachine.TestCase
TestStoreAgainstModel.settings = settings(
    max_examples=40, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
