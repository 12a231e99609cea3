"""conmon, one per container: parent of its first process, writer of its log, keeper of its exit code.

conmon belongs to no session of the agent's and outlives it. What it tells us:
- on the sync pipe, whether the OCI runtime could create the container,
- <run>/exits/<container>: the exit code, written when the container has ended (its time is the file's),
- <bundle>/attach: a socket with the container's standard streams; <bundle>/ctl: log rotation, terminal size.
Protocol: https://github.com/containers/conmon, src/conmon.c and src/ctrl.c.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
from inotify_simple import Event, flags
from msgspec import Struct

from podling.kit.file_events import FileEvents
from podling.runtime.native import spawn
from podling.runtime.native.oci import OCIRuntime
from podling.runtime.native.state import Process
from podling.runtime.protocol import CRIError

log = logging.getLogger(__name__)

_REOPEN_LOGS = 2


class Exit(Struct, frozen=True):
    """`code` is 128 + signal number for a signal, negative when conmon could not tell; `time` in ns since the epoch."""

    code: int
    time: int


class _SyncMessage(Struct):
    data: int
    message: str = ""


class Conmon:
    """Starts conmon processes."""

    def __init__(self, path: str, runtime: OCIRuntime, exits: Path, log_file_bytes: int) -> None:
        self._path = path
        self._log_file_bytes = log_file_bytes
        self._runtime = runtime
        self._exits = exits

    def _arguments(
        self, container_id: str, name: str, bundle: Path, log_path: str, *, tty: bool, stdin: bool, stdin_once: bool
    ) -> list[str]:
        argv = [self._path, "--api-version", "1", "-c", container_id, "-u", container_id, "-n", name]
        argv += ["-r", self._runtime.path, "-b", str(bundle)]
        argv += ["-p", str(bundle / "pidfile"), "-P", str(bundle / "conmon.pid")]
        argv += ["-l", f"k8s-file:{log_path}" if log_path else "none", "--no-sync-log", "--log-level", "error"]
        if self._log_file_bytes:
            argv += ["--log-size-max", str(self._log_file_bytes)]
        argv += ["--exit-dir", str(self._exits), "--persist-dir", str(bundle), "--full-attach"]
        for argument in self._runtime.global_arguments:
            argv += ["--runtime-arg", argument]
        if tty:
            argv.append("-t")
        if stdin:
            argv.append("-i")
            if not stdin_once:
                argv.append("--leave-stdin-open")
        return argv

    def create(
        self,
        container_id: str,
        name: str,
        bundle: Path,
        log_path: str,
        *,
        tty: bool = False,
        stdin: bool = False,
        stdin_once: bool = False,
    ) -> tuple[Process, Process]:
        """Starts conmon, which has the OCI runtime create the container; returns (first process, conmon).

        Blocking, some 10 ms; in a thread of Workers. Raises CRIError with the OCI runtime's own message; conmon is gone
        then, or about to go.
        """
        argv = self._arguments(container_id, name, bundle, log_path, tty=tty, stdin=stdin, stdin_once=stdin_once)
        with spawn.Descriptors() as opened:
            errors = opened.add(os.memfd_create("conmon", os.MFD_CLOEXEC))
            read_end, write_end = map(opened.add, os.pipe2(os.O_CLOEXEC))
            env = {**spawn.ENVIRONMENT, "_OCI_SYNCPIPE": "3"}
            pid = spawn.spawn(argv, fds={2: errors, 3: write_end}, cwd=bundle, env=env)
            opened.close(write_end)
            answer = _read_line(read_end)
            spawn.reap(pid)  # of the process that forked the daemon, or failed before
            if not answer:
                said = os.pread(errors, 65536, 0).decode(errors="replace").strip()
                raise CRIError("StartError", said or "conmon ended without creating the container")
        message = msgspec.json.decode(answer, type=_SyncMessage)
        if message.data <= 0:
            raise CRIError("StartError", message.message)
        return Process.of(message.data), conmon_of(bundle)


def conmon_of(bundle: Path) -> Process:
    """The conmon of a bundle by its PID file; no process where that has ended, its ID being another's by now or not."""
    try:
        process = Process.of(int((bundle / "conmon.pid").read_text()))
        arguments = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return Process()
    return process if os.fsencode(bundle) in arguments else Process()


def _read_line(fd: int) -> bytes:
    """One line, or b"" when the other end closes before."""
    data = bytearray()
    while b"\n" not in data:
        chunk = os.read(fd, 65536)
        if not chunk:
            return b""
        data += chunk
    return bytes(data.partition(b"\n")[0])


class ExitWatcher:
    """Calls `on_exit(container_id)` for each exit file that appears, `on_loss()` when some were missed."""

    def __init__(self, directory: Path, on_exit: Callable[[str], None], on_loss: Callable[[], None]) -> None:
        self._directory = directory
        self._on_exit = on_exit
        self._events = FileEvents(self._see, on_loss)

    def open(self) -> None:
        # conmon writes to another name and renames.
        self._events.watch(self._directory, flags.MOVED_TO | flags.CLOSE_WRITE)

    def close(self) -> None:
        self._events.close()

    def _see(self, event: Event) -> None:
        if event.name:
            self._on_exit(event.name)

    def read(self, container_id: str) -> Exit | None:
        """Return what the exit file says, or None when there is none (yet). Raises OSError."""
        path = self._directory / container_id
        try:
            with open(path) as file:
                text = file.read().strip()
                changed = os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:
            return None
        try:
            return Exit(int(text), changed)
        except ValueError:
            return None  # another program's, or a temporary file


class ProcessWatch:
    """Calls `on_end()` once when a process that is not our child ends (pidfd); never for one that had ended before."""

    def __init__(self, process: Process, on_end: Callable[[], None]) -> None:
        """Raises OSError when no descriptor is to be had."""
        self._on_end = on_end
        self._ended = asyncio.Event()
        self._fd = -1
        try:
            self._fd = process.open()
        except ProcessLookupError:
            self._ended.set()
            return
        asyncio.get_running_loop().add_reader(self._fd, self._end)

    @property
    def over(self) -> bool:
        return self._ended.is_set()

    def _end(self) -> None:
        asyncio.get_running_loop().remove_reader(self._fd)
        self._ended.set()
        self._on_end()

    async def ended(self) -> None:
        await self._ended.wait()

    def signal(self, number: int) -> None:
        """Signals the very process, never another with a reused ID. No error when it has ended."""
        if self._fd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._fd, number)

    def close(self) -> None:
        if self._fd >= 0:
            asyncio.get_running_loop().remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1


def reopen_log(bundle: Path, log_path: Path, timeout: float = 5.0) -> None:
    """Has conmon close its log file and open `log_path` anew. Blocking until the file is there. Raises CRIError."""
    _control(bundle, f"{_REOPEN_LOGS} 0 0\n")
    deadline = time.monotonic() + timeout
    while not log_path.exists():
        if time.monotonic() > deadline:
            raise CRIError("ReopenLogFailed", f"conmon did not open {log_path}")
        time.sleep(0.005)  # in a thread; conmon does not answer, and there may be no inotify instance for an event


def _control(bundle: Path, line: str) -> None:
    try:
        fd = os.open(bundle / "ctl", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise CRIError("NotRunning", f"conmon cannot be reached: {error.strerror}") from error
    try:
        os.write(fd, line.encode())
    finally:
        os.close(fd)
