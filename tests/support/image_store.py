"""An image storage opened for a test, and what must not be left in it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from podling.runtime.native.image import ImageStore


@asynccontextmanager
async def store(
    directory: Path, registries_conf: Path | None = None, *, stall_seconds: float = 60, **settings: Any
) -> AsyncIterator[ImageStore]:
    """Its files are below `directory`."""
    images_store = ImageStore(
        directory / "images", directory / "run", registries_conf, stall_seconds=stall_seconds, **settings
    )
    await images_store.open()
    try:
        yield images_store
    finally:
        await images_store.close()


def writers(directory: Path) -> list[int]:
    """Processes that have the storage's lock open: skopeo, what unpacks layers, and their children."""
    lock = str(directory / "images" / "podling.lock")
    found = []
    for process in os.listdir("/proc"):
        if not process.isdigit() or int(process) == os.getpid():
            continue
        # Processes and their files go while they are looked at.
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    if os.readlink(f"/proc/{process}/fd/{fd}") == lock:
                        found.append(int(process))
    return found


def leftovers(directory: Path) -> dict[str, list[str]]:
    """What a storage without images should be free of."""
    images = directory / "images"
    return {
        "layers": os.listdir(images / "layers"),
        "blobs": os.listdir(images / "blobs" / "sha256"),
        "temporary": os.listdir(images / "podling-tmp"),
        "mounts": [m for m in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in m],
        "credentials": [p.name for p in (directory / "run").glob("auth-*")],
    }


NOTHING: dict[str, list[str]] = {key: [] for key in ("layers", "blobs", "temporary", "mounts", "credentials")}
