"""One command at a time changes a cluster: of two that start it, or one that starts and one that removes it, one waits."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

FILE = ".lock"
"""In the data directory, for root only: others could make commands wait for ever."""


@contextlib.contextmanager
def held(data_dir: Path, *, create: bool = False) -> Iterator[None]:
    """Waits for its turn, and says so. Without `create`, and where nothing can be made, there is no turn to wait for.

    What was created is deleted again if nothing has come beside it.
    """
    path = data_dir / FILE
    made = create and not data_dir.exists()
    fd = _acquire(path, create=create)
    try:
        yield
    finally:
        if fd >= 0:
            with contextlib.suppress(OSError):
                if create and os.listdir(data_dir) == [FILE]:
                    path.unlink()
                    if made:
                        data_dir.rmdir()
            os.close(fd)


def _acquire(path: Path, *, create: bool) -> int:
    """A descriptor, or -1: then the command will say what is wrong with the directory."""
    while True:
        try:
            if create:
                path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        except OSError:
            return -1
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another podling command ...", flush=True)
            fcntl.flock(fd, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                return fd
        os.close(fd)  # who held it has deleted it
