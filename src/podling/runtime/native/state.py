"""What must outlive the agent: where things lie, and the records of sandboxes and containers.

A record is written before the thing that it describes is made and again when it is complete, so that an agent killed
at any point leaves either a complete record or the name of what is to be cleaned up.

A record is a file of JSON lines, one for each change, of which the last complete one counts. Appending costs the file
system no new name (some 50 µs where writing anew and renaming takes a millisecond on a busy disk). Nothing is synced to
disk, because what records describe does not outlive the machine either: after a power failure a record is complete or
damaged, and both mean that the Pod is to be started anew.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

import msgspec
from msgspec import Struct, field

from podling.kit import document_error
from podling.runtime import tree
from podling.runtime.protocol import ContainerConfig, LinuxResources, SandboxConfig

T = TypeVar("T")

log = logging.getLogger(__name__)


class SandboxPhase(StrEnum):
    CREATING = "creating"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"


class ContainerPhase(StrEnum):
    CREATING = "creating"
    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    EXITED = "exited"


class Process(Struct, frozen=True):
    """A process as it cannot be mistaken for another: the start time (in clock ticks since boot) tells reuse of IDs."""

    pid: int = 0
    start_time: int = 0

    @classmethod
    def of(cls, pid: int) -> Process:
        return cls(pid, start_time(pid))

    def alive(self) -> bool:
        return self.pid > 0 and self.start_time != 0 and start_time(self.pid) == self.start_time

    def open(self) -> int:
        """A pidfd of this very process, to be closed by the caller. Raises ProcessLookupError when it has ended."""
        if self.alive():
            fd = os.pidfd_open(self.pid)
            try:
                if self.alive():  # so the ID was not given to another before it was opened
                    return fd
            except BaseException:
                os.close(fd)
                raise
            os.close(fd)
        raise ProcessLookupError(errno.ESRCH, f"process {self.pid} has ended")

    def kill(self) -> None:
        """SIGKILL to this very process. No error when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            fd = self.open()
            try:
                signal.pidfd_send_signal(fd, signal.SIGKILL)
            finally:
                os.close(fd)


class SandboxRecord(Struct, kw_only=True):
    id: str
    config: SandboxConfig
    phase: SandboxPhase
    created_at: int
    boot_id: str
    handler: str = ""
    """The RuntimeClass handler whose OCI runtime runs its containers."""
    ips: list[str] = field(default_factory=list)
    pause: Process = Process()
    """The first process of a PID namespace that the containers share."""


class ContainerRecord(Struct, kw_only=True):
    id: str
    sandbox_id: str
    config: ContainerConfig
    phase: ContainerPhase
    created_at: int
    boot_id: str
    cgroup: str
    log_path: str
    image_id: str = ""
    image_name: str = ""
    image_ref: str = ""
    stop_signal: str = "SIGTERM"
    user: tuple[int, int, list[int]] | None = None
    resources: LinuxResources = field(default_factory=LinuxResources)
    process: Process = Process()
    conmon: Process = Process()
    started_at: int = 0
    finished_at: int = 0
    exit_code: int = 0
    reason: str = ""
    message: str = ""


class Layout:
    """The paths below the data and the run directory.

    <data>/sandboxes/<sandbox>                records
    <data>/containers/<container>/record, upper/, work/, volumes/
    <run>/sandboxes/<sandbox>/net, ipc, uts, pid    pinned namespaces
    <run>/sandboxes/<sandbox>/shm, hostname, resolv.conf
    <run>/containers/<container>/             the OCI bundle; conmon's pid, attach and ctl files
    <run>/exits/<container>                   exit code, written by conmon
    <run>/oci/                                the OCI runtime's own state
    <run>/bin/                                the OCI runtime's program, mounted read-only
    """

    def __init__(self, data_dir: Path, run_dir: Path) -> None:
        self.sandbox_records = data_dir / "sandboxes"
        self.containers = data_dir / "containers"
        self.host_changes = data_dir / "host.json"
        self.sandboxes = run_dir / "sandboxes"
        self.bundles = run_dir / "containers"
        self.exits = run_dir / "exits"
        self.oci = run_dir / "oci"
        self.pause = run_dir / "pause"
        self.programs = run_dir / "bin"

    def create(self) -> None:
        for directory in vars(self).values():
            if directory != self.host_changes:
                directory.mkdir(parents=True, exist_ok=True, mode=0o700)


class Records:
    """Reads and writes records. Blocking; a write takes well under 0.1 ms."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def container_dir(self, container_id: str) -> Path:
        return self._layout.containers / container_id

    def write_sandbox(self, record: SandboxRecord) -> None:
        _append(self._layout.sandbox_records / record.id, msgspec.json.encode(record))

    def write_container(self, record: ContainerRecord) -> None:
        """The container's directory must be there."""
        _append(self.container_dir(record.id) / "record", msgspec.json.encode(record))

    def remove_sandbox(self, sandbox_id: str) -> None:
        (self._layout.sandbox_records / sandbox_id).unlink(missing_ok=True)

    def remove_container(self, container_id: str) -> None:
        """With the writable layer. The record goes last: a removal that is cut short is found and repeated."""
        directory = self.container_dir(container_id)
        for name in ("work", "upper", "volumes"):
            tree.remove(directory / name)
        (directory / "record").unlink(missing_ok=True)
        with contextlib.suppress(FileNotFoundError):
            directory.rmdir()

    def load_sandboxes(self) -> Iterator[tuple[str, SandboxRecord | None]]:
        """All sandboxes by ID; None for one without a readable record."""
        for path in sorted(self._layout.sandbox_records.iterdir()):
            yield path.name, _load(path, SandboxRecord)

    def load_containers(self) -> Iterator[tuple[str, ContainerRecord | None]]:
        for directory in sorted(self._layout.containers.iterdir()):
            yield directory.name, _load(directory / "record", ContainerRecord)


_COMPACT_AT = 256 << 10
"""Bytes from which a record is written anew instead of growing on."""


def _append(path: Path, line: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        if os.fstat(descriptor).st_size > _COMPACT_AT:
            write_atomically(path, line + b"\n")
        else:
            # The newline before ends a line that an agent killed in the middle of it has left.
            os.write(descriptor, b"\n" + line + b"\n")
    finally:
        os.close(descriptor)


def write_atomically(path: Path, data: bytes) -> None:
    """Replaces a file; a reader sees the old or the new content."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(data)
    os.chmod(temporary, 0o600)
    os.rename(temporary, path)


def _load(path: Path, kind: type[T]) -> T | None:
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return None
    for line in reversed(lines):
        if line:
            try:
                return msgspec.json.decode(line, type=kind)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                log.warning("%s has a damaged line: %s", path, document_error.reason(error))
    return None


def boot_id() -> str:
    """Differs after each boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 when there is none, or only a zombie, with this ID."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return 0 if fields[0] in (b"Z", b"X") else int(fields[19])
