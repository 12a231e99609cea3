"""Pulls that share a download, that nobody waits for any more, that break off or are killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.image_store import NOTHING, PULLER, build, leftovers, store, through, writers
from tests.support.proxy import Proxy, Slow
from tools.oci_layout import ImageSpec, Layer
from tools.registry import Registry

from podling.runtime.native import image_skopeo
from podling.runtime.protocol import AuthConfig, ImagePullError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYER_BYTES = 3 << 20
ALICE = AuthConfig(username="alice", password="wonderland")


@pytest.fixture(scope="module")
def big(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> str:
    """An image of three layers of incompressible bytes."""
    layers = []
    for i in range(3):
        layer = Layer()
        layer.file(f"data{i}", random.Random(i).randbytes(LAYER_BYTES))
        layers.append(layer)
    registry.push(build(tmp_path_factory.mktemp("big"), ImageSpec(layers)), "docker.io/library/big:1")
    return "big:1"


def test_concurrent_pulls_share_one_download(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            before = len(registry.requests())
            ids = await asyncio.gather(*(images_store.pull_image(big) for _ in range(10)))
            assert len(set(ids)) == 1
            requests = registry.requests()[before:]
            manifests = [r for r in requests if "/manifests/" in r]
            assert len(manifests) == len(set(manifests)) == 2  # what the tag means, and that
            blobs = [r for r in requests if "/blobs/" in r]
            assert len(blobs) == len(set(blobs)) == 4

    asyncio.run(run())


def test_one_of_two_waiters_may_leave(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:
            reached = stop_at(proxy, LAYER_BYTES // 2)
            leaving = asyncio.create_task(images_store.pull_image(big))
            staying = asyncio.create_task(images_store.pull_image(big))
            await asyncio.wait_for(reached.wait(), 30)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
            proxy.gate.set()
            status = await images_store.image_status(await staying)
            assert status is not None

    asyncio.run(run())


def stop_at(proxy: Proxy, threshold: int) -> asyncio.Event:
    """Once `threshold` bytes have passed, nothing passes any more, and the event is set."""
    reached = asyncio.Event()

    def on_bytes(total: int) -> None:
        if total >= threshold and not reached.is_set():
            proxy.gate.clear()
            reached.set()

    proxy.on_bytes = on_bytes
    return reached


@pytest.mark.parametrize("threshold", [0, LAYER_BYTES // 2, 2 * LAYER_BYTES + LAYER_BYTES // 2])
def test_cancelled_pull_leaves_no_process_and_nothing_half_done(
    registry: Registry, tmp_path: Path, big: str, threshold: int
) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:
            reached = stop_at(proxy, threshold)
            pull = asyncio.create_task(images_store.pull_image(big))
            await asyncio.wait_for(reached.wait(), 30)
            assert writers(tmp_path)
            pull.cancel()
            with pytest.raises(asyncio.CancelledError):
                await pull
            assert writers(tmp_path) == []
            assert await images_store.list_images() == []
            assert leftovers(tmp_path) == NOTHING
            proxy.gate.set()
            await images_store.pull_image(big)

    asyncio.run(run())


def test_everybody_who_waits_for_a_slow_pull_hears_how_much_has_arrived(
    registry: Registry, tmp_path: Path, big: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_skopeo, "_PROGRESS_SECONDS", 0.001)

    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:
            reached = stop_at(proxy, LAYER_BYTES // 2)
            heard: list[list[int]] = [[], []]
            on = [asyncio.Event(), asyncio.Event()]

            def listener(number: int) -> Callable[[int], None]:
                def hear(arrived: int) -> None:
                    heard[number].append(arrived)
                    if arrived > LAYER_BYTES // 4:
                        on[number].set()

                return hear

            pulls = [asyncio.create_task(images_store.pull_image(big, on_progress=listener(n))) for n in range(2)]
            async with asyncio.timeout(30):
                await asyncio.gather(reached.wait(), *(event.wait() for event in on))
            proxy.gate.set()
            await asyncio.gather(*pulls)
            for numbers in heard:
                assert numbers == sorted(numbers)
                assert numbers[-1] < 4 * LAYER_BYTES

    asyncio.run(run())


def test_images_that_are_removed_go_while_a_slow_pull_goes_on_which_is_whole(
    registry: Registry, tmp_path: Path
) -> None:
    shared, own = Layer(), Layer()
    shared.file("shared", random.Random(1).randbytes(LAYER_BYTES))
    own.file("own", random.Random(2).randbytes(LAYER_BYTES))
    registry.push(build(tmp_path / "leaving", ImageSpec([shared])), "docker.io/library/leaving:1")
    registry.push(build(tmp_path / "coming", ImageSpec([shared, own])), "docker.io/library/coming:1")

    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:
            await images_store.pull_image("leaving:1")
            reached = stop_at(proxy, proxy.total + LAYER_BYTES // 2)
            pull = asyncio.create_task(images_store.pull_image("coming:1"))
            await asyncio.wait_for(reached.wait(), 30)
            await images_store.remove_image("leaving:1")
            left = leftovers(tmp_path)
            assert (left["blobs"], left["layers"], len(left["temporary"])) == ([], [], 1)
            before = proxy.total
            proxy.gate.set()
            top, bottom = await images_store.layers(await pull)
            assert (top / "own").stat().st_size == (bottom / "shared").stat().st_size == LAYER_BYTES
            assert proxy.total - before < LAYER_BYTES  # what was there is not fetched again
            assert leftovers(tmp_path)["temporary"] == []

    asyncio.run(run())


def test_closing_the_store_fails_its_pulls(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy:
            async with store(tmp_path, through(proxy, tmp_path)) as images_store:
                reached = stop_at(proxy, LAYER_BYTES // 2)
                pull = asyncio.create_task(images_store.pull_image(big))
                await asyncio.wait_for(reached.wait(), 30)
            with pytest.raises(ImagePullError, match="context canceled"):
                await pull
            assert writers(tmp_path) == []

    asyncio.run(run())


def test_broken_connection_is_retried_and_finished_layers_are_not_fetched_again(
    registry: Registry, tmp_path: Path
) -> None:
    small, large = Layer(), Layer()
    small.file("small", "fetched once")
    large.file("large", random.Random(7).randbytes(LAYER_BYTES))
    registry.push(build(tmp_path / "uneven", ImageSpec([small, large])), "docker.io/library/uneven:1")

    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:

            def cut_once(total: int) -> None:
                if not proxy.cuts and total > LAYER_BYTES // 2:
                    raise ConnectionAbortedError

            proxy.on_bytes = cut_once
            before = len(registry.requests())
            image_id = await images_store.pull_image("uneven:1")
            assert proxy.cuts == 1
            top, bottom = await images_store.layers(image_id)
            assert (bottom / "small").read_text() == "fetched once"
            assert (top / "large").read_bytes() == random.Random(7).randbytes(LAYER_BYTES)
            # Skopeo fetches the large one from its beginning again, newer ones only the rest of it.
            blobs = [r.split()[1] for r in registry.requests()[before:] if "/blobs/" in r and image_id not in r]
            assert sorted(blobs.count(blob) for blob in set(blobs)) == [1, 2]

    asyncio.run(run())


def test_registry_that_always_cuts_is_an_error_that_leaves_nothing(
    registry: Registry, tmp_path: Path, big: str
) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:

            def cut(total: int) -> None:
                if total > LAYER_BYTES // 2:
                    raise ConnectionAbortedError

            proxy.on_bytes = cut
            with pytest.raises(ImagePullError) as error:
                await images_store.pull_image(big)
            assert "EOF" in error.value.message or "connection reset" in error.value.message
            assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def test_registry_that_falls_silent_is_given_up(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with (
            Proxy(registry.address) as proxy,
            store(tmp_path, through(proxy, tmp_path), stall_seconds=0.3, stall_bytes=1) as images_store,
        ):
            stop_at(proxy, LAYER_BYTES // 2)
            with pytest.raises(ImagePullError, match=r"no progress for 0\.3s"):
                await images_store.pull_image(big)
            assert writers(tmp_path) == []
            assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def test_registry_that_sends_byte_by_byte_is_given_up(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with (
            Slow(registry.address, LAYER_BYTES // 2) as proxy,
            store(tmp_path, through(proxy, tmp_path), stall_seconds=0.5, stall_bytes=50_000) as images_store,
            asyncio.timeout(30),
        ):
            with pytest.raises(ImagePullError, match=r"too slow: \d+ bytes in 0\.5s"):
                await images_store.pull_image(big)
            assert writers(tmp_path) == []
            assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def kill_skopeo(directory: Path) -> None:
    for pid in writers(directory):
        if b"\0copy\0" in Path(f"/proc/{pid}/cmdline").read_bytes():
            os.kill(pid, signal.SIGKILL)


def test_killed_skopeo_is_an_error_and_the_next_pull_succeeds(registry: Registry, tmp_path: Path, big: str) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy, store(tmp_path, through(proxy, tmp_path)) as images_store:
            reached = stop_at(proxy, LAYER_BYTES + LAYER_BYTES // 2)
            pull = asyncio.create_task(images_store.pull_image(big))
            await asyncio.wait_for(reached.wait(), 30)
            kill_skopeo(tmp_path)
            with pytest.raises(ImagePullError, match="skopeo was killed by signal 9"):
                await pull
            assert await images_store.list_images() == []
            assert leftovers(tmp_path) == NOTHING
            proxy.gate.set()
            await images_store.pull_image(big)

    asyncio.run(run())


def test_killed_puller_takes_skopeo_along_and_the_next_one_cleans_up(
    registry: Registry, tmp_path: Path, big: str
) -> None:
    async def run() -> None:
        async with Proxy(registry.address) as proxy:
            conf = through(proxy, tmp_path)
            reached = stop_at(proxy, LAYER_BYTES + LAYER_BYTES // 2)
            directories = (str(tmp_path / "images"), str(tmp_path / "run"))
            puller = await asyncio.create_subprocess_exec(sys.executable, "-c", PULLER, *directories, str(conf), big)
            await asyncio.wait_for(reached.wait(), 30)
            pids = writers(tmp_path)
            assert pids
            puller.kill()
            await puller.wait()
            for pid in pids:
                await gone(pid)
            async with store(tmp_path, conf) as images_store:
                assert await images_store.list_images() == []
                assert leftovers(tmp_path) == NOTHING
                proxy.gate.set()
                await images_store.pull_image(big)

    asyncio.run(run())


async def gone(pid: int) -> None:
    """Waits until the process, no child of ours, has ended."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(fd, ended.set)
    try:
        await asyncio.wait_for(ended.wait(), 30)
    finally:
        loop.remove_reader(fd)
        os.close(fd)
