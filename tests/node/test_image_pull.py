"""Pulling from a real registry into a real storage."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.support.image_store import NOTHING, PULLER, build, leftovers, pull_failure, store, through, writers
from tests.support.proxy import Proxy
from tests.support.raw_image import RawImage, docker_image, image, member, tar
from tools.oci_layout import INDEX, ImageSpec, Layer, host_architecture
from tools.registry import Registry

from podling.runtime.native import rootfs
from podling.runtime.protocol import AuthConfig, CRIError, ImagePullError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

LAYER_BYTES = 3 << 20
ALICE = AuthConfig(username="alice", password="wonderland")


def text_image(text: str, architecture: str = "") -> ImageSpec:
    layer = Layer()
    layer.file("etc/text", text)
    return ImageSpec([layer], {"Cmd": ["cat"]}, **({"architecture": architecture} if architecture else {}))


def proc_files(pid: int) -> bytes:
    return b"".join(Path(f"/proc/{pid}/{file}").read_bytes() for file in ("cmdline", "environ"))


def test_pulled_image_is_found_by_name_digest_and_id(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            image_id = await images_store.pull_image("nginx")
            image = await images_store.image_status("nginx")
            assert image is not None
            assert image.id == image_id
            assert image.repo_tags == ["docker.io/library/nginx:latest"]
            assert len(image.repo_digests) == 1
            assert re.fullmatch(r"docker\.io/library/nginx@sha256:[0-9a-f]{64}", image.repo_digests[0])
            for name in (
                "docker.io/library/nginx:latest",
                "library/nginx",
                "index.docker.io/nginx",
                image.repo_digests[0],
                image.repo_digests[0].replace("@", ":other@"),
                image.id,
                image.id.removeprefix("sha256:"),
                image.id.removeprefix("sha256:")[:12],
            ):
                assert await images_store.image_status(name) == image, name
            for name in ("nginx:1.25", "quay.io/nginx", "nginx@sha256:" + "0" * 64, image.id[:12], "f" * 64, "BAD", ""):
                assert await images_store.image_status(name) is None, name
            assert list(await images_store.list_images()) == [image]

    asyncio.run(run())


def test_layers_are_stacked_topmost_first_and_config_is_read(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            image_id = await images_store.pull_image("redis")
            top, bottom = await images_store.layers(image_id)
            assert (top / "usr/local/bin/redis-server").is_file()
            assert (bottom / "bin/busybox").is_file()
            config = images_store.config(image_id)
            assert config.user == "redis"
            assert config.cmd == ["redis-server", "--protected-mode", "no"]
            assert config.volumes == ["/data"]
            assert config.working_dir == "/data"
            assert "REDIS_VERSION=debian" in config.env
            image = await images_store.image_status(image_id)
            assert image is not None
            assert image.size > (top / "usr/local/bin/redis-server").stat().st_size

    asyncio.run(run())


def test_unchanged_image_costs_one_question(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            first = await images_store.pull_image("busybox")
            before = len(registry.requests())
            for _ in range(2):
                assert await images_store.pull_image("busybox") == first
            assert registry.requests()[before:] == ["HEAD /v2/docker.io/library/busybox/manifests/latest 200"] * 2

    asyncio.run(run())


def test_unchanged_image_that_cannot_be_asked_for_transfers_no_layer(registry: Registry, tmp_path: Path) -> None:
    """Conditional mirrors are left to skopeo, which fetches the manifest and finds everything in place."""
    conf = tmp_path / "conditional.conf"
    conf.write_text(
        f'[[registry]]\nprefix = "docker.io"\nlocation = "127.0.0.1:1"\n[[registry.mirror]]\n'
        f'location = "{registry.address}/docker.io"\ninsecure = true\npull-from-mirror = "all"\n'
    )

    async def run() -> None:
        async with store(tmp_path, conf) as images_store:
            first = await images_store.pull_image("busybox")
            before = len(registry.requests())
            assert await images_store.pull_image("busybox") == first
            requests = registry.requests()[before:]
            assert "GET /v2/docker.io/library/busybox/manifests/latest 200" in requests
            assert [r for r in requests if "/blobs/" in r and first not in r] == []

    asyncio.run(run())


def test_stored_private_image_is_refused_to_whoever_lacks_the_credentials(
    private_registry: Registry, tmp_path: Path
) -> None:
    name = "dregistry.azurecr.io/acr-auth-example"

    async def run() -> None:
        async with store(tmp_path, private_registry.registries_conf) as images_store:
            image_id = await images_store.pull_image(name, ALICE)
            for auth in (None, AuthConfig(username="alice", password="wrong")):
                with pytest.raises(ImagePullError, match="pull access denied"):
                    await images_store.pull_image(name, auth)
            before = len(private_registry.requests())
            assert await images_store.pull_image(name, ALICE) == image_id
            asked = "HEAD /v2/azurecr.io/acr-auth-example/manifests/latest"
            assert private_registry.requests()[before:] == [f"{asked} 401", f"{asked} 200"]

    asyncio.run(run())


def test_layers_of_another_image_are_not_fetched_again(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            await images_store.pull_image("busybox")
            before = len(registry.requests())
            image_id = await images_store.pull_image("nginx")
            blobs = [r for r in registry.requests()[before:] if r.startswith("GET") and "/blobs/" in r]
            assert len([r for r in blobs if image_id not in r]) == 1

    asyncio.run(run())


def test_pull_by_digest_keeps_the_reference_and_gives_no_tag(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            tagged = await images_store.pull_image("busybox:1.36")
            status = await images_store.image_status(tagged)
            assert status is not None
            (reference,) = status.repo_digests
            await images_store.remove_image("busybox:1.36")
            assert await images_store.pull_image(reference.replace("@", ":1.36@")) == tagged
            image = await images_store.image_status(reference)
            assert image is not None
            assert image.repo_tags == []
            assert image.repo_digests == [reference]

    asyncio.run(run())


def test_tag_that_moved_leaves_the_old_image_untagged_with_its_layers(registry: Registry, tmp_path: Path) -> None:
    name = "docker.io/library/moving:latest"

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            registry.push(build(tmp_path / "one", text_image("one")), name)
            old = await images_store.pull_image("moving")
            old_status = await images_store.image_status(old)
            registry.push(build(tmp_path / "two", text_image("two")), name)
            new = await images_store.pull_image("moving")
            assert new != old
            status = await images_store.image_status("moving")
            assert status is not None
            assert status.id == new
            untagged = await images_store.image_status(old)
            assert untagged is not None
            assert old_status is not None
            assert untagged.repo_tags == []
            assert untagged.repo_digests == old_status.repo_digests
            (layer,) = await images_store.layers(old)
            assert (layer / "etc/text").read_text() == "one"
            await images_store.remove_image(old)
            assert [i.id for i in await images_store.list_images()] == [new]

    asyncio.run(run())


def test_index_gives_the_image_of_this_platform_and_its_own_digest(registry: Registry, tmp_path: Path) -> None:
    built = build(tmp_path / "index", text_image("foreign", "s390x"), text_image("native"))
    registry.push(built, "docker.io/library/index:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            image_id = await images_store.pull_image("index:1")
            (layer,) = await images_store.layers(image_id)
            assert (layer / "etc/text").read_text() == "native"
            image = await images_store.image_status("index:1")
            assert image is not None
            assert image.repo_digests[0] == f"docker.io/library/index@{built.digest}"
            assert await images_store.image_status(image.repo_digests[0]) == image

    asyncio.run(run())


def test_image_in_dockers_form_keeps_its_id_and_digest_when_pulled_saved_and_loaded(
    registry: Registry, tmp_path: Path
) -> None:
    """Its configuration has what OCI's has not."""
    config = {"Cmd": ["x"], "Healthcheck": {"Test": ["NONE"]}, "Shell": ["/bin/bash", "-c"], "ArgsEscaped": True}
    made = image([tar(member("file", b"content"))], config=config, docker_version="24.0", container="abc")
    raw = docker_image(made)
    raw.upload(registry, "docker.io/library/docker:1")
    expected = json.loads(raw.manifest)["config"]["digest"]

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            assert await images_store.pull_image("docker:1") == expected
            stored = await images_store.image_status("docker:1")
            assert stored is not None
            assert stored.repo_digests == [f"docker.io/library/docker@{raw.digest}"]
            before = len(registry.requests())
            assert await images_store.pull_image("docker:1") == expected
            assert len(registry.requests()) == before + 1, "an unchanged image costs one question"
            for archive_format in ("docker-archive", "oci-archive"):
                archive = tmp_path / archive_format
                await images_store.save("docker:1", archive, archive_format)
                await images_store.remove_image("docker:1")
                assert await images_store.load(archive, "docker:1") == [expected]
                (layer,) = await images_store.layers(expected)
                assert (layer / "file").read_text() == "content"

    asyncio.run(run())


def test_image_that_is_loaded_again_from_an_archive_stays_as_it_was_pulled(registry: Registry, tmp_path: Path) -> None:
    """An archive has its layers unpacked, and a digest that no registry knows."""
    image([tar(member("zeros", bytes(1 << 20)))]).upload(registry, "docker.io/library/pulled:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            await images_store.pull_image("pulled:1")
            before = await images_store.image_status("pulled:1")
            assert before is not None
            blobs = sorted(os.listdir(tmp_path / "images/blobs/sha256"))
            await images_store.save("pulled:1", tmp_path / "archive")
            assert await images_store.load(tmp_path / "archive", "again:1") == [before.id]
            after = await images_store.image_status("again:1")
            assert after is not None
            assert (after.size, after.repo_digests[:1]) == (before.size, before.repo_digests)
            assert after.repo_tags == ["docker.io/library/pulled:1", "docker.io/library/again:1"]
            assert sorted(os.listdir(tmp_path / "images/blobs/sha256")) == blobs

    asyncio.run(run())


def test_layer_that_occurs_twice_is_an_image_like_any_other(registry: Registry, tmp_path: Path) -> None:
    """Builders make the same empty layer again and again; overlayfs refuses a directory that is given twice."""
    empty, first, second = tar(), tar(member("file", b"first")), tar(member("file", b"second"), member(".wh.no", b""))
    image([empty, first, empty, second, first, empty]).upload(registry, "docker.io/library/again:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            image_id = await images_store.pull_image("again:1")
            rootfs.mount_readonly(tmp_path / "mounted", await images_store.layers(image_id), tmp_path / "nothing")
            try:
                assert (tmp_path / "mounted/file").read_text() == "first"
            finally:
                rootfs.unmount(tmp_path / "mounted")

    asyncio.run(run())


def test_index_without_this_platform_is_an_error(registry: Registry, tmp_path: Path) -> None:
    assert platform.machine() not in ("s390x", "ppc64le")
    registry.push(
        build(tmp_path / "foreign", text_image("a", "s390x"), text_image("b", "ppc64le")), "docker.io/library/foreign:1"
    )
    error = pull_failure(tmp_path, registry.registries_conf, "foreign:1")
    assert error.message == (
        'failed to pull and unpack image "docker.io/library/foreign:1": no match for platform in manifest: not found: '
        f"none for linux/{host_architecture()}"
    )
    assert leftovers(tmp_path) == NOTHING


@pytest.mark.parametrize("form", ["OCI", "Docker"])
def test_a_single_image_for_another_machine_is_an_error(registry: Registry, tmp_path: Path, form: str) -> None:
    made = image([tar(member("file", b"x"))], architecture="s390x")
    (docker_image(made) if form == "Docker" else made).upload(registry, "docker.io/library/alien:1")
    error = pull_failure(tmp_path, registry.registries_conf, "alien:1")
    assert error.message == (
        'failed to pull and unpack image "docker.io/library/alien:1": no match for platform in manifest: not found: '
        f"none for linux/{host_architecture()}, the image is for linux/s390x"
    )
    assert leftovers(tmp_path) == NOTHING


def test_an_archive_for_another_machine_is_not_loaded(registry: Registry, tmp_path: Path) -> None:
    layout = image([tar(member("file", b"x"))], architecture="s390x").layout(tmp_path / "layout", "example.com/alien:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            with pytest.raises(CRIError, match=r"the image is for linux/s390x"):
                await images_store.load(layout)
            assert await images_store.list_images() == []
        assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def in_index(raw: RawImage, **platform: str) -> RawImage:
    """An index whose only entry is that manifest or index."""
    entry = {"mediaType": raw.media_type, "digest": raw.digest, "size": len(raw.manifest), "platform": platform}
    manifest = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}).encode()
    return RawImage(manifest, {}, INDEX)


def test_an_index_within_an_index_leads_to_the_image(registry: Registry, tmp_path: Path) -> None:
    """image-index.md: "Implementations SHOULD support ... application/vnd.oci.image.index.v1+json (nested index)"."""
    made = image([tar(member("file", b"inside"))])
    made.upload(registry, "docker.io/library/nested:image")
    inner = in_index(made, os="linux", architecture=host_architecture())
    inner.upload(registry, "docker.io/library/nested:inner")
    outer = in_index(inner, os="linux", architecture=host_architecture())
    outer.upload(registry, "docker.io/library/nested:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            (layer,) = await images_store.layers(await images_store.pull_image("nested:1"))
            assert (layer / "file").read_bytes() == b"inside"
            found = await images_store.image_status("nested:1")
            assert found is not None
            known = [digest.partition("@")[2] for digest in found.repo_digests]
            assert known == [outer.digest, inner.digest, made.digest]

    asyncio.run(run())


@pytest.mark.parametrize("part", ["config", "layers"])
def test_a_blob_of_another_size_than_its_descriptor_says_is_refused(
    registry: Registry, tmp_path: Path, part: str
) -> None:
    """descriptor.md: "If the length of the retrieved content does not match the specified length, the content SHOULD NOT be
    trusted"."""
    made = image([tar(member("file", b"x"))])
    document = json.loads(made.manifest)
    descriptor = document["config"] if part == "config" else document["layers"][0]
    descriptor["size"] += 1
    RawImage(json.dumps(document).encode(), made.blobs).upload(registry, "docker.io/library/sized:1")
    error = pull_failure(tmp_path, registry.registries_conf, "sized:1")
    assert f"the manifest says {descriptor['size']}" in error.message or "size" in error.message
    assert leftovers(tmp_path) == NOTHING


def contents(directory: Path) -> list[bytes]:
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


def test_password_is_in_no_argument_and_in_no_file(private_registry: Registry, tmp_path: Path) -> None:
    """So whatever is killed leaves none of it."""

    async def run() -> tuple[bytes, list[bytes]]:
        async with Proxy(private_registry.address) as proxy:
            proxy.gate.clear()
            async with store(tmp_path, through(proxy, tmp_path)) as images_store:
                started = asyncio.Event()
                proxy.on_bytes = lambda total: started.set()
                pull = asyncio.create_task(images_store.pull_image("alice/private:1", ALICE))
                await asyncio.wait_for(started.wait(), 30)
                arguments = b"".join(proc_files(pid) for pid in writers(tmp_path))
                files = contents(tmp_path)
                proxy.gate.set()
                await pull
                return arguments, files

    arguments, files = asyncio.run(run())
    assert b"skopeo" in arguments
    assert files
    for secret in (b"wonderland", base64.b64encode(b"alice:wonderland")):
        assert secret not in arguments
        assert not any(secret in file for file in files)


def test_invalid_name_is_refused_without_asking_a_registry(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images_store:
            with pytest.raises(ImagePullError) as error:
                await images_store.pull_image("NGINX")
            assert error.value.reason == "InvalidImageName"
            assert error.value.message == "invalid reference format: repository name (library/NGINX) must be lowercase"

    asyncio.run(run())


def test_two_stores_on_the_same_directories_see_each_others_images(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        async with (
            store(tmp_path, registry.registries_conf) as one,
            store(tmp_path, registry.registries_conf) as other,
        ):
            ids = await asyncio.gather(one.pull_image("nginx"), other.pull_image("redis"), other.pull_image("busybox"))
            for images_store in (one, other):
                assert {i.id for i in await images_store.list_images()} == set(ids)
            await one.remove_image("nginx")
            assert await other.image_status("nginx") is None

    asyncio.run(run())


def test_nothing_outside_the_given_directories_is_written(registry: Registry, tmp_path: Path) -> None:
    def state() -> set[tuple[str, int]]:
        roots = [Path("/var/lib/containers"), Path("/run/containers"), Path("/etc/containers"), Path.home() / ".local"]
        walk: Callable[[Path], list[Path]] = lambda root: list(root.rglob("*"))  # noqa: E731
        return {(str(p), p.lstat().st_mtime_ns) for root in roots if root.exists() for p in walk(root)}

    before = state()
    script = [sys.executable, "-c", PULLER, str(tmp_path / "images"), str(tmp_path / "run")]
    subprocess.run([*script, str(registry.registries_conf), "nginx"], check=True)
    assert state() == before
