"""Deletes images that no container needs when the disk fills up, or when they have not been used for long.

Source: Kubernetes documentation "Garbage Collection" (container image lifecycle; imageGCHighThresholdPercent,
imageGCLowThresholdPercent, imageMinimumGCAge, imageMaximumGCAge); events as the kubelet's image GC manager writes them.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Awaitable, Callable

from msgspec import Struct

from podling.api.core.v1 import ObjectReference
from podling.client.events import EventRecorder
from podling.kit import file_error
from podling.runtime.protocol import CRIError, Image, ImageService, RuntimeService

log = logging.getLogger(__name__)


class ImageGCPolicy(Struct, frozen=True, kw_only=True):
    """Upstream's defaults. Shares in percent of the disk, times in seconds; a `maximum_age` of 0 means no limit."""

    high_threshold_percent: int = 85
    low_threshold_percent: int = 80
    minimum_age: float = 120.0
    maximum_age: float = 0.0
    interval: float = 300.0

    def __post_init__(self) -> None:
        for name in ("high_threshold_percent", "low_threshold_percent"):
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"invalid {name} {getattr(self, name)}, must be in range [0-100]")
        if self.low_threshold_percent > self.high_threshold_percent:
            raise ValueError("low_threshold_percent can not be higher than high_threshold_percent")


class ImageGCFailed(Exception):
    """Less could be freed than was needed, or the disk cannot be measured."""


class _Record(Struct):
    first_detected: float
    last_used: float
    size: int = 0


Disk = Callable[[str], tuple[int, int]]
"""(capacity, available) in bytes of the file system that holds a path."""


def disk_space(path: str) -> tuple[int, int]:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


class ImageGC:
    """One node's. `run` is its owner task; it awaits `collected` after each pass."""

    def __init__(
        self,
        images: ImageService,
        runtime: RuntimeService,
        recorder: EventRecorder,
        node_name: str,
        policy: ImageGCPolicy | None = None,
        *,
        collected: Callable[[], Awaitable[None]] | None = None,
        disk: Disk = disk_space,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._images = images
        self._runtime = runtime
        self._recorder = recorder
        self._node = ObjectReference(kind="Node", name=node_name, uid=node_name)
        self._policy = policy or ImageGCPolicy()
        self._collected = collected
        self._disk = disk
        self._clock = clock
        self._records: dict[str, _Record] = {}
        self._began = clock()

    async def run(self) -> None:
        """Until cancelled. A first failure is logged only, since the disk may just be filling; the next is an event."""
        # What is there from the start counts as old: it may be deleted at once.
        await self._detect(float("-inf"))
        failed = False
        while True:
            await asyncio.sleep(self._policy.interval)
            try:
                await self.collect()
                failed = False
            except (ImageGCFailed, CRIError, OSError) as error:
                text = file_error.reason(error)
                log.warning("image garbage collection failed: %s", text)
                if failed:
                    self._recorder.event(self._node, "Warning", "ImageGCFailed", text)
                failed = True
            if self._collected is not None:
                await self._collected()

    async def collect(self) -> None:
        """One pass. Raises ImageGCFailed, CRIError, OSError."""
        now = self._clock()
        images = await self._candidates(now)
        if self._policy.maximum_age > 0 and now - self._began > self._policy.maximum_age:
            images = await self._delete_old(images, now)
        mountpoint = (await self._images.image_fs_info()).mountpoint
        capacity, available = await asyncio.to_thread(self._disk, mountpoint)
        available = min(available, capacity)
        if capacity == 0:
            text = "invalid capacity 0 on image filesystem"
            self._recorder.event(self._node, "Warning", "InvalidDiskCapacity", text)
            raise ImageGCFailed(text)
        usage = 100 - available * 100 // capacity
        if usage < self._policy.high_threshold_percent:
            return
        wanted = capacity * (100 - self._policy.low_threshold_percent) // 100 - available
        log.info("%s%% of the images' disk is in use: trying to free %d bytes", usage, wanted)
        freed = await self._free(images, wanted, now)
        if freed < wanted:
            text = (
                f"Failed to garbage collect required amount of images. Attempted to free {wanted} bytes, "
                f"but only found {freed} bytes eligible to free."
            )
            self._recorder.event(self._node, "Warning", "FreeDiskSpaceFailed", text)
            raise ImageGCFailed(text)

    async def delete_unused(self) -> int:
        """All images that may be deleted, whatever the disk says (for a node under disk pressure); bytes freed."""
        now = self._clock()
        return await self._free(await self._candidates(now), 1 << 62, now)

    async def in_use(self) -> set[str]:
        """IDs of the images that containers stand on, running or not, image volumes among them."""
        used: set[str] = set()
        for status in await self._runtime.list_containers():
            used.add(status.image_id)
            used.update(mount.image for mount in status.mounts if mount.image)
        return used

    async def _detect(self, now: float) -> tuple[list[Image], set[str]]:
        """Brings the records up to date. An image in use was last used now."""
        used = await self.in_use()
        images = list(await self._images.list_images())
        for image in images:
            record = self._records.setdefault(image.id, _Record(now, float("-inf")))
            record.size = image.size
            if image.id in used:
                record.last_used = self._clock()
        for gone in self._records.keys() - {image.id for image in images}:
            del self._records[gone]
        return images, used

    async def _candidates(self, now: float) -> list[Image]:
        """Images that may be deleted, those first whose last use is longest ago."""
        images, used = await self._detect(now)
        free = [image for image in images if image.id not in used and not image.pinned]
        return sorted(free, key=lambda i: (self._records[i.id].last_used, self._records[i.id].first_detected, i.id))

    async def _delete_old(self, images: list[Image], now: float) -> list[Image]:
        kept = []
        for image in images:
            record = self._records[image.id]
            # Of an image that was never used, what counts is how long it has been here.
            since = max(record.last_used, record.first_detected, self._began)
            if now - since > self._policy.maximum_age:
                await self._delete(image)
            else:
                kept.append(image)
        return kept

    async def _free(self, images: list[Image], wanted: int, now: float) -> int:
        """Bytes freed, by the sizes of the images as upstream counts them: layers that others share count too."""
        freed, errors = 0, []
        for image in images:
            if freed >= wanted:
                break
            if now - self._records[image.id].first_detected < self._policy.minimum_age:
                continue
            try:
                freed += await self._delete(image)
            except CRIError as error:
                errors.append(error.message)
        if errors:
            raise ImageGCFailed(
                f"wanted to free {wanted} bytes, but freed {freed} bytes space with errors in image deletion: "
                f"[{', '.join(errors)}]"
            )
        return freed

    async def _delete(self, image: Image) -> int:
        # A Pod may have begun to use it while others were deleted.
        if image.id in await self.in_use():
            return 0
        log.info("deleting image %s (%d bytes): %s", image.id, image.size, ", ".join(image.repo_tags))
        await self._images.remove_image(image.id)
        self._records.pop(image.id, None)
        return image.size
