"""Runs skopeo: the one place that knows its options and environment.

skopeo moves blobs between registries, archives and directories of blobs. Nothing outside the directories given is read or
written: policy and temporary files are given, too. A shared file lock marks that somebody changes the storage; what comes
from a registry, at the registry's pace, comes into a place of its own, with a lock of its own. skopeo and its children inherit
the locks, so they tell the truth even when this process dies (image_sweep relies on it).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from podling.kit import program
from podling.runtime import tree
from podling.runtime.native import image_manifest
from podling.runtime.protocol import CRIError

_POLICY = {"default": [{"type": "insecureAcceptAnything"}]}
"""Signatures are not asked for, as in containerd."""


_PROGRESS_SECONDS = 1.0
_PLACE = "place-"

_PLAIN_PATH = re.compile(r"/[^\[\]@+:,]*")
"""What can stand in skopeo's names for places: the rest separates their parts."""


class SkopeoError(Exception):
    """skopeo failed; the text is its last error message, without time stamp and level."""


class SkopeoStalled(SkopeoError):
    """Too few bytes arrived in the time that was given."""


class Place(Struct, frozen=True):
    """A directory for the blobs of one image on their way. While `lock` is open, here or in a child, nobody sweeps it."""

    directory: Path
    lock: int

    @property
    def blobs(self) -> Path:
        return self.directory / "blobs"

    def blob(self, digest: str) -> Path:
        return self.blobs / "sha256" / digest.removeprefix("sha256:")

    def add(self, data: bytes) -> str:
        """Return the digest; the blob is on the disk, as those that skopeo writes. Blocks."""
        digest = image_manifest.digest_of(data)
        with open(self.blob(digest), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        return digest


class Skopeo:
    """skopeo with its files below `root` and, what need not survive a reboot, `run_root`."""

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
        if not _PLAIN_PATH.fullmatch(str(self._root)):
            raise CRIError("InvalidDirectory", f"{self._root}: skopeo cannot use a directory with such a name")
        for directory in (self._root, self._run_root, self.tmp):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        _write(self._run_root / "policy.json", json.dumps(_POLICY))

    @contextlib.contextmanager
    def layout(self, manifest: str) -> Iterator[Path]:
        """An OCI layout that holds `manifest`, a JSON descriptor."""
        with tempfile.TemporaryDirectory(prefix="layout-", dir=self.tmp) as directory:
            layout = Path(directory)
            (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
            (layout / "index.json").write_text(f'{{"schemaVersion":2,"manifests":[{manifest}]}}')
            yield layout

    @contextlib.asynccontextmanager
    async def place(self) -> AsyncIterator[Place]:
        """A new place, which is removed with the block."""
        async with self.writing():  # it must not be swept before it is locked
            directory = Path(tempfile.mkdtemp(prefix=_PLACE, dir=self.tmp))
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        try:
            place = Place(directory, lock)
            (place.blobs / "sha256").mkdir(parents=True)
            yield place
        finally:
            try:
                await asyncio.to_thread(tree.remove, directory)
            finally:
                os.close(lock)

    def remove_leftovers(self) -> None:
        """Removes temporary files, but for the places that somebody holds. Blocks. The caller is `sole_writer`."""
        for leftover in self.tmp.iterdir():
            if not leftover.is_dir():
                leftover.unlink()
            elif not (leftover.name.startswith(_PLACE) and _is_locked(leftover)):
                tree.remove(leftover)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[int]:
        """Marks a change of the storage, for as long as the descriptor (or a child's copy of it) is open."""
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

    async def run(
        self,
        *args: str,
        lock: int,
        tmp: Path | None = None,
        progress: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        stall_seconds: float = 0,
        stall_bytes: int = 1,
        file_bytes: int | None = None,
    ) -> bytes:
        """Runs one skopeo command, within `writing` or `place`, of which `lock` is; returns what it says.

        `tmp` is for its temporary files. Its progress output goes to the descriptor `progress`, if there is one, and is
        not returned then. `on_progress` is told every second how many bytes it has written; what it raises ends skopeo.
        No file gets longer than `file_bytes`. Raises SkopeoError; SkopeoStalled when it reads fewer than `stall_bytes` in
        `stall_seconds` (0: no limit). Cancelling kills it and its children, and returns when they are gone.
        """
        argv: Sequence[str] = (
            # skopeo must not outlive this process: nobody would wait for it.
            *("setpriv", "--pdeathsig", "KILL", "--"),
            *(("prlimit", f"--fsize={file_bytes}", "--") if file_bytes is not None else ()),
            self._program,
            *("--policy", str(self._run_root / "policy.json"), "--tmpdir", str(tmp or self.tmp)),
            *(("--registries-conf", str(self._registries_conf)) if self._registries_conf else ()),
            *args,
        )
        environment = {
            **os.environ,
            # The cache of blob locations is for registries; it lies in the user's data directory for rootless users, and
            # in memory where that cannot be made. Its file would grow for ever, beyond `file_bytes` in the end.
            "_CONTAINERS_ROOTLESS_UID": "1",
            "XDG_DATA_HOME": "/dev/null",
            # Whoever started Podling has no say in where images come from, the machine's configuration has.
            "HOME": str(self._root / "podling-cache"),
        }
        output = asyncio.subprocess.PIPE if progress is None else progress
        async with program.running(*argv, env=environment, stdout=output, pass_fds=(lock,)) as process:
            stdout, stderr = await _watched(process, on_progress, stall_seconds or math.inf, stall_bytes)
        code = process.returncode
        if code:
            raise SkopeoError(_message(stderr.decode(errors="replace"), code))
        return stdout or b""


def _is_locked(directory: Path) -> bool:
    try:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False


async def _watched(
    process: asyncio.subprocess.Process,
    on_progress: Callable[[int], None] | None,
    stall_seconds: float,
    stall_bytes: int,
) -> tuple[bytes, bytes]:
    """What it writes to standard output and error until it ends."""
    reading = asyncio.ensure_future(process.communicate())
    try:
        mark, marked_at = 0, time.monotonic()
        while True:
            done, _ = await asyncio.wait((reading,), timeout=min(_PROGRESS_SECONDS, stall_seconds))
            if done:
                return reading.result()
            moved, now = _bytes_moved(process.pid), time.monotonic()
            read = moved[0] if moved is not None else mark
            if read - mark >= stall_bytes:
                mark, marked_at = read, now
            elif now - marked_at >= stall_seconds:
                slow = f"too slow: {read - mark} bytes in {stall_seconds:g}s, at least {stall_bytes} are expected"
                raise SkopeoStalled(slow if read > mark else f"no progress for {stall_seconds:g}s")
            if on_progress is not None and moved is not None:
                on_progress(moved[1])
    finally:
        reading.cancel()


def _bytes_moved(pid: int) -> tuple[int, int] | None:
    """Bytes that the process has read and written so far, sockets included (proc(5), /proc/pid/io). None: it has ended."""
    try:
        with open(f"/proc/{pid}/io") as f:
            read, written = (int(line.split()[1]) for line in f if line.startswith(("rchar", "wchar")))
            return read, written
    except (FileNotFoundError, ProcessLookupError):
        return None


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
