"""An image storage opened for a test, pulls into it, and what must not be left in it."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from tests.support.proxy import Proxy
from tools import images
from tools.oci_layout import ImageSpec, LayoutWriter

from podling.runtime.native.image import ImageStore
from podling.runtime.protocol import AuthConfig, ImagePullError


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
    """Processes that have a lock of the storage open: skopeo, what unpacks layers, and their children."""
    images = directory / "images"
    locks = re.compile(f"{re.escape(str(images))}/(podling.lock|podling-tmp/place-[^/]*)( \\(deleted\\))?")
    found = []
    for process in os.listdir("/proc"):
        if not process.isdigit() or int(process) == os.getpid():
            continue
        # Processes and their files go while they are looked at.
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{process}/fd"):
                with suppress(OSError):
                    if locks.fullmatch(os.readlink(f"/proc/{process}/fd/{fd}")):
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
    }


NOTHING: dict[str, list[str]] = {key: [] for key in ("layers", "blobs", "temporary", "mounts")}


def build(directory: Path, *specs: ImageSpec) -> images.BuiltImage:
    return images.BuiltImage("test", directory, LayoutWriter(directory).write(*specs))


def through(proxy: Proxy, directory: Path) -> Path:
    """A registries.conf that reaches docker.io's images through the proxy."""
    conf = directory / "through-proxy.conf"
    conf.write_text(f'[[registry]]\nprefix = "docker.io"\nlocation = "{proxy.address}/docker.io"\ninsecure = true\n')
    return conf


def pull_failure(
    directory: Path, registries_conf: Path, name: str, auth: AuthConfig | None = None, stall_seconds: float = 60
) -> ImagePullError:
    async def run() -> ImagePullError:
        async with store(directory, registries_conf, stall_seconds=stall_seconds) as images_store:
            with pytest.raises(ImagePullError) as error:
                await images_store.pull_image(name, auth)
            assert await images_store.list_images() == []
            return error.value

    return asyncio.run(run())


PULLER = """
import asyncio, sys
from pathlib import Path
from podling.runtime.native.image import ImageStore

async def main():
    store = ImageStore(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
    await store.open()
    await store.pull_image(sys.argv[4])

asyncio.run(main())
"""
