"""Removes what interrupted pulls leave behind: images without all their parts, layers of no image, temporary files.

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


def sweep(skopeo: Skopeo, metadata: Metadata) -> None:
    """Does nothing while somebody writes. Blocks."""
    with skopeo.sole_writer() as alone:
        if not alone:
            return
        for leftover in skopeo.tmp.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        images = metadata.root / "overlay-images"
        if metadata.broken():
            with _locked(images / "images.lock"):
                # Again: another tool may have written before it gave up its lock.
                broken = metadata.broken()
                _forget(images / "images.json", broken)
                for image in broken:
                    shutil.rmtree(images / image, ignore_errors=True)
        layers = metadata.root / "overlay-layers"
        if metadata.snapshot().orphans():
            with _locked(layers / "layers.lock"):
                orphans = metadata.snapshot().orphans()
                _forget(layers / "layers.json", orphans)
                for layer in orphans:
                    _delete_layer(metadata.root, layer)


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


def _forget(path: Path, ids: set[str]) -> None:
    """Takes the entries out of images.json or layers.json. Fields that we do not know stay as they are."""
    entries = [entry for entry in json.loads(path.read_bytes()) if entry["id"] not in ids]
    new = path.with_name(f".podling-{path.name}")
    with open(new, "w", opener=lambda p, flags: os.open(p, flags, 0o600)) as f:
        json.dump(entries, f, separators=(",", ":"))
        f.flush()
        os.fsync(f.fileno())
    new.replace(path)


def _delete_layer(root: Path, layer: str) -> None:
    directory = root / "overlay" / layer
    with contextlib.suppress(FileNotFoundError):
        (root / "overlay" / "l" / (directory / "link").read_text().strip()).unlink()
    (root / "overlay-layers" / f"{layer}.tar-split.gz").unlink(missing_ok=True)
    shutil.rmtree(directory, ignore_errors=True)
