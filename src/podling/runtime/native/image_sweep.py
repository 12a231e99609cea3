"""Removes what interrupted pulls leave behind: finished layers that belong to no image, and temporary files.

skopeo has no command for it. While a pull is retried such layers save fetching them again, so they are swept only when
nobody writes to the storage (Skopeo.sole_writer), and under the storage's own locks, for the sake of other tools.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from podling.runtime.native.image_metadata import Metadata
from podling.runtime.native.image_skopeo import Skopeo


def sweep(skopeo: Skopeo, metadata: Metadata) -> int:
    """Returns how many layers were removed. Does nothing while somebody writes. Blocks."""
    with skopeo.sole_writer() as alone:
        if not alone:
            return 0
        for leftover in skopeo.tmp.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        if not metadata.snapshot().orphans():
            return 0
        with _locked(metadata.root / "overlay-layers" / "layers.lock"):
            # Again: another tool may have made an image of them before it gave up its lock.
            orphans = metadata.snapshot().orphans()
            _forget(metadata.root, orphans)
            for layer in orphans:
                _delete(metadata.root, layer)
        return len(orphans)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """The storage's lock (lockfile_unix.go): a POSIX write lock on the whole file.

    The content names the last writer; a new one makes others read the metadata again.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX)
        os.pwrite(fd, os.urandom(64), 0)
        yield
    finally:
        os.close(fd)


def _forget(root: Path, layers: set[str]) -> None:
    """Takes the layers out of layers.json. Fields that we do not know stay as they are."""
    path = root / "overlay-layers" / "layers.json"
    entries = [entry for entry in json.loads(path.read_bytes()) if entry["id"] not in layers]
    new = path.with_name(".podling-layers.json")
    with open(new, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        json.dump(entries, f, separators=(",", ":"))
        f.flush()
        os.fsync(f.fileno())
    new.replace(path)


def _delete(root: Path, layer: str) -> None:
    directory = root / "overlay" / layer
    with contextlib.suppress(FileNotFoundError):
        (root / "overlay" / "l" / (directory / "link").read_text().strip()).unlink()
    (root / "overlay-layers" / f"{layer}.tar-split.gz").unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
