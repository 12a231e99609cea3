"""Keys of objects to bring in order: each once, one at a time, again after a failure."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import ConnectionFailed

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """A set of keys and the function that processes one. A key added while it is processed is processed again after.

    `process` may raise ApiError or ConnectionFailed: the key comes back after a back-off (50 ms growing to 30 s)."""

    def __init__(self, name: str, process: Callable[[K], Awaitable[None]], *, workers: int = 1) -> None:
        self._name = name
        self._process = process
        self._workers = workers
        self._waiting: dict[K, None] = {}
        self._running: set[K] = set()
        self._again: set[K] = set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._backoffs: dict[K, Backoff] = {}
        self._ready = asyncio.Event()

    def add(self, key: K) -> None:
        self.cancel(key)
        if key in self._running:
            self._again.add(key)
        else:
            self._waiting[key] = None
            self._ready.set()

    def add_after(self, key: K, delay: float) -> None:
        """Adds the key in `delay` seconds; of several such wishes for a key the soonest counts."""
        if delay <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        timer = self._timers.get(key)
        if timer is not None:
            if timer.when() <= loop.time() + delay:
                return
            timer.cancel()
        self._timers[key] = loop.call_later(delay, self.add, key)

    def cancel(self, key: K) -> None:
        """Takes back what `add_after` was asked for."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()

    async def run(self) -> None:
        """Processes keys until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(self._workers):
                    tasks.create_task(self._work(), name=f"{self._name} {number}")
        finally:
            for timer in self._timers.values():
                timer.cancel()
            self._timers.clear()

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._ready.clear()
                await self._ready.wait()
            key = next(iter(self._waiting))
            del self._waiting[key]
            self._running.add(key)
            try:
                await self._process(key)
            except (ApiError, ConnectionFailed) as error:
                self._fail(key, error)
            except Exception:
                log.exception("%s: %s", self._name, key)
                self._fail(key, None)
            else:
                self._backoffs.pop(key, None)
            finally:
                self._running.discard(key)
            if key in self._again:
                self._again.discard(key)
                self.add(key)

    def _fail(self, key: K, error: Exception | None) -> None:
        backoff = self._backoffs.setdefault(key, Backoff(initial=0.05, maximum=30.0, factor=2.0))
        if isinstance(error, ApiError) and error.code != 409:
            log.warning("%s: %s: %s", self._name, key, error)
        self.add_after(key, backoff.next())
