"""Bounds what container logs take on disk, at every moment and at any pace.

Source: Kubernetes documentation "Logging Architecture" (containerLogMaxSize 10Mi, containerLogMaxFiles 5).

The runtime changes to a new file when the one in use is full; `log_files` says how that bounds the disk. This part keeps
the full ones: a thread of its own hears of each change by inotify and rotates at once, so that neither a busy event loop
nor another container's flood delays it. The lines that are kept follow one another: where a change was missed, and with
it a whole file, older files go too. A runtime that lets files grow beyond the limit (an earlier conmon, one behind a CRI
socket) is asked to change them. Files are not compressed: that would take more disk meanwhile, and time that a flood
does not leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import threading
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path

from inotify_simple import INotify, flags
from msgspec import Struct

from podling.kit import file_error, file_events
from podling.kubelet import log_files
from podling.runtime.protocol import ContainerState, ContainerStatus, CRIError, EventType, NotFound, RuntimeService

log = logging.getLogger(__name__)

RESYNC_SECONDS = 10.0


class LogPolicy(Struct, frozen=True, kw_only=True):
    max_bytes: int = 10 * 1024 * 1024
    max_files: int = 5

    @property
    def file_bytes(self) -> int:
        """At this size the runtime changes files."""
        return log_files.largest(self.max_bytes, self.max_files)


_UNKNOWN = -2


class _Log(Struct, eq=False):
    path: Path
    watch: int
    changes: int = 0
    """How often the runtime has changed files, as far as events have told."""
    newest: Path | None = None
    """The second name that was given last."""
    kept_at: int = _UNKNOWN
    """After how many changes the file of that name came into use."""


class LogRotation:
    """`run` is its owner task."""

    def __init__(self, runtime: RuntimeService, policy: LogPolicy) -> None:
        self._runtime = runtime
        self._policy = policy
        self._lock = threading.Lock()
        """Held, by threads alone, while the logs followed or the files of one change."""
        self._inotify: INotify | None = None
        self._logs: dict[Path, _Log] = {}
        self._watched: dict[int, dict[str, _Log]] = {}
        """The logs by watch, which is one for all attempts of a container, and by name."""
        self._changed: dict[_Log, None] = {}
        self._wake = -1
        """An eventfd: the thread has something to do that no event of a file tells."""
        self._ends = False

    async def run(self) -> None:
        self._ends = False  # it may have run before
        loop = asyncio.get_running_loop()
        with await file_events.instance() as self._inotify, ThreadPoolExecutor(1, "log files") as executor:
            self._wake = os.eventfd(0, os.EFD_CLOEXEC)
            rotating = loop.run_in_executor(executor, self._rotate_on_events, self._inotify)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow_runtime(), name="log files of containers that start")
                    tasks.create_task(self._resync(), name="log files of all containers")
                    await asyncio.shield(rotating)
            finally:
                self._ends = True
                os.eventfd_write(self._wake, 1)
                await asyncio.wait([rotating])
                await asyncio.to_thread(self._close)
                os.close(self._wake)

    def _close(self) -> None:
        with self._lock:
            self._inotify = None
            self._logs.clear()
            self._watched.clear()
            self._changed.clear()

    async def _follow_runtime(self) -> None:
        async with aclosing(self._runtime.events()) as events:  # type: ignore[type-var]
            async for event in events:
                if event.type in (EventType.STARTED, EventType.STOPPED):
                    with contextlib.suppress(NotFound):
                        await self._look([await self._runtime.container_status(event.container_id)])

    async def _resync(self) -> None:
        """A second look at everything: events, of the runtime and of the files, can be lost."""
        while True:
            statuses = await self._runtime.list_containers()
            await self._look(statuses)
            await asyncio.to_thread(self._forget_others, {Path(status.log_path) for status in statuses})
            await asyncio.sleep(RESYNC_SECONDS)

    async def _look(self, statuses: Sequence[ContainerStatus]) -> None:
        for status in await asyncio.to_thread(lambda: [one for one in statuses if one.log_path and self._overdue(one)]):
            try:
                await self._change(status.id, Path(status.log_path))
            except (OSError, CRIError) as error:
                log.warning("log %s cannot be rotated: %s", status.log_path, file_error.reason(error))

    async def _change(self, container_id: str, path: Path) -> None:
        """Has the runtime change files; the event of that does the rest."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        try:
            await self._runtime.reopen_container_log(container_id)
        except CRIError:
            with contextlib.suppress(FileNotFoundError, FileExistsError, IndexError):
                os.link(log_files.named(path)[-1], path)
            raise

    # -- in threads

    def _overdue(self, status: ContainerStatus) -> bool:
        """Follow the log while its container runs. Return whether the runtime has to be asked to change files."""
        path = Path(status.log_path)
        try:
            with self._lock:
                try:
                    if status.state != ContainerState.RUNNING:
                        self._forget(path)
                        return False
                    self._follow(path)
                finally:
                    if self._changed:  # the events of other logs were read here
                        os.eventfd_write(self._wake, 1)
            return not path.exists() or path.stat().st_size > self._policy.file_bytes
        except FileNotFoundError:
            return False  # its Pod is gone
        except OSError as error:
            log.warning("log %s cannot be rotated: %s", path, file_error.reason(error))
            return False

    def _follow(self, path: Path) -> None:
        if self._inotify is None or path in self._logs:
            return
        watch = self._inotify.add_watch(str(path.parent), flags.MOVED_TO | flags.CREATE)
        names = log_files.named(path)
        one = self._logs[path] = self._watched.setdefault(watch, {})[path.name] = _Log(path, watch)
        one.newest = names[-1] if names else None
        self._rotate(self._inotify, one)

    def _forget(self, path: Path) -> None:
        """The container does not write any more: its last file needs no second name."""
        one = self._logs.get(path)
        if one is not None and self._inotify is not None:
            try:
                self._rotate(self._inotify, one)
            finally:
                self._unwatch(path)
        names = log_files.named(path)
        if not names:
            return
        if log_files.in_use(path, names[-1]):
            names[-1].unlink()
        elif one is None:
            log_files.prune(path, 0)  # what came between was in use while nobody looked

    def _forget_others(self, paths: Set[Path]) -> None:
        with self._lock:
            for path in self._logs.keys() - paths:
                self._unwatch(path)

    def _unwatch(self, path: Path) -> None:
        one = self._logs.pop(path, None)
        if one is None:
            return
        self._changed.pop(one, None)
        others = self._watched[one.watch]
        del others[path.name]
        if not others:
            del self._watched[one.watch]
            if self._inotify is not None:
                with contextlib.suppress(OSError):  # the directory is gone, and its watch with it
                    self._inotify.rm_watch(one.watch)

    def _rotate_on_events(self, inotify: INotify) -> None:
        poll = select.poll()
        poll.register(inotify.fileno(), select.POLLIN)
        poll.register(self._wake, select.POLLIN)
        while not self._ends:
            if any(fd == self._wake for fd, _ in poll.poll()):
                os.eventfd_read(self._wake)
            # The lock is released after each round, so that logs can begin and end while others print without a pause.
            with self._lock:
                self._rotate_changed(inotify)

    def _rotate_changed(self, inotify: INotify) -> None:
        """Rotate each log that has changed once.

        Names come first, also for the logs that change meanwhile: a file without one has only the time that the next one
        takes to fill. But no log gets two names before its oldest files are deleted, so that its space stays bounded.
        """
        seen: set[_Log] = set()
        prune: list[tuple[_Log, int]] = []
        self._read(inotify)
        while True:
            for one in self._changed.keys() - seen:
                seen.add(one)
                del self._changed[one]
                with _told(one):
                    if count := self._keep(inotify, one):
                        prune.append((one, count))
            if not prune:
                break
            one, count = prune.pop(0)
            with _told(one):
                log_files.prune(one.path, count)
            self._read(inotify)
        if self._changed:
            os.eventfd_write(self._wake, 1)

    def _read(self, inotify: INotify) -> None:
        """Counts the changes that events tell of."""
        for event in inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                for one in self._logs.values():
                    one.kept_at = _UNKNOWN
                    self._changed[one] = None
            elif (known := self._watched.get(event.wd, {}).get(event.name)) is not None:
                known.changes += 1
                self._changed[known] = None

    def _rotate(self, inotify: INotify, one: _Log) -> None:
        if count := self._keep(inotify, one):
            log_files.prune(one.path, count)

    def _keep(self, inotify: INotify, one: _Log) -> int:
        """Keep the file in use. Return how many files may stay with it, itself included, or 0 if it was kept already."""
        before = one.changes
        name = log_files.keep(one.path, one.newest)
        one.newest = name or one.newest
        # Every change before now has its event in the queue. Read, they number the file: it came into use no sooner than
        # the last event that was known, and at most one change ago if one has come since.
        self._read(inotify)
        at = before if one.changes <= before + 1 else _UNKNOWN
        if log_files.in_use(one.path, one.newest):
            at = one.changes
        follows = at == one.kept_at + 1
        one.kept_at = at
        if name is None:
            return 0
        return self._policy.max_files if follows else 1


@contextlib.contextmanager
def _told(one: _Log) -> Iterator[None]:
    """Log the error that one log meets, and go on with the others."""
    try:
        yield
    except FileNotFoundError:
        pass  # removed with its Pod, or about to be changed once more
    except OSError as error:
        log.warning("log %s cannot be rotated: %s", one.path, file_error.reason(error))
