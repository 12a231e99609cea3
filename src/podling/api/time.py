"""Times as the API writes them: RFC 3339 in UTC, to the second (Time) or the microsecond (MicroTime)."""

from __future__ import annotations

import time
from datetime import UTC, datetime


def now() -> str:
    """The current Time, "2026-01-02T03:04:05Z"."""
    return from_seconds(time.time())


def now_micro() -> str:
    """The current MicroTime, "2026-01-02T03:04:05.000006Z"."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_seconds(seconds: float) -> str:
    """The Time of so many seconds after the epoch, cut down to a whole second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def to_seconds(text: str) -> float:
    """Seconds after the epoch of a Time or MicroTime. Raises ValueError on other texts."""
    return datetime.fromisoformat(text).timestamp()
