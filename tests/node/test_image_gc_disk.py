"""Image garbage collection over a real storage on a disk of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from tests.support import raw_image
from tests.support.image_store import NOTHING, leftovers, store
from tests.support.native import Node, make_busybox
from tests.support.raw_image import member, tar

from podling.client.events import EventRecorder
from podling.kubelet.image_gc import ImageGC, ImageGCPolicy, disk_space
from podling.runtime.native import syscalls
from podling.runtime.native.image import ImageStore
from podling.runtime.protocol import Mount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DISK = 20_000_000
IMAGE = 1_900_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "disk"
    directory.mkdir()
    syscalls.mount("tmpfs", directory, "tmpfs", 0, f"size={DISK}")
    yield directory
    syscalls.umount(directory)


async def load(images: ImageStore, directory: Path, name: str) -> str:
    """An image of which five do not fit on the disk, packed and unpacked, but four do."""
    layout = directory / name
    raw_image.image([tar(member(name, os.urandom(IMAGE)))], compression="").layout(layout, f"{name}:1")
    (image_id,) = await images.load(layout)
    return image_id


def test_full_disk_loses_the_images_that_nothing_needs_and_no_other(tmp_path: Path, disk: Path) -> None:
    async def run() -> None:
        recorder = cast(EventRecorder, None)  # nothing fails, so nothing is said
        async with (
            store(disk) as images,
            Node(tmp_path / "node", make_busybox(tmp_path / "busybox")) as node,
        ):
            policy = ImageGCPolicy(high_threshold_percent=70, low_threshold_percent=60, minimum_age=0)
            gc = ImageGC(images, node.runtime, recorder, "node", policy)
            free, pinned, used = [await load(images, tmp_path, name) for name in ("free", "pinned", "used")]
            await images.pin("pinned:1")
            await gc.collect()
            assert len(await images.list_images()) == 3
            # A container that has mounted the image, by way of the runtime's own records.
            image = await images.image_status(used)
            assert image is not None
            node.images.images[used] = (image, await images.layers(used))
            mount = Mount(container_path="/volume", host_path="", image=used)
            sandbox = await node.pod()
            await node.finish(sandbox, "test -s /volume/used", mounts=[mount])

            more = await load(images, tmp_path, "more")
            capacity, available = disk_space(str(disk))
            assert available < capacity * 0.3
            await gc.collect()
            # The oldest one goes; that is enough.
            left = {one.id for one in await images.list_images()}
            assert left == {pinned, used, more}
            capacity, available = disk_space(str(disk))
            assert available >= capacity * 0.39
            assert free not in left

            assert await gc.delete_unused() > IMAGE
            assert {one.id for one in await images.list_images()} == {pinned, used}
            await node.runtime.remove_pod_sandbox(sandbox)
            assert await gc.in_use() == set()
            await images.pin("pinned:1", pinned=False)
            await gc.delete_unused()
            assert {**leftovers(disk), "mounts": []} == NOTHING

    asyncio.run(run())
