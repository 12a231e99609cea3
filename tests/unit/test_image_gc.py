"""When which images are deleted: thresholds, ages, order, and what is never deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.client.events import EventRecorder
from podling.kubelet.image_gc import ImageGC, ImageGCFailed, ImageGCPolicy
from podling.runtime.protocol import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    CRIError,
    FilesystemUsage,
    Image,
    ImageService,
    Mount,
    RuntimeService,
)


class Node:
    """A disk of 1000 bytes that holds images, and other things."""

    def __init__(self, policy: ImageGCPolicy | None = None, **sizes: int) -> None:
        self.images = {name: Image(id=name, size=size) for name, size in sizes.items()}
        self.containers: list[ContainerStatus] = []
        self.other = 0
        self.capacity = 1000
        self.now = 1000.0
        self.events: list[tuple[str, str, str, str]] = []
        self.deleted: list[str] = []
        self.undeletable: set[str] = set()
        self.listed = asyncio.Event()
        self.repeated = asyncio.Event()
        self.gc = ImageGC(
            cast(ImageService, self),
            cast(RuntimeService, self),
            cast(EventRecorder, self),
            "node-1",
            policy,
            disk=lambda path: (self.capacity, self.capacity - self.used),
            clock=lambda: self.now,
        )

    @property
    def used(self) -> int:
        return self.other + sum(image.size for image in self.images.values())

    def run_container(self, image: str, *volumes: str) -> None:
        self.containers.append(
            ContainerStatus(
                id=str(len(self.containers)),
                sandbox_id="s",
                metadata=ContainerMetadata(name="c"),
                state=ContainerState.EXITED,
                created_at=0,
                image_id=image,
                mounts=[Mount(container_path="/x", host_path="", image=volume) for volume in volumes],
            )
        )

    async def list_containers(self) -> Sequence[ContainerStatus]:
        return self.containers

    async def list_images(self) -> Sequence[Image]:
        self.listed.set()
        return list(self.images.values())

    async def remove_image(self, image: str) -> None:
        if image in self.undeletable:
            raise CRIError("ImageRemoveFailed", f"{image} is stuck")
        del self.images[image]
        self.deleted.append(image)

    async def image_fs_info(self) -> FilesystemUsage:
        return FilesystemUsage(timestamp=0, mountpoint="/images", used_bytes=0, inodes_used=0)

    def event(self, obj: Any, type: str, reason: str, message: str) -> None:
        assert (obj.kind, obj.name, obj.uid) == ("Node", "node-1", "node-1")
        self.events.append((obj.kind, type, reason, message))
        if reason == "ImageGCFailed":
            self.repeated.set()

    def collect(self, after: float = 0.0) -> list[str]:
        """One pass some seconds later; what was deleted."""
        self.now += after
        self.deleted = []
        asyncio.run(self.gc.collect())
        return self.deleted


def test_below_the_high_threshold_nothing_is_deleted() -> None:
    node = Node(a=400, b=440)
    assert node.collect() == node.collect(after=3600) == []


def test_at_the_high_threshold_images_are_deleted_down_to_the_low_one() -> None:
    node = Node(a=30, b=30, c=30, d=760)
    with pytest.raises(ImageGCFailed):  # all are too young
        node.collect()
    # 850 used of 1000: 50 have to go, the first two are enough.
    assert node.collect(after=3600) == ["a", "b"]
    assert node.used == 790


def test_image_whose_last_use_is_longest_ago_goes_first() -> None:
    node = Node(a=100, b=100, c=100, d=550)
    for name in ("c", "a", "b", "d"):
        node.containers = []
        node.run_container(name)
        with pytest.raises(ImageGCFailed):  # all are too young
            node.collect(after=1)
    node.containers = []
    assert node.collect(after=3600) == ["c"]


def test_image_never_used_goes_before_those_that_were() -> None:
    node = Node(used=100, unused=100, rest=650)
    node.run_container("used")
    node.run_container("rest")
    with pytest.raises(ImageGCFailed):
        node.collect()
    node.containers = []
    assert node.collect(after=3600) == ["unused"]


def test_image_of_a_container_that_has_exited_or_of_a_volume_is_never_deleted() -> None:
    node = Node(main=400, volume=400, free=100)
    node.run_container("main", "volume")
    with pytest.raises(ImageGCFailed):
        node.collect()
    assert node.collect(after=3600) == ["free"]
    node.other = 100
    with pytest.raises(ImageGCFailed):
        node.collect(after=3600)
    assert set(node.images) == {"main", "volume"}


def test_pinned_image_is_never_deleted() -> None:
    node = Node(a=900)
    node.images["a"].pinned = True
    for _ in range(3):
        with pytest.raises(ImageGCFailed):
            node.collect(after=3600)
    assert set(node.images) == {"a"}


def test_image_younger_than_the_minimum_age_stays() -> None:
    node = Node(old=100)
    node.collect()
    node.images["young"] = Image(id="young", size=800)
    node.now += 3600
    assert node.collect() == ["old"]
    node.other = 100
    with pytest.raises(ImageGCFailed):
        node.collect(after=119)
    assert node.collect(after=2) == ["young"]


def test_images_that_were_there_at_the_start_have_no_minimum_age() -> None:
    node = Node(a=900)

    async def run() -> None:
        task = asyncio.create_task(node.gc.run())
        await node.listed.wait()
        await node.gc.collect()
        task.cancel()

    asyncio.run(run())
    assert node.deleted == ["a"]


def test_too_little_to_free_is_an_event_with_upstreams_words() -> None:
    node = Node(a=100)
    node.collect()
    node.other = 850
    message = (
        "Failed to garbage collect required amount of images. Attempted to free 150 bytes, but only found 100 bytes "
        "eligible to free."
    )
    with pytest.raises(ImageGCFailed, match=message):
        node.collect(after=3600)
    assert node.events == [("Node", "Warning", "FreeDiskSpaceFailed", message)]


def test_disk_without_capacity_is_an_event() -> None:
    node = Node(a=1)
    node.capacity = 0
    with pytest.raises(ImageGCFailed):
        node.collect()
    assert node.events == [("Node", "Warning", "InvalidDiskCapacity", "invalid capacity 0 on image filesystem")]


def test_image_that_cannot_be_deleted_does_not_keep_others_from_it() -> None:
    node = Node(a=100, b=100, c=700)
    node.undeletable = {"a"}
    with pytest.raises(ImageGCFailed):
        node.collect()
    with pytest.raises(ImageGCFailed, match=r"errors in image deletion: \[a is stuck\]"):
        node.collect(after=3600)
    assert node.deleted == ["b"]


def test_failure_again_and_again_is_an_event_the_first_one_is_not() -> None:
    node = Node(ImageGCPolicy(interval=0.0))
    node.other = 900

    async def run() -> list[str]:
        task = asyncio.create_task(node.gc.run())
        await asyncio.wait_for(node.repeated.wait(), 30)
        task.cancel()
        await asyncio.wait([task])
        return [event[2] for event in node.events]

    assert asyncio.run(run())[:3] == ["FreeDiskSpaceFailed", "FreeDiskSpaceFailed", "ImageGCFailed"]


def test_maximum_age_deletes_what_was_not_used_for_so_long_whatever_the_disk_says() -> None:
    node = Node(ImageGCPolicy(maximum_age=1000), a=1, b=1, c=1)
    node.run_container("a")
    node.run_container("b")
    node.collect()
    node.containers.pop()
    assert node.collect(after=999) == []
    assert sorted(node.collect(after=2)) == ["b", "c"]
    node.containers.pop()
    assert node.collect(after=990) == []
    assert node.collect(after=20) == ["a"]


def test_under_disk_pressure_all_unused_images_go() -> None:
    node = Node(a=1, b=2, c=4)
    node.run_container("b")
    node.collect()
    node.now += 3600
    assert asyncio.run(node.gc.delete_unused()) == 5
    assert set(node.images) == {"b"}


@pytest.mark.parametrize(("high", "low"), [(101, 80), (85, -1), (80, 85)])
def test_policy_that_makes_no_sense_is_refused(high: int, low: int) -> None:
    with pytest.raises(ValueError, match="threshold"):
        ImageGCPolicy(high_threshold_percent=high, low_threshold_percent=low)


@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    used=st.sets(st.integers(0, 11)),
    pinned=st.sets(st.integers(0, 11)),
    other=st.integers(0, 600),
)
def test_whatever_the_images_only_free_ones_go_and_no_more_than_needed(
    sizes: list[int], used: set[int], pinned: set[int], other: int
) -> None:
    node = Node(None, **{f"i{number:02}": size for number, size in enumerate(sizes)})
    node.capacity = max(1000, sum(sizes) + other)
    node.other = other
    asyncio.run(node.gc._detect(float("-inf")))
    kept = {f"i{number:02}" for number in (used | pinned) if number < len(sizes)}
    for number in used:
        node.run_container(f"i{number:02}")
    for number in pinned:
        if number < len(sizes):
            node.images[f"i{number:02}"].pinned = True
    before = node.used
    wanted = node.capacity * 20 // 100 - (node.capacity - before)
    try:
        deleted = node.collect()
    except ImageGCFailed:
        deleted = node.deleted
        assert set(node.images) == kept
    assert kept <= set(node.images)
    if 100 - (node.capacity - before) * 100 // node.capacity < 85:
        assert deleted == []
    elif deleted:
        # Without the last one it would not have been enough.
        assert before - node.used - sizes[int(deleted[-1][1:])] < wanted
