"""Starting processes cheaply from a big Python process, and waiting for them by event.

posix_spawn is vfork below: its cost does not grow with the memory of the agent. A worker thread has its own working
directory (unshare CLONE_FS), so that a child can be started in a directory without touching that of the process:
conmon writes its `oom` file into its working directory.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from msgspec import Struct

from podling.kit import oom_score
from podling.runtime.native import syscalls

T = TypeVar("T")

ENVIRONMENT = {
    "PATH": os.environ.get("PATH") or "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
}
"""Helper programs get a clean environment, so that nothing of the agent's leaks into containers or changes them."""


_OUTPUT_LIMIT = 1 << 20


class Completed(Struct, frozen=True):
    exit_code: int
    """128 + signal number when a signal ended it."""
    stdout: bytes
    stderr: bytes


class Workers:
    """The threads in which the runtime does what would block the event loop."""

    def __init__(self, count: int = 32) -> None:
        self._executor = ThreadPoolExecutor(
            count, thread_name_prefix="runtime", initializer=syscalls.unshare, initargs=(syscalls.CLONE_FS,)
        )

    async def run(self, function: Callable[..., T], *args: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function, *args)

    def close(self) -> None:
        self._executor.shutdown()


def spawn(
    argv: Sequence[str],
    *,
    fds: Mapping[int, int],
    cwd: str | Path | None = None,
    env: Mapping[str, str] = ENVIRONMENT,
    new_session: bool = False,
) -> int:
    """Starts argv[0] (an absolute path) and returns its process ID, which the caller must reap.

    `fds` maps descriptors of the child to ours; 0, 1 and 2 are /dev/null unless given. With `cwd` the caller must be
    a thread of Workers. Raises OSError.
    """
    actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
        (os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1, 2) if fd not in fds
    ]
    actions += [(os.POSIX_SPAWN_DUP2, ours, theirs) for theirs, ours in fds.items()]
    if cwd is not None:
        os.chdir(cwd)
    try:
        with oom_score.neutral():
            return os.posix_spawn(
                argv[0],
                list(argv),
                env,
                file_actions=actions,
                setsid=new_session,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
    finally:
        if cwd is not None:
            os.chdir("/")


class Descriptors:
    """Descriptors that are closed with the block; when one cannot be had, those before it are not left open."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def __enter__(self) -> Descriptors:
        return self

    def __exit__(self, *exc: object) -> None:
        for fd in list(self._open):
            self.close(fd)

    def add(self, fd: int) -> int:
        self._open.add(fd)
        return fd

    def close(self, fd: int) -> None:
        self._open.remove(fd)
        os.close(fd)


async def readable(fd: int) -> None:
    """Returns when `fd` can be read (a pidfd: when the process has exited)."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(fd, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(fd)


async def wait(pid: int) -> int:
    """Reaps a child of ours. Returns its exit code, 128 + signal number if a signal ended it; kills it when cancelled."""
    try:
        pidfd = os.pidfd_open(pid)
    except OSError:
        return await _wait_in_thread(pid)
    try:
        await readable(pidfd)
    except asyncio.CancelledError:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        # One that waits for a disk takes its time to die.
        await readable(pidfd)
        reap(pid)
        raise
    else:
        return reap(pid)
    finally:
        os.close(pidfd)


async def _wait_in_thread(pid: int) -> int:
    """As `wait`, where no descriptor is to be had: a child that nobody reaps would stay, and nobody would hear of it."""

    def ended() -> None:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # leaves it a zombie, so that its ID stays its own

    waiting = asyncio.get_running_loop().run_in_executor(None, ended)
    try:
        await asyncio.shield(waiting)
    except asyncio.CancelledError:
        os.kill(pid, signal.SIGKILL)
        await asyncio.wait([waiting])
        reap(pid)
        raise
    return reap(pid)


def reap(pid: int) -> int:
    """Waits for a child; blocking. Returns its exit code as `wait` does."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return 128 - code if code < 0 else code


class Output:
    """Collects what comes out of a pipe, up to `limit` bytes; the rest is read and dropped so that no writer blocks."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit
        self._read, self.write = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._read, False)

    def start(self) -> None:
        """Begins to read; the child has been started, our copy of its end closes."""
        os.close(self.write)
        self.write = -1
        asyncio.get_running_loop().add_reader(self._read, self._drain)

    def _drain(self) -> None:
        while True:
            try:
                chunk = os.read(self._read, 65536)
            except BlockingIOError:
                return
            if not chunk:
                asyncio.get_running_loop().remove_reader(self._read)
                return
            self.data += chunk[: max(0, self._limit - len(self.data))]

    def finish(self) -> bytes:
        """What was written until now. Descendants that still hold the pipe are not waited for."""
        if self._read >= 0:
            if self.write < 0:
                self._drain()
                asyncio.get_running_loop().remove_reader(self._read)
            else:
                os.close(self.write)
            os.close(self._read)
            self._read = -1
        return bytes(self.data)


def run(argv: Sequence[str]) -> Completed:
    """Runs a program that says little to its end. Blocking, and faster than run_async. Raises OSError."""
    with Descriptors() as opened:
        out = opened.add(os.memfd_create("stdout", os.MFD_CLOEXEC))
        err = opened.add(os.memfd_create("stderr", os.MFD_CLOEXEC))
        code = reap(spawn(argv, fds={1: out, 2: err}))
        return Completed(code, os.pread(out, _OUTPUT_LIMIT, 0), os.pread(err, _OUTPUT_LIMIT, 0))


async def run_async(workers: Workers, argv: Sequence[str], *, limit: int = _OUTPUT_LIMIT) -> Completed:
    """Runs a program to its end, however much it says. Raises OSError; kills the program when cancelled."""
    out = Output(limit)
    try:
        err = Output(limit)
    except OSError:
        out.finish()
        raise
    try:
        starting = asyncio.ensure_future(workers.run(lambda: spawn(argv, fds={1: out.write, 2: err.write})))
        try:
            pid = await asyncio.shield(starting)
        except asyncio.CancelledError:
            # The thread cannot be called back: what it starts must not go on unseen.
            await asyncio.wait([starting])
            if starting.exception() is None:
                os.kill(starting.result(), signal.SIGKILL)
                await wait(starting.result())
            raise
        out.start()
        err.start()
        code = await wait(pid)
        return Completed(code, out.finish(), err.finish())
    finally:
        out.finish()
        err.finish()
