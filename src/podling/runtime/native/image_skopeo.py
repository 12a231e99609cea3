"""Runs skopeo on the image storage: the one place that knows its options and environment.

Nothing outside the storage's own directories is read or written: policy, storage configuration, blob cache and
temporary files are all given. A shared file lock marks that somebody writes; skopeo and its children inherit it, so it
tells the truth even when this process dies (image_sweep relies on it).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

from podling.runtime.protocol import CRIError

_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
"""Signatures are not asked for, as in containerd."""


_PLAIN_PATH = re.compile(r"/[^\[\]@+:,]*")
"""What can stand in the name of a storage: the rest separates its parts."""


class SkopeoError(Exception):
    """skopeo failed; the text is its last error message, without time stamp and level."""


class SkopeoStalled(SkopeoError):
    """No byte moved for the time that was given."""


class Skopeo:
    """skopeo bound to the storage `root` with `run_root`."""

    def __init__(self, root: Path, run_root: Path, registries_conf: Path | None, program: str = "skopeo") -> None:
        self._root = root
        self._run_root = run_root
        self._registries_conf = registries_conf
        self._program = program
        self._lock_file = root / "podling.lock"
        self.tmp = root / "podling-tmp"

    def prepare(self) -> None:
        """Makes directories and configuration files. Blocks. Raises CRIError."""
        if shutil.which(self._program) is None:
            raise CRIError("SkopeoMissing", f"{self._program} is not installed; images are pulled with it")
        for directory in (self._root, self._run_root):
            if not _PLAIN_PATH.fullmatch(str(directory)):
                raise CRIError("InvalidDirectory", f"{directory}: skopeo cannot use a directory with such a name")
        for directory in (self._root, self._run_root, self.tmp):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        storage = (
            f'[storage]\ndriver = "overlay"\ngraphroot = {json.dumps(str(self._root / "storage"))}\n'
            f"runroot = {json.dumps(str(self._run_root))}\n"
        )
        _write(self._run_root / "storage.conf", storage)
        _write(self._run_root / "policy.json", json.dumps(_POLICY))

    @property
    def storage_root(self) -> Path:
        return self._root / "storage"

    def storage(self, name: str) -> str:
        """How skopeo names the image `name` (or `@ID`) of this storage."""
        # Without skip_mount_home the storage's directory becomes a mount point, which outlives skopeo.
        return f"containers-storage:[overlay@{self.storage_root}+{self._run_root}:overlay.skip_mount_home=true]{name}"

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[int]:
        """Marks a write to the storage, for as long as the descriptor (or a child's copy of it) is open."""
        fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.to_thread(fcntl.flock, fd, fcntl.LOCK_SH)
            yield fd
        finally:
            os.close(fd)

    @contextlib.contextmanager
    def sole_writer(self) -> Iterator[bool]:
        """True if nobody writes, and then nobody begins before this ends."""
        fd = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(fd)

    async def run(self, *args: str, progress: int | None = None, stall_seconds: float = 0) -> None:
        """Runs one skopeo command; its progress output goes to the descriptor `progress`.

        Raises SkopeoError; SkopeoStalled when it neither reads nor writes for `stall_seconds` (0: no limit). Cancelling
        kills it and its children, and returns when they are gone.
        """
        argv: Sequence[str] = (
            # skopeo must not outlive this process: nobody would wait for it.
            *("setpriv", "--pdeathsig", "KILL", "--", self._program),
            *("--policy", str(self._run_root / "policy.json"), "--tmpdir", str(self.tmp)),
            *(("--registries-conf", str(self._registries_conf)) if self._registries_conf else ()),
            *args,
        )
        environment = {
            **os.environ,
            "CONTAINERS_STORAGE_CONF": str(self._run_root / "storage.conf"),
            # The cache of blob locations lies in the user's data directory for rootless users only; this keeps it
            # beside the images, not in the system's /var/lib/containers.
            "_CONTAINERS_ROOTLESS_UID": "1",
            "XDG_DATA_HOME": str(self._root / "podling-cache"),
            # Whoever started Podling has no say in where images come from, the machine's configuration has.
            "HOME": str(self._root / "podling-cache"),
        }
        async with self.writing() as lock:
            process = await asyncio.create_subprocess_exec(
                *argv,
                env=environment,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL if progress is None else progress,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                pass_fds=(lock,),
            )
        assert process.stderr is not None
        try:
            if stall_seconds:
                stderr = await _unless_stalled(process, process.stderr, stall_seconds)
            else:
                stderr = await process.stderr.read()
            code = await process.wait()
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            raise
        if code:
            raise SkopeoError(_message(stderr.decode(errors="replace"), code))


async def _unless_stalled(process: asyncio.subprocess.Process, stderr: asyncio.StreamReader, seconds: float) -> bytes:
    reading = asyncio.ensure_future(stderr.read())
    try:
        moved = -1
        while True:
            done, _ = await asyncio.wait((reading,), timeout=seconds)
            if done:
                return reading.result()
            before, moved = moved, _bytes_moved(process.pid)
            if moved == before:
                raise SkopeoStalled(f"no progress for {seconds:g}s")
    finally:
        reading.cancel()


def _bytes_moved(pid: int) -> int:
    """Bytes that the process has read and written so far, sockets included (proc(5), /proc/pid/io)."""
    try:
        with open(f"/proc/{pid}/io") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith(("rchar", "wchar")))
    except (FileNotFoundError, ProcessLookupError):
        return -1


def _message(stderr: str, code: int) -> str:
    """The message of skopeo's last log line: time="..." level=fatal msg="..."."""
    for line in reversed(stderr.strip().splitlines()):
        if "level=fatal" in line or "level=error" in line:
            _, _, quoted = line.partition(" msg=")
            try:
                return str(json.loads(quoted))
            except ValueError:
                return quoted
    text = stderr.strip()
    if text:
        return text
    return f"skopeo was killed by signal {-code}" if code < 0 else f"skopeo ended with exit code {code}"


def _write(path: Path, text: str) -> None:
    """Replaces the file only if its content changes; other processes may be reading it."""
    if path.exists() and path.read_text() == text:
        return
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(text)
    new.replace(path)
