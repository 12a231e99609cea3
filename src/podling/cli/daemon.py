"""What the cluster's processes have in common: event loop, signals, log, the word that they are ready."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TextIO

import uvloop

from podling.cli import notify, process
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError, one_line
from podling.cli.settings import Settings
from podling.kit import descriptors, error_group, oom_score

log = logging.getLogger("podling")

LOG_BYTES = 10 << 20
"""A log file of this size is renamed to *.log.1, which is overwritten."""

STOP_SECONDS = 10.0
"""How long a process may take to end properly; within the grace period of `podling down`."""

_OOM_SCORE_ADJ = {"server": -997, "agent": -999}
"""As upstream's: of a static Pod of the control plane, and of the kubelet."""

_YOUNG = 5000
"""The garbage collector runs after so many new objects, not after Python's 700: nearly all are freed without it."""

Main = Callable[[Settings, asyncio.Event, asyncio.Event], Awaitable[None]]
"""(settings, stop, ready): works until `stop` is set, and sets `ready` once."""


def run(args: argparse.Namespace, name: str, main: Main) -> int:
    """The whole life of the process. What `main` raises becomes the last line of the log, which `up` reads."""
    settings = cluster_settings.load(args.data_dir)
    if settings is None:  # not to be made again by a process that systemd starts after it was deleted
        raise CommandError(f"no cluster in {args.data_dir}")
    _start_log(settings.log(name), verbose=args.verbose)
    descriptors.raise_limit()
    oom_score.protect(_OOM_SCORE_ADJ[name])
    try:
        with process.registered(settings, name), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_supervise(settings, name, main))
    except BaseException as error:
        reason = error_group.first(error)
        if not isinstance(reason, CommandError):
            log.error("%s failed", name, exc_info=error)
        raise CommandError(one_line(reason)) from error
    return 0


async def _supervise(settings: Settings, name: str, main: Main) -> None:
    loop = asyncio.get_running_loop()
    stop, ready = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with asyncio.TaskGroup() as tasks:
        announcement = tasks.create_task(_announce(name, ready))
        work = tasks.create_task(_work(main, settings, stop, ready))
        stopping = tasks.create_task(stop.wait())
        await asyncio.wait([work, stopping], return_when=asyncio.FIRST_COMPLETED)
        # Before it is ready it may wait for something that never comes, and looks at nothing else.
        await asyncio.wait([work], timeout=STOP_SECONDS if ready.is_set() else 0)
        for task in (work, stopping, announcement):
            task.cancel()


async def _work(main: Main, settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    await main(settings, stop, ready)


async def _announce(name: str, ready: asyncio.Event) -> None:
    await ready.wait()
    notify.send("READY=1", f"{notify.NAME}={name}", "STATUS=ready")
    log.info("%s is ready", name)
    # Modules and long-lived objects: the collector need not look at them again.
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])


class _Handler(logging.StreamHandler[TextIO]):
    """Writes to stderr. If that is a file, it makes a new one when it has grown large, for stray output too."""

    def __init__(self, path: Path) -> None:
        super().__init__(sys.stderr)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        super().emit(record)
        try:
            if os.fstat(2).st_size > LOG_BYTES and os.path.samestat(os.fstat(2), os.stat(self._path)):
                os.replace(self._path, f"{self._path}.1")
                fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
                os.dup2(fd, 1)
                os.dup2(fd, 2)
                os.close(fd)
        except OSError:
            return  # the log goes on in the old file


def _start_log(path: Path, *, verbose: bool) -> None:
    handler = _Handler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
