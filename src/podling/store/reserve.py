"""Disk space that is kept for deletions: on a full disk they are what helps, and each of them needs some.

It is a file without content beside the database. What it gives is at once bound to the file that is to be written: who
filled the disk would else be faster.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
from typing import Final

BYTES: Final = 8 << 20
STEP: Final = 512 << 10
_KEEP_SIZE: Final = 1
"""fallocate(2): the file gets the space, and stays as long as it is."""

_libc = ctypes.CDLL(None, use_errno=True)


class Reserve:
    """Blocking. The file may be smaller than it should be, or missing: then there is less to give."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fill(self) -> bool:
        """Take what is missing, unless that would be most of what the disk has. Returns whether all of it is there."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            size = os.fstat(fd).st_size
            disk = os.fstatvfs(fd)
            if size < BYTES and disk.f_bavail * disk.f_frsize >= 4 * BYTES:
                os.posix_fallocate(fd, 0, BYTES)
                size = BYTES
            return size >= BYTES
        except OSError:
            return False
        finally:
            os.close(fd)

    def give(self, to: Path) -> bool:
        """Move one step over behind the end of another file. Returns False when nothing is left."""
        try:
            size = self._path.stat().st_size
            if not size:
                return False
            fd = os.open(to, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            os.truncate(self._path, max(size - STEP, 0))
            # If it fails, the file system cannot do it or somebody was faster: the write then shows.
            _libc.fallocate(fd, _KEEP_SIZE, ctypes.c_int64(os.fstat(fd).st_size), ctypes.c_int64(STEP))
        except OSError:
            return False
        finally:
            os.close(fd)
        return True
