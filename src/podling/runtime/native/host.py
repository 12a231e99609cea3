"""What sandboxes and containers share: paths, records, threads, programs, plugins, the stream of events."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from podling.client.backoff import Backoff
from podling.kit import file_error
from podling.runtime import shortage
from podling.runtime.native.cgroup import Cgroups
from podling.runtime.native.monitor import Conmon, ExitWatcher
from podling.runtime.native.oci import OCIRuntime
from podling.runtime.native.second_look import SecondLook, Watched
from podling.runtime.native.spawn import Workers
from podling.runtime.native.state import Layout, Records
from podling.runtime.protocol import ContainerEvent, EventType, ImageService, NetworkPlugin

log = logging.getLogger(__name__)

T = TypeVar("T")


class LayeredImages(ImageService, Protocol):
    """An image service whose images lie unpacked on this machine."""

    async def layers(self, image_id: str) -> list[Path]:
        """The directories to stack by overlayfs, topmost first."""


async def together(works: Iterable[Coroutine[Any, Any, object]]) -> None:
    """Awaits all of them, then raises the first error: one that fails keeps no other from coming to its end."""
    for outcome in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


class Events:
    """Fans events out to every consumer."""

    def __init__(self) -> None:
        self._queues: set[asyncio.Queue[ContainerEvent]] = set()

    def publish(self, kind: EventType, container_id: str, sandbox_id: str, pod_uid: str) -> None:
        event = ContainerEvent(
            container_id=container_id, sandbox_id=sandbox_id, pod_uid=pod_uid, type=kind, created_at=time.time_ns()
        )
        for queue in self._queues:
            queue.put_nowait(event)

    async def stream(self) -> AsyncIterator[ContainerEvent]:
        queue: asyncio.Queue[ContainerEvent] = asyncio.Queue()
        self._queues.add(queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self._queues.discard(queue)


class Tasks:
    """Work that must come to its end even if whoever asked for it stops waiting. Owned by the runtime."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = asyncio.Event()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Nobody awaits it: its failure is logged."""
        task = self._create(work, name)
        task.add_done_callback(_report)
        return task

    async def finish(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Awaits `work`; a cancelled caller leaves, the work goes on."""
        task = self._create(work, name)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_report)
            raise

    async def insist(self, work: Callable[[], Awaitable[T]], name: str, tries: float = math.inf) -> T:
        """Repeat `work`, with back-off, while it fails because the machine is short of something. Raises OSError."""
        backoff = Backoff(initial=0.1, maximum=10.0)
        for number in itertools.count(1):
            try:
                return await work()
            except OSError as error:
                if not shortage.passes(error) or self._closing.is_set() or number >= tries:
                    raise
                log.warning("%s: trying again: %s", name, file_error.reason(error))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(backoff.next()):
                    await self._closing.wait()
        raise AssertionError

    def _create(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def join(self) -> None:
        self._closing.set()
        while self._tasks:
            await asyncio.wait(self._tasks)


def _report(task: asyncio.Task[Any]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("%s failed", task.get_name(), exc_info=error)


class Host:
    def __init__(
        self,
        *,
        layout: Layout,
        workers: Workers,
        cgroups: Cgroups,
        boot_id: str,
        images: LayeredImages,
        network: NetworkPlugin,
        runtime: OCIRuntime,
        handlers: dict[str, OCIRuntime],
        conmon: str,
        log_file_bytes: int,
        on_exit: Callable[[str], None],
        watched: Callable[[], Iterable[Watched]],
    ) -> None:
        self.layout = layout
        self.records = Records(layout)
        self.workers = workers
        self.cgroups = cgroups
        self.boot_id = boot_id
        self.images = images
        self.network = network
        self.runtime = runtime
        self.handlers = handlers
        self.conmon_path = conmon
        self.log_file_bytes = log_file_bytes
        self.second_look = SecondLook(watched)
        self.exits = ExitWatcher(layout.exits, on_exit, self.second_look.at_everything)
        self.events = Events()
        self.tasks = Tasks()

    def runtime_of(self, handler: str) -> OCIRuntime:
        """The program of a RuntimeClass handler; "" is the default one. Raises KeyError."""
        return self.handlers[handler] if handler else self.runtime

    def conmon(self, runtime: OCIRuntime) -> Conmon:
        return Conmon(self.conmon_path, runtime, self.layout.exits, self.log_file_bytes)
