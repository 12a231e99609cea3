"""Events of files by inotify; where the machine has no instance or watch left, a look at intervals takes their place.

A user has few instances (fs.inotify.max_user_instances), and root in a container without a user namespace takes from the
same ones as Podling. So a shortage of them does not end the process: the caller is told to look at intervals, and each time
this module tries again to get an instance.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from inotify_simple import Event, INotify, flags

log = logging.getLogger(__name__)

INTERVAL = 1.0
"""Seconds between two looks."""

_SHORTAGES: Final = {
    errno.EMFILE: "raise fs.inotify.max_user_instances, or the limit of open files of the process (LimitNOFILE)",
    errno.ENFILE: "raise fs.file-max",
    errno.ENOSPC: "raise fs.inotify.max_user_watches",
    errno.ENOMEM: "free memory",
}


class FileEvents:
    """Calls `on_event` for each event, and `on_loss` where some may have been missed: all is to be looked at then.

    Without an instance, `on_loss` is called at intervals.
    """

    def __init__(self, on_event: Callable[[Event], None], on_loss: Callable[[], None]) -> None:
        self._on_event = on_event
        self._on_loss = on_loss
        self._watched: dict[Path, int] = {}
        self._inotify: INotify | None = None
        self._next_look: asyncio.TimerHandle | None = None

    def watch(self, path: Path, mask: int) -> None:
        """Begin with these events of a file or directory. Raises OSError, but not for a shortage."""
        if self._next_look is None:
            try:
                self._add(path, mask)
            except OSError as error:
                if error.errno not in _SHORTAGES:
                    raise
                self._do_without(error)
        self._watched[path] = mask

    def close(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()
            self._inotify = None

    def _add(self, path: Path, mask: int) -> None:
        if self._inotify is None:
            self._inotify = INotify(nonblocking=True)
            asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)
        self._inotify.add_watch(path, mask)

    def _do_without(self, error: OSError) -> None:
        self.close()
        _tell(error.errno or 0)
        self._next_look = asyncio.get_running_loop().call_later(INTERVAL, self._look)

    def _look(self) -> None:
        self._next_look = None
        try:
            for path, mask in self._watched.items():
                with contextlib.suppress(FileNotFoundError):  # the look will find that
                    self._add(path, mask)
        except OSError as error:
            self._do_without(error)
        self._on_loss()

    def _read(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                self._on_loss()
            else:
                self._on_event(event)


async def instance() -> INotify:
    """Return an inotify instance as soon as there is one, for those who cannot do without."""
    while True:
        try:
            return INotify(nonblocking=True)
        except OSError as error:
            if error.errno not in _SHORTAGES:
                raise
            _tell(error.errno or 0)
        await asyncio.sleep(INTERVAL)


@functools.cache
def _tell(number: int) -> None:
    """Once for each cause: a shortage lasts, and many meet it."""
    remedy = _SHORTAGES.get(number, "")
    log.warning("files are looked at every second, since inotify fails: %s (%s)", os.strerror(number), remedy)
