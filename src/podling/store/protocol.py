"""The revisioned key-value store below the API server: etcd's model in five operations.

Keys are "/registry/<group or core>/<resource>/<namespace>/<name>" (no namespace part for cluster-scoped objects).
Revisions are positive integers, one sequence for the whole store, growing by one a write. A write passes a function
that makes the value from its revision: it is called once, synchronously, when the write takes its place in the
sequence, so the stored bytes carry their own metadata.resourceVersion and are served as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

from msgspec import Struct

Encode = Callable[[int], bytes]
"""From the revision that a write got to the bytes to store."""


class StoreError(Exception):
    pass


class KeyExists(StoreError):
    """create() on a key that exists."""


class KeyNotFound(StoreError):
    """update() or delete() on a key that does not exist."""


class StoreUnavailable(StoreError):
    """The disk does not do its part: it is full, or fails. A write that raises this is not stored."""


class Conflict(StoreError):
    """The guard did not match; `current` is what is there."""

    def __init__(self, current: Entry) -> None:
        super().__init__(f"revision of {current.key} is {current.revision}")
        self.current = current


class Compacted(StoreError):
    """The revision asked for is older than the history kept (HTTP 410 Gone, reason Expired)."""

    def __init__(self, requested: int, oldest: int) -> None:
        super().__init__(f"revision {requested} is compacted; the oldest kept is {oldest}")
        self.requested = requested
        self.oldest = oldest


class FutureRevision(StoreError):
    """The revision asked for has not been reached yet (HTTP 504 Timeout, "Too large resource version")."""


class Entry(Struct, frozen=True):
    key: str
    value: bytes
    revision: int
    """Of the last write to the key."""


Check = Callable[[Entry], str]
"""Why an entry's value cannot be read, "" if it can."""


class Unreadable(Struct, frozen=True):
    """An entry whose value is not what its key promises, and why."""

    entry: Entry
    problem: str


class Rollback(Struct, frozen=True):
    """The store was opened at an older revision than it had acknowledged: its files were damaged, or are an older copy."""

    opened: int
    acknowledged: int


class Page(Struct, frozen=True):
    entries: Sequence[Entry]
    revision: int
    """The revision at which the whole list is true."""
    next_key: str
    """Where the next page starts ("" at the end)."""
    remaining: int
    """How many entries follow this page."""


class EventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class Event(Struct, frozen=True):
    """One write. For DELETED `value` is the last value, made by delete(); `previous` is what the write replaced (not ADDED).

    A BOOKMARK carries only the revision (key "" and value b""): everything up to it has been delivered.
    """

    type: EventType
    key: str
    value: bytes
    revision: int
    previous: bytes | None = None


class Store(Protocol):
    @property
    def revision(self) -> int:
        """The newest acknowledged revision."""

    @property
    def problem(self) -> str:
        """Why writes fail or do not come to an end, "" if all is well."""

    @property
    def rollback(self) -> Rollback | None:
        """What was lost before the store was opened; None if nothing is known to be."""

    @property
    def unreadable(self) -> Mapping[str, Unreadable]:
        """Entries found when the store was opened that its check did not pass, by key.

        They are kept apart: get, list and watch do not show them. Their keys exist, and delete() removes them.
        """

    async def create(self, key: str, encode: Encode) -> int:
        """Raises KeyExists. Returns the new revision, durable."""

    async def update(self, key: str, encode: Encode, *, expected: int, from_reserve: bool = False) -> int:
        """Writes if the key's revision is `expected`, else Conflict; KeyNotFound. Returns the new revision, durable.

        `from_reserve`: on a full disk the write may use the space that is kept for deletions.
        """

    async def delete(self, key: str, encode: Encode, *, expected: int) -> Entry:
        """Deletes if the revision matches. `encode` gives the last value, as the DELETED event shows it.

        On a full disk, deletions use the space that is kept for them."""

    def get(self, key: str) -> Entry | None:
        """The newest acknowledged value, from memory."""

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        """Entries whose key has the prefix, in key order, from `start` on; at `revision` (0: newest).

        Raises Compacted or FutureRevision."""

    def watch(self, prefix: str, *, since: int, bookmarks: bool = False) -> AsyncIterator[Event]:
        """Every event with a revision > since, in order; then live, until the consumer closes it.

        Raises Compacted at the first step (and later, if the consumer falls behind compaction)."""

    async def wait(self, revision: int) -> None:
        """Returns when `revision` has been reached."""

    async def gone(self) -> StoreError:
        """Returns when nothing that is written will be kept any more, and why: somebody deleted the store."""

    async def close(self) -> None: ...
