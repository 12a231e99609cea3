"""The newest acknowledged value of every key, sorted by key, in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from sortedcontainers import SortedDict

from podling.store.protocol import Entry, Event, EventType


def prefix_end(prefix: str) -> str:
    """The smallest string greater than every string that starts with `prefix`; "" (no bound) for an empty prefix."""
    stripped = prefix.rstrip(chr(0x10FFFF))
    return stripped[:-1] + chr(ord(stripped[-1]) + 1) if stripped else ""


class Index:
    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._entries = SortedDict((entry.key, entry) for entry in entries)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> Entry | None:
        entry: Entry | None = self._entries.get(key)
        return entry

    def apply(self, event: Event) -> None:
        if event.type is EventType.DELETED:
            del self._entries[event.key]
        else:
            self._entries[event.key] = Entry(event.key, event.value, event.revision)

    def range(self, lower: str, upper: str) -> Iterator[Entry]:
        """Entries with lower <= key < upper ("": no upper bound), in key order. Not valid across changes."""
        entries = self._entries
        for key in entries.irange(lower, upper or None, inclusive=(True, False)):
            yield entries[key]

    def count(self, lower: str, upper: str) -> int:
        end = self._entries.bisect_left(upper) if upper else len(self._entries)
        return int(end - self._entries.bisect_left(lower))

    def overlaid(self, lower: str, upper: str, former: Mapping[str, Entry | None]) -> list[Entry]:
        """The range as it was when the keys in `former` had those entries (None: the key did not exist)."""
        entries = [entry for entry in self.range(lower, upper) if entry.key not in former]
        entries += [entry for key, entry in former.items() if entry is not None and lower <= key < (upper or key + "~")]
        entries.sort(key=lambda entry: entry.key)
        return entries
