"""The sentences of OCI's image-spec on indexes, manifests and configurations, each as a case.

The quotation above a test is the specification's (version 1.1), shortened.
"""

from __future__ import annotations

import json
import os
from types import SimpleNamespace
from typing import Any

import pytest

from podling.runtime.native import image_manifest
from podling.runtime.native.image_manifest import CONFIG, MANIFEST, NoMatch

INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that makes this machine another one."""
    return lambda name: monkeypatch.setattr(os, "uname", lambda: SimpleNamespace(machine=name))


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def entry(number: int, platform: str | None = "linux/amd64", kind: str = MANIFEST, **fields: Any) -> dict[str, Any]:
    """An index's entry for a platform, given as OS/architecture/variant."""
    found = {"mediaType": kind, "digest": digest(number), "size": 7, **fields}
    if platform is not None:
        names = ("os", "architecture", "variant")
        found["platform"] = dict(zip(names, platform.split("/"), strict=False))
    return found


def chosen(*entries: dict[str, Any], **fields: Any) -> int:
    """The number of the entry that this machine takes."""
    index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(entries), **fields}
    found = image_manifest.instance(json.dumps(index).encode())
    assert found is not None
    return int(found.digest.removeprefix("sha256:"), 16)


def config(**fields: Any) -> tuple[Any, list[str]]:
    document = {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [digest(1)]}, **fields}
    return image_manifest.config(json.dumps(document).encode())


# image-index.md


def test_the_first_of_several_entries_that_match_is_used(machine: Any) -> None:
    """\"If multiple manifests match a client or runtime's requirements, the first matching entry SHOULD be used.\""""
    machine("x86_64")
    assert chosen(entry(1, "linux/arm64"), entry(2), entry(3)) == 2


@pytest.mark.parametrize("kind", ["application/vnd.example.unknown", "text/plain"])
def test_an_entry_of_an_unknown_type_is_no_error_and_not_used(machine: Any, kind: str) -> None:
    """\"An encountered mediaType that is unknown to the implementation MUST NOT generate an error.\""""
    machine("x86_64")
    assert chosen(entry(1, kind=kind), entry(2)) == 2


@pytest.mark.parametrize("kind", [MANIFEST, DOCKER_MANIFEST, INDEX])
def test_manifests_of_both_forms_and_indexes_are_used(machine: Any, kind: str) -> None:
    """\"Implementations MUST support at least: application/vnd.oci.image.manifest.v1+json\"; an index is a SHOULD."""
    machine("x86_64")
    assert chosen(entry(1, kind=kind)) == 1


@pytest.mark.parametrize(
    ("name", "entries", "expected"),
    [
        ("x86_64", ["linux/386", "linux/amd64"], 2),
        ("x86_64", ["linux/arm64", "linux/386"], 2),
        ("x86_64", ["linux/amd64/v1"], 1),
        ("x86_64", ["linux/x86_64"], 1),
        ("x86_64", ["linux/amd64/v3", "linux/amd64"], 2),
        ("x86_64", ["unknown/unknown", "linux/amd64"], 2),
        ("x86_64", ["windows/amd64", "linux/amd64"], 2),
        ("aarch64", ["linux/arm64"], 1),
        ("aarch64", ["linux/arm/v7", "linux/arm64/v8"], 2),
        ("aarch64", ["linux/arm64/8"], 1),
        ("aarch64", ["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], 2),
        ("armv7l", ["linux/arm/v5", "linux/arm/v6"], 2),
        ("armv7l", ["linux/arm"], 1),
        ("armv6l", ["linux/arm/v7", "linux/arm/v6"], 2),
        ("riscv64", ["linux/amd64", "linux/riscv64"], 2),
    ],
)
def test_the_platform_chosen_is_the_best_that_the_machine_runs(
    machine: Any, name: str, entries: list[str], expected: int
) -> None:
    """\"This OPTIONAL property describes the minimum runtime requirements of the image.\""""
    machine(name)
    assert chosen(*(entry(number, platform) for number, platform in enumerate(entries, 1))) == expected


def test_an_entry_without_platform_counts_if_no_other_is_right(machine: Any) -> None:
    """\"This property [platform] SHOULD be present if its target is platform-specific.\""""
    machine("x86_64")
    assert chosen(entry(1, None), entry(2)) == 2
    assert chosen(entry(1, "linux/arm64"), entry(2, None)) == 2


@pytest.mark.parametrize("platform", ["linux/arm64", "windows/amd64", "linux/amd64/v3", "darwin/arm64"])
def test_an_index_without_this_platform_is_an_error_that_names_it(machine: Any, platform: str) -> None:
    machine("x86_64")
    with pytest.raises(NoMatch, match=r"^none for linux/amd64$"):
        chosen(entry(1, platform))


def test_an_empty_index_holds_no_image(machine: Any) -> None:
    """\"This property MUST be present, but the size of the array MAY be zero.\""""
    machine("x86_64")
    with pytest.raises(NoMatch):
        chosen()


def test_unknown_properties_of_an_index_are_ignored(machine: Any) -> None:
    """extensibility.md: \"Implementations ... MUST NOT generate an error if they encounter an unknown property.\""""
    machine("x86_64")
    annotated = entry(1, annotations={"a": "b"}, urls=["http://example.com"], data="e30=", artifactType="x/y", new=[1])
    assert chosen(annotated, subject={"digest": "?"}, annotations={"c": "d"}, future={"x": None}) == 1


@pytest.mark.parametrize("bad", ["", "sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64, "sha256:../../etc/passwd"])
def test_a_digest_that_is_not_sha256_is_refused(machine: Any, bad: str) -> None:
    """descriptor.md: \"sha256 ... MUST match /[a-f0-9]{64}/\"; others are optional, and not supported."""
    machine("x86_64")
    with pytest.raises(ValueError, match="SHA-256"):
        chosen({**entry(1), "digest": bad})


# manifest.md


def document(**fields: Any) -> bytes:
    blob = {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(2), "size": 3}
    parts = {"config": {"mediaType": CONFIG, "digest": digest(1), "size": 2}, "layers": [blob]}
    return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **parts, **fields}).encode()


def test_a_manifest_is_no_index() -> None:
    assert image_manifest.instance(document()) is None


@pytest.mark.parametrize("version", [0, 1, 3])
def test_another_schema_version_is_refused(version: int) -> None:
    """\"This REQUIRED property ... For this version of the specification, this MUST be 2.\""""
    with pytest.raises(ValueError, match=f"schemaVersion is {version}, not 2"):
        image_manifest.manifest(document(schemaVersion=version))
    with pytest.raises(ValueError, match=f"schemaVersion is {version}, not 2"):
        image_manifest.instance(json.dumps({"schemaVersion": version, "manifests": []}).encode())


def test_layers_are_in_order_and_the_base_is_first() -> None:
    """\"The array MUST have the base layer at index 0. Subsequent layers MUST then follow in stack order.\""""
    layers = [{"digest": digest(number), "size": 1} for number in (5, 3, 5)]
    found = image_manifest.manifest(document(layers=layers))
    assert [layer.digest for layer in found.layers] == [digest(5), digest(3), digest(5)]


def test_unknown_properties_and_layer_types_of_a_manifest_are_no_error() -> None:
    """\"An encountered mediaType that is unknown to the implementation MUST NOT generate an error.\""""
    layer = {"mediaType": "application/vnd.example.layer", "digest": digest(2), "size": 1, "future": 1}
    subject = {"mediaType": MANIFEST, "digest": digest(9), "size": 5}
    found = image_manifest.manifest(document(layers=[layer], subject=subject, annotations={"a": "b"}, future=1))
    assert not found.is_artifact


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (CONFIG, False),
        (DOCKER_CONFIG, False),
        ("application/vnd.oci.empty.v1+json", True),
        ("application/vnd.cncf.helm.config.v1+json", True),
        ("application/vnd.example+type", True),
    ],
)
def test_what_has_another_configuration_than_an_images_is_an_artifact(kind: str, expected: bool) -> None:
    """\"Implementations MUST NOT attempt to parse the referenced content if the media type is unknown.\""""
    found = image_manifest.manifest(document(config={"mediaType": kind, "digest": digest(1), "size": 2}))
    assert found.is_artifact is expected


def test_the_empty_blob_of_an_artifact_is_no_file() -> None:
    """\"the layers property ... SHOULD ... the empty descriptor\" where there is nothing else."""
    empty = {"mediaType": "application/vnd.oci.empty.v1+json", "digest": digest(2), "size": 2}
    assert image_manifest.manifest(document(layers=[empty])).files() == {}


# config.md


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("x86_64", {"architecture": "amd64"}),
        ("x86_64", {"architecture": "386"}),
        ("x86_64", {"architecture": "", "os": ""}),
        ("aarch64", {"architecture": "arm64", "variant": "v8"}),
        ("aarch64", {"architecture": "arm", "variant": "v7"}),
        ("armv7l", {"architecture": "arm", "variant": "v6"}),
    ],
)
def test_an_image_for_this_machine_is_taken(machine: Any, name: str, fields: dict[str, Any]) -> None:
    machine(name)
    config(**fields)


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("x86_64", {"architecture": "arm64"}, "none for linux/amd64, the image is for linux/arm64"),
        ("x86_64", {"architecture": "amd64", "variant": "v3"}, "none for linux/amd64, the image is for linux/amd64/v3"),
        ("x86_64", {"os": "windows"}, "none for linux/amd64, the image is for windows/amd64"),
        ("aarch64", {"architecture": "amd64"}, "none for linux/arm64, the image is for linux/amd64"),
        ("armv6l", {"architecture": "arm"}, "none for linux/arm/v6, the image is for linux/arm/v7"),
    ],
)
def test_an_image_for_another_machine_is_refused(machine: Any, name: str, fields: dict[str, Any], said: str) -> None:
    """\"architecture ... The CPU architecture which the binaries in this image are built to run on.\""""
    machine(name)
    with pytest.raises(NoMatch) as error:
        config(**fields)
    assert str(error.value) == said


def test_an_unknown_type_of_root_file_system_is_refused(machine: Any) -> None:
    """\"MUST be set to layers. Implementations MUST generate an error if they encounter an unknown value.\""""
    machine("x86_64")
    with pytest.raises(ValueError, match=r"rootfs.type is 'squashfs', not 'layers'"):
        config(rootfs={"type": "squashfs", "diff_ids": []})


def test_diff_ids_are_in_order_from_first_to_last(machine: Any) -> None:
    machine("x86_64")
    ids = [digest(4), digest(2), digest(4)]
    assert config(rootfs={"type": "layers", "diff_ids": ids})[1] == ids


def test_all_properties_of_a_configuration_that_are_optional_may_be_null_or_absent(machine: Any) -> None:
    """\"config ... This field can be null, in which case any execution parameters should be specified at creation.\""""
    machine("x86_64")
    names = ("User", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "StopSignal", "ExposedPorts", "Labels")
    for section in (None, {}, dict.fromkeys(names)):
        found, _ = config(config=section, history=None, author=None, created=None)
        assert (found.user, found.env, found.entrypoint, found.cmd, found.volumes) == ("", [], [], [], [])
    assert image_manifest.config(b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":null}}')


def test_extra_fields_of_a_configuration_are_ignored(machine: Any) -> None:
    """\"Any extra fields in the Image JSON struct are considered implementation specific and MUST be ignored.\""""
    machine("x86_64")
    reserved = {"Memory": 1, "MemorySwap": 2, "CpuShares": 3, "Healthcheck": {"Test": ["NONE"]}, "ArgsEscaped": True}
    found, _ = config(config={"Cmd": ["a"], **reserved, "future": [1]}, container="x", history=[{"empty_layer": True}])
    assert found.cmd == ["a"]


def test_a_configuration_beyond_four_mebibytes_is_refused(machine: Any) -> None:
    machine("x86_64")
    with pytest.raises(ValueError, match="longer than"):
        config(comment="x" * (4 << 20))
