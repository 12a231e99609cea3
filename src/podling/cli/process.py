"""The cluster's processes: at most one server and one agent per cluster, found again by their pid files."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from podling.cli.errors import CommandError
from podling.cli.settings import Settings

NAMES = ("server", "agent")


@contextmanager
def registered(settings: Settings, name: str) -> Iterator[None]:
    """In the process itself: holds its pid file. Raises CommandError if the process is running already.

    The file stays afterwards: were it deleted, another process could come to hold a file that nobody finds.
    """
    settings.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
    # Whoever can open the file can lock it, and keep the process from starting.
    fd = os.open(_pid_file(settings, name), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(fd, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CommandError(f"the {name} of {settings.data_dir} is running already") from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()} {_start_time(os.getpid())} {_boot_id()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def find(settings: Settings, name: str) -> int:
    """The process's id, 0 if it does not run. A pid that was given to another process since does not count.

    Raises CommandError for users who may not know.
    """
    try:
        pid, started, boot = _pid_file(settings, name).read_text().split()
    except PermissionError:
        raise CommandError(f"{_pid_file(settings, name)} can be read by root only: try with sudo") from None
    except (OSError, ValueError):
        return 0
    return int(pid) if boot == _boot_id() and _start_time(int(pid)) == started else 0


def stop(pids: Sequence[int], *, grace_seconds: float) -> None:
    """SIGTERM, then SIGKILL after the grace period; returns when all are gone."""
    watched: dict[int, int] = {}
    try:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                watched[os.pidfd_open(pid)] = pid
        for wanted, seconds in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 10.0)):
            alive = _running(watched, 0)
            for fd in alive:
                signal.pidfd_send_signal(fd, wanted)
            if not _running(alive, seconds):
                return
    finally:
        for fd in watched:
            os.close(fd)


def in_order_of_end(pids: Sequence[int]) -> Iterator[int]:
    """The positions of this process's children in `pids`, each as soon as that child has ended; it is not reaped."""
    fds: list[int] = []
    poll = select.poll()
    try:
        for pid in pids:
            fds.append(os.pidfd_open(pid))
            poll.register(fds[-1], select.POLLIN)
        for _ in range(len(fds)):
            ended, _ = poll.poll()[0]
            poll.unregister(ended)
            yield fds.index(ended)
    finally:
        for fd in fds:
            os.close(fd)


def failure(settings: Settings, name: str) -> CommandError:
    """Why the process ended, by the last line of its log (see main.py)."""
    path = settings.log(name)
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - 16384))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        lines = []
    prefix = f"podling {name}: "
    reason = lines[-1].removeprefix(prefix) if lines and lines[-1].startswith(prefix) else "ended at once"
    return CommandError(f"{name}: {reason} (log: {path})", "\n".join(lines[-40:]))


def resident_bytes(pid: int) -> int:
    """Memory in RAM, shared pages counted in full; 0 if the process is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def age_seconds(pid: int) -> float:
    started = _start_time(pid)
    uptime = float(Path("/proc/uptime").read_text().split()[0])
    return uptime - int(started or 0) / os.sysconf("SC_CLK_TCK")


def _running(watched: dict[int, int], seconds: float) -> dict[int, int]:
    """Those that still run when all have ended or the time is over."""
    poll = select.poll()
    for fd in watched:
        poll.register(fd, select.POLLIN)
    left = dict(watched)
    deadline = time.monotonic() + seconds
    while left:
        ended = poll.poll(max(0.0, deadline - time.monotonic()) * 1000)
        if not ended:
            break
        for fd, _ in ended:
            poll.unregister(fd)
            del left[fd]
    return left


def _pid_file(settings: Settings, name: str) -> Path:
    return settings.run_dir / f"{name}.pid"


def _start_time(pid: int) -> str:
    """In clock ticks since boot; "" for a process that is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
