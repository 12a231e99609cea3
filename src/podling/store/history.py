"""The newest events in memory, from which watches catch up and older lists are made without reading the disk."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

from msgspec import Struct

from podling.store.protocol import Entry, Event

RECORD_OVERHEAD: Final = 100
"""Bytes that a record costs beside its key and value, in memory or on disk; a rough figure for budgets."""


class Record(Struct, frozen=True):
    """One write: the event that watchers see, and what it replaced."""

    event: Event
    former: Entry | None

    @property
    def size(self) -> int:
        return RECORD_OVERHEAD + len(self.event.key) + len(self.event.value)


class History:
    """The newest records, at most `max_records` and about `max_bytes`.

    Values are shared with the index, so a record costs its `former` value at most.
    """

    def __init__(self, floor: int, *, max_records: int, max_bytes: int) -> None:
        self.floor = floor
        """Every event with a revision above this one is here."""
        self._max_records = max_records
        self._max_bytes = max_bytes
        self._bytes = 0
        self._records: list[Record] = []
        self._revisions: list[int] = []

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: Record) -> None:
        self._records.append(record)
        self._revisions.append(record.event.revision)
        self._bytes += record.size
        if len(self._records) > self._max_records or self._bytes > self._max_bytes:
            self._trim()

    def since(self, revision: int) -> list[Record]:
        """Records with a greater revision, in order; `revision` must not be below the floor."""
        if revision < self.floor:
            raise ValueError(f"history in memory starts after {self.floor}, asked for {revision}")
        return self._records[bisect_right(self._revisions, revision) :]

    def _trim(self) -> None:
        # Removing a quarter at a time keeps the cost of shifting the lists constant per record.
        drop = 0
        while drop < len(self._records) and (
            len(self._records) - drop > self._max_records * 3 // 4 or self._bytes > self._max_bytes * 3 // 4
        ):
            self._bytes -= self._records[drop].size
            drop += 1
        self.floor = self._revisions[drop - 1]
        del self._records[:drop]
        del self._revisions[:drop]
