"""Which images are pinned: garbage collection and `podling image prune` leave them alone (Image.pinned of CRI).

One name or ID a line, in a file that whoever changes it replaces as a whole.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from podling.runtime.protocol import Image


class Pins:
    """Those in `file`, which need not be there."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._identity: tuple[int, int, int] | None = None
        self._pinned: frozenset[str] = frozenset()

    def __contains__(self, image: Image) -> bool:
        """By ID or any name."""
        pinned = self._read()
        return bool(pinned) and not pinned.isdisjoint((image.id, *image.repo_tags, *image.repo_digests))

    def add(self, *names: str) -> None:
        """Complete names (docker.io/library/nginx:latest), digest references or IDs (sha256:...). Blocks. Idempotent."""
        self._change(add=set(names), remove=set())

    def remove(self, *names: str) -> None:
        """Blocks. Idempotent."""
        self._change(add=set(), remove=set(names))

    def _read(self) -> frozenset[str]:
        try:
            stat = os.stat(self._file)
            identity = stat.st_ino, stat.st_mtime_ns, stat.st_size
            if identity != self._identity:
                self._pinned = frozenset(self._file.read_text().split())
                self._identity = identity
        except FileNotFoundError:
            self._pinned, self._identity = frozenset(), None
        return self._pinned

    def _change(self, add: set[str], remove: set[str]) -> None:
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            names = (self._read() | add) - remove
            new = self._file.with_suffix(".new")
            new.write_text("".join(f"{name}\n" for name in sorted(names)))
            new.replace(self._file)
