"""The newest acknowledged revision, in a small file beside the database.

A write-ahead log that was damaged, or cut off, ends for SQLite where the damage begins: it opens an older state, and
does not tell. This file does. It is written after each commit, before the acknowledgement, and never synced: after a
power cut it may be behind the database, but it is never ahead of what was on the disk.
"""

from __future__ import annotations

import logging
import os
import zlib
from pathlib import Path

log = logging.getLogger(__name__)


class Acknowledged:
    """Blocking. Raises OSError if the file cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._complained = False

    def read(self) -> int:
        """Return the revision, or 0 if the file does not tell."""
        line = os.pread(self._fd, 64, 0)
        try:
            revision = int(line.split()[0])
        except (IndexError, ValueError):
            return 0
        return revision if line == _line(revision) else 0

    def write(self, revision: int) -> None:
        """Never raises: the record is durable by now, whatever happens to this note of it."""
        try:
            os.pwrite(self._fd, _line(revision), 0)
            self._complained = False
        except OSError as error:
            if not self._complained:
                self._complained = True
                log.warning("%s cannot be written: %s", self._path, error.strerror)

    def close(self) -> None:
        os.close(self._fd)


def _line(revision: int) -> bytes:
    """Always as long, so that it replaces the one before at once; with a checksum, for nothing syncs it."""
    digits = b"%020d" % revision
    return digits + b" %08x\n" % zlib.crc32(digits)
