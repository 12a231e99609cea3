"""A second look at what an event tells only once.

That a process has ended is told once: by inotify (its exit file), by its pidfd. A look that fails at that moment, for want
of a file descriptor or of memory, would lose the end for ever. So an event is no more than a hint. `look` compares what is
with what is known and may be called at any time; one that fails is repeated here with back-off. What no event told of, as
when inotify's queue has overflowed, is found by the slow look at everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from typing import Protocol

from podling.client.backoff import Backoff

RESYNC_SECONDS = 60.0
_TURN = 64
"""Looks between two turns of the event loop."""


class Watched(Protocol):
    def look(self) -> None:
        """Take note of an end that has come. Ask for a second look when that fails; raise nothing."""


class SecondLook:
    """`run` is the owner task; the other methods may be called at any time."""

    def __init__(self, everything: Callable[[], Iterable[Watched]]) -> None:
        self._everything = everything
        self._due: dict[Watched, None] = {}
        self._asked = asyncio.Event()

    def again(self, one: Watched) -> None:
        """Look at `one` again before long."""
        self._due[one] = None
        self._asked.set()

    def at_everything(self) -> None:
        """Look at everything before long: an event was lost, and nobody knows whose."""
        for one in self._everything():
            self.again(one)

    async def run(self) -> None:
        backoff = Backoff(initial=0.1, maximum=10.0)
        while True:
            if not self._due:
                backoff.reset()
                self._asked.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(RESYNC_SECONDS):
                        await self._asked.wait()
            if self._due:
                await asyncio.sleep(backoff.next())
            due, self._due = list(self._due or self._everything()), {}
            for number, one in enumerate(due, 1):
                one.look()
                if number % _TURN == 0:
                    await asyncio.sleep(0)
