"""Times as the API writes them: RFC 3339 in UTC, to the second (Time) or the microsecond (MicroTime)."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Final

EARLIEST: Final = -62135596800
"""Seconds: 0001-01-01T00:00:00Z, the zero time of Go."""
LATEST: Final = 253402300799
"""Seconds: 9999-12-31T23:59:59Z. RFC 3339 has no later year."""


def now() -> str:
    """The current Time, "2026-01-02T03:04:05Z"."""
    return from_seconds(time.time())


def now_micro() -> str:
    """The current MicroTime, "2026-01-02T03:04:05.000006Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_seconds(seconds: float) -> str:
    """The Time of so many seconds after the epoch, cut down to a whole second.

    What is computed from a client's numbers may lie beyond the times that can be written: it becomes the last of them,
    or the first. (Upstream's arithmetic wraps around there.)
    """
    year, month, day, hour, minute, second, *_ = time.gmtime(min(max(seconds, EARLIEST), LATEST))
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"


def to_seconds(text: str) -> float:
    """Seconds after the epoch of a Time or MicroTime. Raises ValueError on other texts."""
    if text.startswith("0000-"):  # Valid in the API, but unknown to Python: as good as the year 1.
        return EARLIEST
    return datetime.fromisoformat(text).timestamp()
