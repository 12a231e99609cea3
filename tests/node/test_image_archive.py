"""Loading, saving, listing and removing images in a real storage."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tools import images
from tools.oci_layout import ImageSpec, Layer, LayoutWriter

from podling.runtime.native import image_archive
from podling.runtime.native.image import ImageStore
from podling.runtime.protocol import CRIError, NotFound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@asynccontextmanager
async def store(directory: Path) -> AsyncIterator[ImageStore]:
    images_store = ImageStore(directory / "images", directory / "run")
    await images_store.open()
    try:
        yield images_store
    finally:
        await images_store.close()


@pytest.fixture(autouse=True)
def blob_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What skopeo remembers of the archives made here goes with them: else it would stay in /var/lib/containers."""
    monkeypatch.setenv("_CONTAINERS_ROOTLESS_UID", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "skopeo"))


@pytest.fixture(scope="module")
def nginx(image_cache: Path) -> Path:
    """An OCI layout directory with the tag `latest`."""
    return images.build("nginx", image_cache).layout


@pytest.mark.parametrize("archive_format", ["docker-archive", "oci-archive"])
def test_saved_image_loads_under_its_name_with_the_same_content(
    tmp_path: Path, nginx: Path, archive_format: str
) -> None:
    archive = tmp_path / "nginx.tar"

    async def save() -> str:
        async with store(tmp_path / "one") as images_store:
            (image_id,) = await images_store.load(nginx, "nginx:1.25")
            await images_store.save("nginx:1.25", archive, archive_format)
            return image_id

    async def load(image_id: str) -> None:
        async with store(tmp_path / "two") as images_store:
            assert await images_store.load(archive) == [image_id]
            (image,) = await images_store.list_images()
            assert image.repo_tags == ["docker.io/library/nginx:1.25"]
            assert image.config.entrypoint == ["/docker-entrypoint.sh"]
            top, _ = await images_store.layers(image_id)
            assert "Welcome to nginx!" in (top / "usr/share/nginx/html/index.html").read_text()

    asyncio.run(load(asyncio.run(save())))
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_archive_of_several_images_with_several_names_is_loaded_whole(tmp_path: Path) -> None:
    """The form in which `docker save a b` writes."""
    with tarfile.open(tmp_path / "several.tar", "w") as tar:
        manifest = []
        for name in ("a", "b"):
            layer, layout = Layer(), tmp_path / name
            layer.file("etc/name", name)
            LayoutWriter(layout).write(ImageSpec([layer], {"Cmd": [name]}))
            subprocess.run(
                ["skopeo", "copy", f"oci:{layout}:latest", f"docker-archive:{layout}.tar:x:1"],
                check=True,
                capture_output=True,
            )
            with tarfile.open(f"{layout}.tar") as single:
                entry = json.loads(single.extractfile("manifest.json").read())[0]  # type: ignore[union-attr]
                for member in single:
                    if member.name != "manifest.json" and member.name not in tar.getnames():
                        tar.addfile(member, single.extractfile(member) if member.isfile() else None)
            manifest.append({**entry, "RepoTags": [f"{name}:1", f"quay.io/x/{name}:2"]})
        (tmp_path / "manifest.json").write_text(json.dumps(manifest))
        tar.add(tmp_path / "manifest.json", "manifest.json")

    async def run() -> None:
        async with store(tmp_path) as images_store:
            loaded = await images_store.load(tmp_path / "several.tar")
            assert len(set(loaded)) == 2
            for name, image_id in zip("ab", loaded, strict=True):
                for reference in (f"{name}:1", f"quay.io/x/{name}:2"):
                    image = await images_store.image_status(reference)
                    assert image is not None
                    assert image.id == image_id
                assert images_store.config(image_id).cmd == [name]

    asyncio.run(run())


def test_layout_with_a_full_name_needs_no_other(tmp_path: Path) -> None:
    LayoutWriter(tmp_path / "layout").write(ImageSpec([Layer()], {"Cmd": ["x"]}), tag="quay.io/team/app:3")

    async def run() -> None:
        async with store(tmp_path) as images_store:
            await images_store.load(tmp_path / "layout")
            assert await images_store.image_status("quay.io/team/app:3") is not None

    asyncio.run(run())


def test_directory_of_skopeo_is_loaded_under_the_name_given(tmp_path: Path, nginx: Path) -> None:
    subprocess.run(["skopeo", "copy", f"oci:{nginx}:latest", f"dir:{tmp_path / 'nginx'}"], check=True)

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(image_archive.ArchiveError, match="does not say its image's name"):
                await images_store.load(tmp_path / "nginx")
            (image_id,) = await images_store.load(tmp_path / "nginx", "nginx:1")
            image = await images_store.image_status("nginx:1")
            assert image is not None
            assert image.id == image_id
            with pytest.raises(image_archive.ArchiveError, match=r"is no OCI image layout: it has no index\.json"):
                await images_store.load(tmp_path)

    asyncio.run(run())


def test_archive_without_a_name_asks_for_one(tmp_path: Path, nginx: Path) -> None:
    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(image_archive.ArchiveError, match="does not say its image's name"):
                await images_store.load(nginx)
            assert await images_store.list_images() == []

    asyncio.run(run())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no tar", "is no image archive: it is not a tar, nor one compressed by gzip, bzip2 or xz"),
        (b"", "is no image archive: it is empty"),
        (b"\x1f\x8b\x08broken", "is no image archive: it ends too early"),
    ],
)
def test_file_that_is_no_archive_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "file").write_bytes(content)

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(image_archive.ArchiveError, match=message):
                await images_store.load(tmp_path / "file")

    asyncio.run(run())


def test_an_image_is_saved_to_a_file_in_a_directory_that_is_there(tmp_path: Path, nginx: Path) -> None:
    (tmp_path / "file").touch()

    async def run() -> None:
        async with store(tmp_path) as images_store:
            await images_store.load(nginx, "nginx")
            for path, why in (
                (tmp_path, "it is a directory, give a file"),
                (tmp_path / "none" / "a.tar", f"there is no directory {tmp_path}/none"),
                (tmp_path / "file" / "a.tar", f"there is no directory {tmp_path}/file"),
            ):
                with pytest.raises(CRIError) as caught:
                    await images_store.save("nginx", path)
                assert caught.value.message == f'failed to save image "nginx" to {path}: {why}'

    asyncio.run(run())


def test_archive_that_lacks_a_layer_leaves_no_image(tmp_path: Path, nginx: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(nginx, broken)
    max((broken / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size).unlink()

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(
                CRIError, match=r"failed to load docker\.io/library/nginx:latest from .*: .*no such file"
            ):
                await images_store.load(broken, "nginx")
            assert await images_store.list_images() == []
            assert (await images_store.image_fs_info()).inodes_used == 0

    asyncio.run(run())


def test_corrupt_layer_leaves_no_image(tmp_path: Path, nginx: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(nginx, broken)
    layer = max((broken / "blobs/sha256").iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(layer.read_bytes())
    data[len(data) // 2] ^= 1
    layer.write_bytes(data)

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(CRIError, match="failed to load"):
                await images_store.load(broken, "nginx")
            assert await images_store.list_images() == []
            assert (await images_store.image_fs_info()).inodes_used == 0

    asyncio.run(run())


def test_removed_image_frees_its_layers_but_not_those_of_others(tmp_path: Path, image_cache: Path, nginx: Path) -> None:
    busybox = images.build("busybox", image_cache).layout

    async def run() -> None:
        async with store(tmp_path) as images_store:
            (base,) = await images_store.load(busybox, "busybox")
            alone = await images_store.image_fs_info()
            (image_id,) = await images_store.load(nginx, "nginx")
            both = await images_store.image_fs_info()
            assert both.used_bytes > alone.used_bytes > 1_000_000
            await images_store.remove_image("nginx")
            assert [i.id for i in await images_store.list_images()] == [base]
            after = await images_store.image_fs_info()
            assert (after.used_bytes, after.inodes_used) == (alone.used_bytes, alone.inodes_used)
            with pytest.raises(NotFound):
                await images_store.layers(image_id)
            with pytest.raises(NotFound):
                images_store.config(image_id)
            await images_store.remove_image("nginx")  # idempotent

    asyncio.run(run())


def test_removing_by_id_removes_all_names(tmp_path: Path, nginx: Path) -> None:
    async def run() -> None:
        async with store(tmp_path) as images_store:
            (image_id,) = await images_store.load(nginx, "nginx")
            await images_store.load(nginx, "quay.io/other:1")
            image = await images_store.image_status(image_id)
            assert image is not None
            assert set(image.repo_tags) == {"docker.io/library/nginx:latest", "quay.io/other:1"}
            await images_store.remove_image(image_id[:20])
            assert await images_store.list_images() == []

    asyncio.run(run())


def test_saving_an_unknown_image_is_not_found_and_leaves_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "file.tar").write_text("old")

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(NotFound, match='image "nginx": not found'):
                await images_store.save("nginx", tmp_path / "file.tar")

    asyncio.run(run())
    assert (tmp_path / "file.tar").read_text() == "old"


def test_saving_replaces_an_older_file(tmp_path: Path, nginx: Path) -> None:
    (tmp_path / "file.tar").write_text("old")

    async def run() -> None:
        async with store(tmp_path) as images_store:
            await images_store.load(nginx, "nginx")
            await images_store.save("nginx", tmp_path / "file.tar")
            assert image_archive.contents(tmp_path / "file.tar")[0].names == ["docker.io/library/nginx:latest"]

    asyncio.run(run())


def test_file_name_that_skopeo_cannot_take_is_refused(tmp_path: Path) -> None:
    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(CRIError, match="must not contain a colon"):
                await images_store.load(tmp_path / "a:b.tar")
        with pytest.raises(CRIError, match="cannot use a directory with such a name"):
            await ImageStore(tmp_path / "a+b", tmp_path / "run").open()

    asyncio.run(run())


@pytest.mark.parametrize("part", ["config", "layer", "layer and blob"])
def test_image_that_lacks_a_part_is_mended_or_removed_when_the_store_opens(
    tmp_path: Path, nginx: Path, image_cache: Path, part: str
) -> None:
    busybox = images.build("busybox", image_cache).layout

    async def make() -> tuple[str, str, list[Path]]:
        async with store(tmp_path) as images_store:
            (other,) = await images_store.load(nginx, "nginx")
            (base,) = await images_store.load(busybox, "busybox")
            return base, other, await images_store.layers(other)

    async def reopen() -> None:
        async with store(tmp_path) as images_store:
            found = {i.id for i in await images_store.list_images()}
            assert found == ({base, other} if part == "layer" else {base})
            assert len(os.listdir(tmp_path / "images/layers")) == (2 if part == "layer" else 1)
            (image_id,) = await images_store.load(nginx, "nginx")
            assert await images_store.layers(image_id) == layers
            assert (layers[0] / "etc/nginx/nginx.conf").exists()

    base, other, layers = asyncio.run(make())
    blobs = tmp_path / "images/blobs/sha256"
    if part == "config":
        (blobs / other.removeprefix("sha256:")).unlink()
    else:
        shutil.rmtree(layers[0].parent)
    if part == "layer and blob":
        (record,) = (r for r in json.loads((tmp_path / "images/images.json").read_bytes()) if r["id"] in other)
        (blobs / record["layers"][-1]["digest"].removeprefix("sha256:")).unlink()
    asyncio.run(reopen())


def test_layer_that_may_not_have_reached_the_disk_before_the_machine_stopped_is_made_anew(
    tmp_path: Path, nginx: Path
) -> None:
    async def load() -> list[Path]:
        async with store(tmp_path) as images_store:
            return await images_store.layers(*(await images_store.load(nginx, "nginx")))

    async def reopen() -> str:
        async with store(tmp_path):
            return (layers[0] / "etc/nginx/nginx.conf").read_text()

    layers = asyncio.run(load())
    conf = layers[0] / "etc/nginx/nginx.conf"
    whole = conf.read_text()
    conf.write_text("")
    assert asyncio.run(reopen()) == "", "what has reached the disk is not made anew"
    (layers[0].parent / "unsettled").write_text("an earlier boot")
    assert asyncio.run(reopen()) == whole
    assert not (layers[0].parent / "unsettled").exists()


def test_malformed_configuration_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    layer = Layer()
    layer.file("x", "x")
    LayoutWriter(tmp_path / "layout").write(ImageSpec([layer], {"Cmd": "not a list"}))

    async def run() -> None:
        async with store(tmp_path) as images_store:
            with pytest.raises(CRIError):
                await images_store.load(tmp_path / "layout", "bad:1")
            assert await images_store.list_images() == []
            assert (await images_store.image_fs_info()).inodes_used == 0

    asyncio.run(run())
