"""How images come to the node: registries.conf, compressions, disturbed connections, bounds, full disks."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import raw_image, shortage
from tests.support.image_store import NOTHING, leftovers, store, through, writers
from tests.support.proxy import Chaos, Proxy
from tests.support.raw_image import member, tar
from tests.support.shortage import fill
from tools.images import BuiltImage
from tools.oci_layout import ImageSpec, Layer, LayoutWriter
from tools.registry import Registry

from podling.runtime.native import syscalls
from podling.runtime.native.image import ImageStore
from podling.runtime.protocol import CRIError, ImagePullError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYERS = 4
LAYER_BYTES = 400_000


def content(number: int) -> bytes:
    return random.Random(number).randbytes(LAYER_BYTES)


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, registry: Registry) -> str:
    """An image of four layers of incompressible bytes."""
    layers = []
    for number in range(LAYERS):
        layer = Layer()
        layer.file(f"data{number}", content(number))
        layers.append(layer)
    directory = tmp_path_factory.mktemp("app")
    built = BuiltImage("app", directory, LayoutWriter(directory).write(ImageSpec(layers, {"Cmd": ["app"]})))
    registry.push(built, "docker.io/library/transported:1")
    return "transported:1"


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address of this machine where nothing listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


def conf(directory: Path, text: str) -> Path:
    file = directory / "registries.conf"
    file.write_text(text)
    return file


async def pull(directory: Path, registries_conf: Path, name: str) -> str:
    """Pulls into a fresh storage; the image's first name."""
    async with store(directory, registries_conf) as images:
        await images.pull_image(name)
        (image,) = await images.list_images()
        return image.repo_tags[0]


def failure(directory: Path, registries_conf: Path, name: str) -> str:
    """The message of a pull that fails and leaves nothing."""

    async def run() -> str:
        async with store(directory, registries_conf) as images:
            with pytest.raises(ImagePullError) as caught:
                await images.pull_image(name)
            assert leftovers(directory) == NOTHING
            return caught.value.message

    return asyncio.run(run())


# -- registries.conf


def test_mirrors_are_tried_in_order_and_the_name_stays_the_registrys(
    registry: Registry, tmp_path: Path, app: str, nobody: str
) -> None:
    file = conf(
        tmp_path,
        f"""
        [[registry]]
        prefix = "registry.example.invalid/team"
        location = "{nobody}/nowhere"
        [[registry.mirror]]
        location = "{nobody}/first"
        insecure = true
        [[registry.mirror]]
        location = "{registry.address}/docker.io/library"
        insecure = true
        """,
    )
    name = f"registry.example.invalid/team/{app}"
    assert asyncio.run(pull(tmp_path, file, name)) == name


def test_registry_itself_is_asked_when_its_mirrors_lack_the_image(registry: Registry, tmp_path: Path, app: str) -> None:
    file = conf(
        tmp_path,
        f"""
        [[registry]]
        prefix = "docker.io"
        location = "{registry.address}/docker.io"
        insecure = true
        [[registry.mirror]]
        location = "{registry.address}/empty"
        insecure = true
        """,
    )
    before = len(registry.requests())
    asyncio.run(pull(tmp_path, file, app))
    asked = [request for request in registry.requests()[before:] if "/manifests/" in request]
    assert asked[0] == f"GET /v2/empty/library/{app.replace(':', '/manifests/')} 404"


def test_failure_of_the_registry_and_all_mirrors_names_each(tmp_path: Path, nobody: str) -> None:
    file = conf(
        tmp_path,
        f"""
        [[registry]]
        prefix = "docker.io"
        location = "{nobody}/itself"
        insecure = true
        [[registry.mirror]]
        location = "{nobody}/mirror"
        insecure = true
        """,
    )
    message = failure(tmp_path, file, "nginx")
    assert f"mirror [{nobody}/mirror/library/nginx:latest: " in message
    assert message.count("connection refused") >= 2


def test_mirror_for_digests_only_is_not_asked_for_a_tag(registry: Registry, tmp_path: Path, app: str) -> None:
    file = conf(
        tmp_path,
        f"""
        [[registry]]
        prefix = "docker.io"
        location = "{registry.address}/docker.io"
        insecure = true
        mirror-by-digest-only = true
        [[registry.mirror]]
        location = "{registry.address}/digests"
        insecure = true
        """,
    )
    before = len(registry.requests())
    asyncio.run(pull(tmp_path, file, app))
    assert not [request for request in registry.requests()[before:] if "/digests/" in request]


def test_longest_prefix_decides(registry: Registry, tmp_path: Path, app: str) -> None:
    file = conf(
        tmp_path,
        f"""
        [[registry]]
        prefix = "*.example.invalid"
        location = "example.invalid"
        blocked = true
        [[registry]]
        prefix = "eu.example.invalid/public"
        location = "{registry.address}/docker.io/library"
        insecure = true
        """,
    )
    asyncio.run(pull(tmp_path, file, f"eu.example.invalid/public/{app}"))
    message = failure(tmp_path / "blocked", file, f"eu.example.invalid/private/{app}")
    assert message.endswith(f": registry *.example.invalid is blocked in {file}")


def test_plain_http_is_refused_unless_insecure(registry: Registry, tmp_path: Path, app: str) -> None:
    def text(insecure: str) -> str:
        location = f"{registry.address}/docker.io"
        return f'[[registry]]\nprefix = "docker.io"\nlocation = "{location}"\ninsecure = {insecure}\n'

    message = failure(tmp_path, conf(tmp_path, text("false")), app)
    assert "server gave HTTP response to HTTPS client" in message
    asyncio.run(pull(tmp_path, conf(tmp_path, text("true")), app))


def test_unknown_authority_is_accepted_if_insecure(tmp_path: Path) -> None:
    with Registry(tmp_path / "registry", tls=True) as secure:
        layer = Layer()
        layer.file("file", "x")
        directory = tmp_path / "layout"
        built = BuiltImage("x", directory, LayoutWriter(directory).write(ImageSpec([layer])))
        secure.push(built, "docker.io/library/x:1")
        text = f'[[registry]]\nprefix = "docker.io"\nlocation = "{secure.address}/docker.io"\ninsecure = %s\n'
        assert "x509: certificate signed by unknown authority" in failure(
            tmp_path, conf(tmp_path, text % "false"), "x:1"
        )
        asyncio.run(pull(tmp_path, conf(tmp_path, text % "true"), "x:1"))


def test_short_name_means_docker_hub_whatever_is_to_be_searched(registry: Registry, tmp_path: Path, app: str) -> None:
    """As in Kubernetes: a manifest means the same on every machine."""
    text = registry.registries_conf.read_text()
    file = conf(
        tmp_path,
        f'unqualified-search-registries = ["quay.io"]\nshort-name-mode = "enforcing"\n{text}'
        '[aliases]\n"transported" = "quay.io/other/image"\n',
    )
    assert asyncio.run(pull(tmp_path, file, app)) == f"docker.io/library/{app}"


@pytest.mark.parametrize("text", ["not TOML", '[[registry]]\nprefix = "docker.io"\nlocation = "docker.io/"\nx ='])
def test_malformed_registries_conf_is_an_error_that_names_the_file(tmp_path: Path, text: str) -> None:
    message = failure(tmp_path, conf(tmp_path, text), "nginx")
    assert message.startswith('failed to pull and unpack image "docker.io/library/nginx:latest": ')
    assert str(tmp_path / "registries.conf") in message


# -- layers


@pytest.mark.parametrize("compression", ["gzip", "zstd", ""])
def test_layers_of_every_compression_are_unpacked(registry: Registry, tmp_path: Path, compression: str) -> None:
    below, above = tar(member("a", b"1"), member("b", b"2")), tar(member("b", b"3"), member(".wh.a", b""))
    raw = raw_image.image([below, above], compression=compression)
    raw.upload(registry, f"docker.io/library/compressed-{compression or 'not'}:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            image_id = await images.pull_image(f"compressed-{compression or 'not'}:1")
            top, bottom = await images.layers(image_id)
            assert (bottom / "b").read_bytes() == b"2"
            assert (top / "b").read_bytes() == b"3"
            image = await images.image_status(image_id)
            assert image is not None
            assert image.repo_digests[0].endswith(raw.digest)

    asyncio.run(run())


# -- disturbances


async def assert_whole(images_store: ImageStore, image_id: str) -> None:
    layers = await images_store.layers(image_id)
    assert [(layer / f"data{LAYERS - 1 - i}").read_bytes() for i, layer in enumerate(layers)] == [
        content(LAYERS - 1 - i) for i in range(LAYERS)
    ]
    assert images_store.config(image_id).cmd == ["app"]


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_to_the_connection_a_pull_ends_in_the_right_image_or_an_error(
    registry: Registry, tmp_path: Path, app: str, seed: int
) -> None:
    async def run() -> None:
        async with Chaos(registry.address, seed) as proxy:
            text = f'[[registry]]\nprefix = "docker.io"\nlocation = "{proxy.address}/docker.io"\ninsecure = true\n'
            async with store(tmp_path, conf(tmp_path, text), stall_seconds=5) as images:
                for _ in range(2):
                    try:
                        image_id = await images.pull_image(app)
                    except ImagePullError as error:
                        expected = f'failed to pull and unpack image "docker.io/library/{app}": '
                        assert error.message.startswith(expected), error.message  # noqa: PT017
                        assert len(error.message) > len(expected) + 10, error.message  # noqa: PT017
                        assert await images.list_images() == []
                        assert leftovers(tmp_path) == NOTHING
                    else:
                        await assert_whole(images, image_id)
                        await images.remove_image(image_id)
                        assert leftovers(tmp_path) == NOTHING
                    assert writers(tmp_path) == []
                proxy.raging = False
                await assert_whole(images, await images.pull_image(app))
                assert proxy.harm

    asyncio.run(run())


def test_no_more_pulls_run_at_once_than_allowed(registry: Registry, tmp_path: Path) -> None:
    names = [f"bounded{number}:1" for number in range(5)]
    for name in names:
        raw_image.image([tar(member("file", name.encode()))]).upload(registry, f"docker.io/library/{name}")

    async def run() -> None:
        async with Proxy(registry.address) as proxy:
            proxy.gate.clear()
            text = f'[[registry]]\nprefix = "docker.io"\nlocation = "{proxy.address}/docker.io"\ninsecure = true\n'
            async with store(tmp_path, conf(tmp_path, text), parallel_pulls=2) as images:
                begun: list[str] = []
                stuck = asyncio.Event()
                proxy.on_bytes = lambda total: stuck.set() if len(begun) >= 2 else None
                pulls = [
                    asyncio.create_task(images.pull_image(name, on_start=lambda n=name: begun.append(n)))  # type: ignore[misc]
                    for name in names
                ]
                await asyncio.wait_for(stuck.wait(), 30)
                assert begun == names[:2]
                # Whoever waits can leave, and nobody takes its place before its turn.
                pulls[2].cancel()
                await asyncio.wait((pulls[2],))
                assert begun == names[:2]
                proxy.gate.set()
                await asyncio.gather(*(task for task in pulls if not task.cancelled()))
                assert sorted(begun) == sorted(set(names) - {names[2]})
                assert len(await images.list_images()) == 4

    asyncio.run(run())


# -- disks


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1.5 MB, less than the image."""
    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", disk, "tmpfs", 0, "size=1500k")
    yield disk
    syscalls.umount(disk)


def test_full_disk_is_an_error_and_leaves_room_for_a_smaller_image(
    registry: Registry, tmp_path: Path, app: str, small_disk: Path
) -> None:
    raw_image.image([tar(member("file", b"x"))]).upload(registry, "docker.io/library/tiny:1")
    layout = tmp_path / "layout"
    registry.skopeo("copy", f"docker://{registry.location(f'docker.io/library/{app}')}", f"oci:{layout}:app:1")

    async def run() -> None:
        async with store(small_disk, registry.registries_conf) as images:
            with pytest.raises(ImagePullError, match="no space left on device") as caught:
                await images.pull_image(app)
            assert caught.value.message.startswith(f'failed to pull and unpack image "docker.io/library/{app}": ')
            assert {**leftovers(small_disk), "mounts": []} == NOTHING
            with pytest.raises(CRIError, match="no space left on device"):
                await images.load(layout)
            assert {**leftovers(small_disk), "mounts": []} == NOTHING
            assert await images.list_images() == []
            await images.pull_image("tiny:1")

    asyncio.run(run())


def test_a_pull_ends_when_others_leave_no_room_on_the_disk(registry: Registry, tmp_path: Path, app: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()

    async def run() -> None:
        async with Proxy(registry.address) as proxy:
            arrived = asyncio.Event()

            def stop(total: int) -> None:
                if total > LAYER_BYTES:
                    proxy.gate.clear()
                    arrived.set()

            proxy.on_bytes = stop
            async with store(disk, through(proxy, tmp_path)) as images, asyncio.timeout(30):
                pull = asyncio.create_task(images.pull_image(app))
                await arrived.wait()
                filler = fill(disk)
                with pytest.raises(ImagePullError, match="no space left on device"):
                    await pull
                filler.unlink()
                assert {**leftovers(disk), "mounts": []} == NOTHING

    with shortage.small_disk(disk, 64 << 10):
        asyncio.run(run())


def test_image_whose_layers_go_with_another_while_it_is_pulled_is_whole(registry: Registry, tmp_path: Path) -> None:
    below = tar(*(member(f"file{number}", random.Random(number).randbytes(100_000)) for number in range(10)))
    raw_image.image([below]).upload(registry, "docker.io/library/leaving:1")
    raw_image.image([below, tar(member("own", b"x"))]).upload(registry, "docker.io/library/coming:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            for moment in range(6):
                await images.pull_image("leaving:1")
                coming = asyncio.create_task(images.pull_image("coming:1"))
                await asyncio.sleep(0.02 * moment)
                await images.remove_image("leaving:1")
                top, bottom = await images.layers(await coming)
                assert (top / "own").read_bytes() == b"x"
                assert (bottom / "file9").stat().st_size == 100_000
                await images.remove_image("coming:1")
                assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())
