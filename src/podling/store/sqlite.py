"""The store in one SQLite file: the default, for one machine.

Reads come from memory. Writes take their revision at once, in the order of the calls, and are queued; one thread
commits everything that queued up while the previous commit was on its way to the disk, so many writers share one fsync.
A write becomes visible (to get, list, watch) when it is durable, and only then is it acknowledged.

At most one write of a key is on its way: another write to that key first waits for the outcome, so that of two racing
updates one gets Conflict, with a current entry that is durable. A failed commit leaves a gap in the revisions.

What the check of `open` finds unreadable is kept apart, and no revision is shown from which anybody would come to see
it: a watch or an older list from there gets Compacted, so that its client lists again, without it. The same holds
for the clients of a store that lost acknowledged revisions: no revision is used a second time, and they list again.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from msgspec import Struct

from podling.store import presence
from podling.store.database import Database
from podling.store.history import History, Record
from podling.store.index import Index, prefix_end
from podling.store.protocol import (
    Check,
    Compacted,
    Conflict,
    Encode,
    Entry,
    Event,
    EventType,
    FutureRevision,
    KeyExists,
    KeyNotFound,
    Page,
    Rollback,
    StoreError,
    StoreUnavailable,
    Unreadable,
)
from podling.store.retention import Retention
from podling.store.watch import Hub

STALLED_SECONDS: Final = 10.0
"""A write that takes longer is a sign that the disk does not answer."""
MAX_BATCH: Final = 1000
READ_ROWS: Final = 200

log = logging.getLogger(__name__)


class SQLiteOptions(Struct, kw_only=True, frozen=True):
    history_events: int = 1000
    """Events kept for watches and older lists, whatever their age."""
    history_seconds: float = 300
    """How long events beyond those are kept."""
    history_bytes: int = 64 << 20
    """What all kept events may take on disk, beside the current values; the oldest go first."""
    memory_events: int = 4096
    memory_bytes: int = 4 << 20
    """How many of the newest events are in memory, too."""
    watch_queue: int = 1024
    """Events waiting for one watcher, before it has to catch up from the history."""
    bookmark_seconds: float = 60
    maintenance_seconds: float = 30


class _Write(Struct, eq=False):
    record: Record
    done: asyncio.Future[None]
    since: float
    """When it was asked for, by the clock of the event loop."""
    from_reserve: bool


class SQLiteStore:
    """Use `await SQLiteStore.open(path)`; one event loop, one process. Implements protocol.Store."""

    def __init__(self, database: Database, history: History, options: SQLiteOptions) -> None:
        self._database = database
        self._history = history
        self._options = options
        self._index = Index()
        self._unreadable: dict[str, Unreadable] = {}
        self._shown_from = 0
        self._rollback: Rollback | None = None
        self._hub = Hub(options.watch_queue)
        self._revision = 0
        self._taken = 0
        self._compacted = 0
        self._queue: list[_Write] = []
        self._writing: list[_Write] = []
        self._failure = ""
        """Why the last commit failed; "" if it did not."""
        self._pending: dict[str, asyncio.Future[None]] = {}
        self._waiting: dict[asyncio.Future[None], int] = {}
        self._queued = asyncio.Event()
        self._attention = asyncio.Event()
        self._closing = False
        self._write_thread = ThreadPoolExecutor(1, "store-write")
        self._read_thread = ThreadPoolExecutor(1, "store-read")
        self._writer: asyncio.Task[None] | None = None
        self._maintainer: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path, options: SQLiteOptions | None = None, *, check: Check = lambda entry: "") -> Self:
        """Opens the file, or makes it (mode 0600); its directory must exist.

        `check` is called, in a thread, for each value that the file holds (see `unreadable`).
        Raises database.DatabaseLocked, database.DatabaseCorrupt, StoreError.
        """
        options = options or SQLiteOptions()
        retention = Retention(
            events=options.history_events, seconds=options.history_seconds, bytes=options.history_bytes
        )
        history = History(0, max_records=options.memory_events, max_bytes=options.memory_bytes)
        store = cls(Database(path, retention), history, options)
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(store._write_thread, store._database.open, history, check)
        except BaseException:
            store._write_thread.shutdown(wait=False)
            raise
        store._index = Index(loaded.entries.values())
        store._revision = store._taken = loaded.revision
        store._compacted = loaded.compacted
        store._unreadable = loaded.unreadable
        store._shown_from = loaded.shown_from
        if loaded.acknowledged > loaded.revision:
            store._roll_back(Rollback(loaded.revision, loaded.acknowledged))
        store._writer = asyncio.create_task(store._write_queued(), name="store-write")
        store._maintainer = asyncio.create_task(store._maintain(), name="store-maintain")
        return store

    def _roll_back(self, found: Rollback) -> None:
        self._rollback = found
        # One more than was acknowledged: also who has seen the last of what is lost must not go on from there.
        self._revision = self._taken = self._shown_from = found.acknowledged + 1

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finishes the queued writes, ends the watches and closes the file."""
        if self._closing:
            return
        self._closing = True
        self._queued.set()
        self._attention.set()
        assert self._writer is not None
        assert self._maintainer is not None
        await self._writer
        await self._maintainer
        self._hub.close()
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_exception(StoreError("the store is closed"))
        loop = asyncio.get_running_loop()
        self._read_thread.shutdown(wait=False)
        try:
            await loop.run_in_executor(self._write_thread, self._database.close)
        finally:
            self._write_thread.shutdown(wait=False)

    @property
    def problem(self) -> str:
        if self._failure:
            return self._failure
        oldest = (self._writing or self._queue)[:1]
        if oldest and (age := asyncio.get_running_loop().time() - oldest[0].since) > STALLED_SECONDS:
            return f"a write has been waiting for the disk for {age:.0f} s"
        return ""

    # Reading

    @property
    def revision(self) -> int:
        return self._revision

    @property
    def compacted(self) -> int:
        """The oldest revision that can be listed or watched from."""
        return max(self._compacted, self._shown_from)

    @property
    def rollback(self) -> Rollback | None:
        return self._rollback

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        return self._unreadable

    def get(self, key: str) -> Entry | None:
        return self._index.get(key)

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        lower, upper = max(prefix, start), prefix_end(prefix)
        if revision > self._revision:
            raise FutureRevision(f"revision {revision} is in the future; the newest is {self._revision}")
        if revision in (0, self._revision):
            return self._list_newest(lower, upper, limit)
        former = await self._former_entries(lower, upper, revision)
        entries = self._index.overlaid(lower, upper, former)
        page = entries[:limit] if limit else entries
        rest = len(entries) - len(page)
        return Page(page, revision, entries[len(page)].key if rest else "", rest)

    def _list_newest(self, lower: str, upper: str, limit: int) -> Page:
        entries: list[Entry] = []
        for entry in self._index.range(lower, upper):
            if limit and len(entries) == limit:
                return Page(entries, self._revision, entry.key, self._index.count(entry.key, upper))
            entries.append(entry)
        return Page(entries, self._revision, "", 0)

    async def _former_entries(self, lower: str, upper: str, revision: int) -> dict[str, Entry | None]:
        """For each key in the range written after `revision` what it was then; true when this returns."""
        former: dict[str, Entry | None] = {}
        reached = revision
        self._check_kept(revision)
        while reached < self._history.floor:
            records, reached = await self._read(reached, lower, upper)
            for record in records:
                former.setdefault(record.event.key, record.former)
        for record in self._history.since(reached):
            if lower <= record.event.key and (not upper or record.event.key < upper):
                former.setdefault(record.event.key, record.former)
        return former

    def _check_kept(self, revision: int) -> None:
        if revision < self.compacted:
            raise Compacted(revision, self.compacted)

    async def _read(self, after: int, lower: str, upper: str) -> tuple[Sequence[Record], int]:
        if self._closing:
            raise StoreError("the store is closed")
        return await asyncio.get_running_loop().run_in_executor(
            self._read_thread, self._database.read, after, self._revision, lower, upper, READ_ROWS
        )

    async def watch(self, prefix: str, *, since: int, bookmarks: bool = False) -> AsyncGenerator[Event, None]:
        lower, upper = prefix, prefix_end(prefix)
        reached = since
        interval = self._options.bookmark_seconds if bookmarks else None
        subscription = self._hub.subscribe(prefix)
        try:
            while not self._hub.closed:
                self._check_kept(reached)
                while reached < self._history.floor:
                    records, up_to = await self._read(reached, lower, upper)
                    for record in records:
                        yield record.event
                    reached = up_to
                # Nothing is awaited between looking at the history and joining, so that no event falls between.
                missed = [r.event for r in self._history.since(reached) if r.event.key.startswith(prefix)]
                subscription.live = True
                reached = max(reached, self._revision)
                for event in missed:
                    yield event
                while True:
                    while subscription.queue:
                        event = subscription.queue.popleft()
                        if event.revision > reached:
                            reached = event.revision
                            yield event
                    if not subscription.live:
                        break
                    await subscription.wait(interval)
                    if bookmarks and subscription.live and not subscription.queue and self._revision > reached:
                        reached = self._revision
                        yield Event(EventType.BOOKMARK, "", b"", reached)
        finally:
            self._hub.unsubscribe(subscription)

    async def wait(self, revision: int) -> None:
        if revision <= self._revision:
            return
        if self._closing:
            raise StoreError("the store is closed")
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = revision
        try:
            await waiter
        finally:
            del self._waiting[waiter]

    async def gone(self) -> StoreError:
        file = await presence.gone(*self._database.files)
        return StoreError(f"{file} was deleted or replaced while the server was running: what it writes would be lost")

    # Writing

    async def create(self, key: str, encode: Encode) -> int:
        await self._settled(key)
        if self._current(key) is not None:
            raise KeyExists(key)
        record = await self._write(EventType.ADDED, key, encode, None, from_reserve=False)
        return record.event.revision

    async def update(self, key: str, encode: Encode, *, expected: int, from_reserve: bool = False) -> int:
        former = await self._expect(key, expected)
        record = await self._write(EventType.MODIFIED, key, encode, former, from_reserve=from_reserve)
        return record.event.revision

    async def delete(self, key: str, encode: Encode, *, expected: int) -> Entry:
        former = await self._expect(key, expected)
        record = await self._write(EventType.DELETED, key, encode, former, from_reserve=True)
        return Entry(key, record.event.value, record.event.revision)

    async def _expect(self, key: str, revision: int) -> Entry:
        await self._settled(key)
        current = self._current(key)
        if current is None:
            raise KeyNotFound(key)
        if current.revision != revision:
            raise Conflict(current)
        return current

    def _current(self, key: str) -> Entry | None:
        unreadable = self._unreadable.get(key)
        return self._index.get(key) if unreadable is None else unreadable.entry

    async def _settled(self, key: str) -> None:
        while (pending := self._pending.get(key)) is not None:
            await asyncio.wait((pending,))

    async def _write(
        self, type: EventType, key: str, encode: Encode, former: Entry | None, *, from_reserve: bool
    ) -> Record:
        if self._closing:
            raise StoreError("the store is closed")
        revision = self._taken + 1
        value = encode(revision)
        self._taken = revision
        previous = former.value if former and key not in self._unreadable else None
        record = Record(Event(type, key, value, revision, previous), former)
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._pending[key] = done
        self._queue.append(_Write(record, done, loop.time(), from_reserve))
        self._queued.set()
        # Shielded: a caller that goes away does not take back a write that may be on its way to the disk.
        await asyncio.shield(done)
        return record

    async def _write_queued(self) -> None:
        while self._queue or not self._closing:
            await self._queued.wait()
            self._queued.clear()
            while self._queue:
                self._writing = self._queue[:MAX_BATCH]
                del self._queue[:MAX_BATCH]
                await self._commit(self._writing)
                self._writing = []

    async def _commit(self, batch: Sequence[_Write]) -> None:
        """Whatever goes wrong, this returns: without its task every write would wait for ever."""
        error = await self._attempt(batch)
        deletions = [write for write in batch if write.from_reserve]
        if isinstance(error, StoreUnavailable) and 0 < len(deletions) < len(batch):
            self._failed([write for write in batch if not write.from_reserve], error)
            batch, error = deletions, await self._attempt(deletions)
        if error is not None:
            self._failed(batch, error)

    async def _attempt(self, batch: Sequence[_Write]) -> Exception | None:
        """Returns what went wrong."""
        from_reserve = all(write.from_reserve for write in batch)
        commit = partial(self._database.commit, [write.record for write in batch], from_reserve=from_reserve)
        try:
            compacted = await asyncio.get_running_loop().run_in_executor(self._write_thread, commit)
        except Exception as error:
            return error
        self._committed(batch, compacted)
        if self._failure and not from_reserve:
            self._recovered()
        return None

    def _recovered(self) -> None:
        self._failure = ""
        log.info("writes to the store work again")

    def _committed(self, batch: Sequence[_Write], compacted: int) -> None:
        for write in batch:
            self._apply(write.record.event)
            self._history.append(write.record)
            self._revision = write.record.event.revision
            self._hub.publish(write.record.event)
        self._compacted = compacted
        for write in batch:
            del self._pending[write.record.event.key]
            write.done.set_result(None)
        for waiter, revision in self._waiting.items():
            if revision <= self._revision and not waiter.done():
                waiter.set_result(None)
        if self._database.checkpoint_due:
            self._attention.set()

    def _apply(self, event: Event) -> None:
        if self._unreadable.pop(event.key, None) is not None:
            self._shown_from = event.revision
            if event.type is EventType.DELETED:
                return
        self._index.apply(event)

    def _failed(self, batch: Sequence[_Write], error: Exception) -> None:
        if not isinstance(error, StoreUnavailable):
            log.error("cannot write to the store: %s", error)
        elif str(error) != self._failure:  # said once: on a full disk every write fails
            self._failure = str(error)
            log.error("%s", error)
        kind = StoreUnavailable if isinstance(error, StoreUnavailable) else StoreError
        for write in batch:
            del self._pending[write.record.event.key]
            failure = kind(str(error) if kind is StoreUnavailable else f"cannot write to the store: {error}")
            failure.__cause__ = error
            write.done.set_exception(failure)

    async def _maintain(self) -> None:
        loop = asyncio.get_running_loop()
        complaint = ""
        while not self._closing:
            try:
                more = not self._closing
                while more:
                    self._compacted, more = await loop.run_in_executor(self._write_thread, self._database.maintain)
                    more = more and not self._closing
                if self._database.checkpoint_due:
                    await loop.run_in_executor(self._read_thread, self._database.checkpoint)
                if self._failure:
                    await loop.run_in_executor(self._write_thread, self._database.probe)
                    self._recovered()
                await loop.run_in_executor(self._write_thread, self._database.fill_reserve)
                complaint = ""
            except (sqlite3.Error, StoreUnavailable) as error:
                if str(error) != complaint:
                    complaint = str(error)
                    log.error("cannot tidy up %s: %s", self._database.files[0], error)
            with suppress(TimeoutError):
                async with asyncio.timeout(self._options.maintenance_seconds):
                    await self._attention.wait()
            self._attention.clear()
