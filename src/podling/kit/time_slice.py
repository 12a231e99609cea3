"""Long work in small steps on the event loop."""

from __future__ import annotations

import asyncio
from time import perf_counter
from typing import Final

_SECONDS: Final = 0.005


class TimeSlice:
    """A few milliseconds of the event loop. Work that may take long asks after each step whether they are over."""

    __slots__ = ("_end",)

    def __init__(self) -> None:
        self._end = perf_counter() + _SECONDS

    @property
    def over(self) -> bool:
        return perf_counter() > self._end

    async def next(self) -> None:
        """Returns when everybody else has had a turn."""
        await asyncio.sleep(0)
        self._end = perf_counter() + _SECONDS
