"""Which events are old enough to be compacted."""

from __future__ import annotations

from collections import deque
from typing import Final

from msgspec import Struct

SEGMENT_EVENTS: Final = 256


class Segment(Struct):
    """A run of events, compacted together: the smallest unit, so that a long history costs little memory."""

    last: int
    time: int
    """Of the newest event in it, in seconds since the epoch."""
    events: int = 0
    bytes: int = 0


class Retention:
    """The newest `events` are kept whatever their age, others for `seconds`; all of them together at most `bytes`.

    The size includes events whose value is still the current one of its key, so it overstates what compaction frees.
    """

    def __init__(self, *, events: int, seconds: float, bytes: int) -> None:
        self._segment_events = min(SEGMENT_EVENTS, max(1, events // 4))
        self._keep_events = events
        self._keep_seconds = seconds
        self._keep_bytes = bytes
        self._segments: deque[Segment] = deque()
        self._events = 0
        self._bytes = 0

    def add(self, revision: int, time: int, size: int) -> None:
        segment = self._segments[-1] if self._segments else None
        if segment is None or segment.events >= self._segment_events or segment.bytes > self._keep_bytes // 16:
            segment = Segment(revision, time)
            self._segments.append(segment)
        segment.last = revision
        segment.time = time
        segment.events += 1
        segment.bytes += size
        self._events += 1
        self._bytes += size

    def due(self, now: float) -> int:
        """The revision up to which the oldest segment is to be compacted now, or 0.

        The newest segment stays, so that the newest revision can always be read from the file.
        """
        if len(self._segments) < 2:
            return 0
        oldest = self._segments[0]
        too_large = self._bytes > self._keep_bytes
        too_old = oldest.time + self._keep_seconds <= now and self._events - oldest.events >= self._keep_events
        return oldest.last if too_large or too_old else 0

    def compacted(self, revision: int) -> None:
        while self._segments and self._segments[0].last <= revision:
            segment = self._segments.popleft()
            self._events -= segment.events
            self._bytes -= segment.bytes
