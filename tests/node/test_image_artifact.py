"""OCI artifacts (image-spec, manifest.md, "Guidelines for Artifact Usage"): files without a root file system."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.image_store import NOTHING, leftovers, pull_failure, store
from tests.support.raw_image import artifact
from tools.registry import Registry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def content(directory: Path) -> dict[str, bytes]:
    """The files below a directory, by their path."""
    return {str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()}


def test_the_blobs_of_an_artifact_are_files_under_their_titles(registry: Registry, tmp_path: Path) -> None:
    raw = artifact({"weights.bin": b"w" * 1000, "docs/readme": b"read me", None: b"anonymous"})
    raw.upload(registry, "docker.io/library/files:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            image_id = await images.pull_image("files:1")
            assert image_id == raw.digest
            (layer,) = await images.layers(image_id)
            nameless = next(digest for digest, blob in raw.blobs.items() if blob == b"anonymous").replace(":", "-")
            assert content(layer) == {"weights.bin": b"w" * 1000, "docs/readme": b"read me", nameless: b"anonymous"}
            assert all(os.stat(path).st_mode & 0o777 == 0o444 for path in layer.rglob("*") if path.is_file())
            found = await images.image_status("files:1")
            assert found is not None
            assert (found.artifact, found.size) == (True, 1000 + len(b"read me") + len(b"anonymous"))
            # The files are the blobs, so they take their place on the disk once.
            usage = await images.image_fs_info()
            assert usage.used_bytes < 2 * 4096 * (len(raw.blobs) + 2)
            await images.remove_image("files:1")
        assert leftovers(tmp_path) == NOTHING

    asyncio.run(run())


def test_artifacts_with_the_same_empty_configuration_are_different_images(registry: Registry, tmp_path: Path) -> None:
    artifact({"a": b"one"}).upload(registry, "docker.io/library/twins:1")
    artifact({"a": b"two"}).upload(registry, "docker.io/library/twins:2")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            for tag, expected in (("1", b"one"), ("2", b"two")):
                (layer,) = await images.layers(await images.pull_image(f"twins:{tag}"))
                assert content(layer) == {"a": expected}
            assert len(await images.list_images()) == 2
            await images.remove_image("twins:1")
            found = await images.image_status("twins:2")
            assert found is not None
            assert content((await images.layers(found.id))[0]) == {"a": b"two"}

    asyncio.run(run())


def test_the_configuration_of_an_artifact_is_not_read(registry: Registry, tmp_path: Path) -> None:
    """It may be anything: a Helm chart's is JSON of another form, others are binary."""
    raw = artifact({"a": b"x"}, config_type="application/vnd.example.config", config=b"\x00\xff not JSON")
    raw.upload(registry, "docker.io/library/binary:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            assert await images.pull_image("binary:1") == raw.digest

    asyncio.run(run())


def test_an_artifact_survives_a_restart_and_a_power_failure(registry: Registry, tmp_path: Path) -> None:
    raw = artifact({"a": b"x"})
    raw.upload(registry, "docker.io/library/lasting:1")

    async def run() -> None:
        async with store(tmp_path, registry.registries_conf) as images:
            await images.pull_image("lasting:1")
            (layer,) = await images.layers(raw.digest)
        # As another boot finds it whose predecessor had not written everything.
        (layer.parent / "unsettled").write_text("another boot")
        (layer / "a").unlink()
        async with store(tmp_path, registry.registries_conf) as images:
            assert content((await images.layers(raw.digest))[0]) == {"a": b"x"}

    asyncio.run(run())


def test_an_artifact_is_saved_and_loaded_as_an_oci_archive(registry: Registry, tmp_path: Path) -> None:
    raw = artifact({"a": b"x"})
    raw.upload(registry, "docker.io/library/moved:1")

    async def run() -> None:
        async with store(tmp_path / "first", registry.registries_conf) as images:
            await images.pull_image("moved:1")
            await images.save("moved:1", tmp_path / "archive.tar", "oci-archive")
        async with store(tmp_path / "second", registry.registries_conf) as images:
            assert await images.load(tmp_path / "archive.tar", "moved:1") == [raw.digest]
            assert content((await images.layers(raw.digest))[0]) == {"a": b"x"}

    (tmp_path / "first").mkdir()
    (tmp_path / "second").mkdir()
    asyncio.run(run())


@pytest.mark.parametrize(
    ("titles", "said"),
    [
        (["../escape"], "cannot be the path of a file"),
        (["/etc/passwd"], "cannot be the path of a file"),
        (["a/../../b"], "cannot be the path of a file"),
        (["a//b"], "cannot be the path of a file"),
        (["."], "cannot be the path of a file"),
        (["a\0b"], "cannot be the path of a file"),
        (["x" * 256], "cannot be the path of a file"),
        (["x/" * 2000 + "x"], "cannot be the path of a file"),
        (["a", "a/b"], "is both a file and a directory"),
    ],
    ids=lambda value: value[0][:20] if isinstance(value, list) else "",
)
def test_a_title_that_leads_elsewhere_is_refused(
    registry: Registry, tmp_path: Path, titles: list[str], said: str
) -> None:
    raw = artifact({title: title.encode() for title in titles})
    raw.upload(registry, "docker.io/library/hostile:1")
    before = sorted(tmp_path.iterdir())
    assert said in str(pull_failure(tmp_path, registry.registries_conf, "hostile:1"))
    assert leftovers(tmp_path) == NOTHING
    assert {path.name for path in tmp_path.iterdir()} - {path.name for path in before} == {"images", "run"}
