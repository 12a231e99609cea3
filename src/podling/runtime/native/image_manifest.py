"""What registries and archives say of an image: index, manifest and configuration. None of it is trusted.

Format: OCI image-spec (image-index.md, manifest.md, config.md) and Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import PurePosixPath
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from podling.runtime.protocol import ImageConfig

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
_EMPTY = "application/vnd.oci.empty.v1+json"
_TITLE = "org.opencontainers.image.title"
_INDEXES = {
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
}
_MANIFESTS = {MANIFEST, "application/vnd.docker.distribution.manifest.v2+json"}
_CONFIGS = {CONFIG, "application/vnd.docker.container.image.v1+json"}
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_CONFIG_BYTES = 4 << 20
_MAX_PATH = 1024
"""Bytes of an artifact's path, which stands below a directory of the node."""
_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armv7l": "arm",
    "armv6l": "arm",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i686": "386",
}
"""Other names of what Go, and so OCI, calls the architectures."""
_ARM = ["arm/v7", "arm/v6", "arm/v5"]
_RUNS = {"x86_64": ["amd64", "386"], "aarch64": ["arm64", *_ARM], "armv7l": _ARM, "armv6l": _ARM[1:]}
"""The platforms that a machine's processor runs, best first (as containerd's platforms.Only)."""

_Document = TypeVar("_Document")


class NoMatch(ValueError):
    """The image is not for this machine; the message says for which it is, or which one was looked for."""


class _Platform(Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        """Return "amd64" or "arm/v7": the normal form, whatever the image calls it."""
        architecture = _ARCHITECTURES.get(self.architecture.lower(), self.architecture.lower())
        variant = self.variant.lower()
        if variant[:1].isdigit():
            variant = f"v{variant}"
        if architecture == "arm":
            variant = variant or ("v6" if self.architecture == "armel" else "v7")
        elif (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
            variant = ""
        return f"{architecture}/{variant}" if variant else architecture


class Descriptor(Struct, rename="camel"):
    """A reference to a blob: image-spec, descriptor.md."""

    digest: str
    media_type: str = ""
    size: Annotated[int, Meta(ge=0)] | None = None
    annotations: dict[str, str] | None = None
    platform: _Platform | None = None

    @property
    def is_index(self) -> bool:
        return self.media_type in _INDEXES


class _Index(Struct, rename="camel"):
    schema_version: int = 2
    media_type: str = ""
    manifests: list[Descriptor] | None = None


class Manifest(Struct, rename="camel"):
    """Descriptors of the configuration and of the packed layers, lowest first."""

    config: Descriptor
    schema_version: int = 2
    layers: list[Descriptor] = []

    @property
    def is_artifact(self) -> bool:
        """Whether the layers are files of any kind, not the changes of a root file system (manifest.md, "Guidelines
        for Artifact Usage"): the configuration is not an image's, and must not be read."""
        return self.config.media_type not in ("", *_CONFIGS)

    def files(self) -> dict[str, Descriptor]:
        """Return the files of an artifact by their path, which is relative and does not lead out of a directory.

        A blob without a title is named after its digest, as sha256-<hex>. Raises ValueError.
        """
        found: dict[str, Descriptor] = {}
        for layer in self.layers:
            if layer.media_type == _EMPTY:
                continue
            title = (layer.annotations or {}).get(_TITLE) or layer.digest.replace(":", "-")
            parts = title.split("/")
            bad = any(part in ("", ".", "..") or "\0" in part or len(part.encode()) > 255 for part in parts)
            if bad or len(title.encode()) > _MAX_PATH:
                raise ValueError(f"{title[:100]!r} cannot be the path of a file")
            found[title] = layer
        directories = {str(parent) for path in found for parent in PurePosixPath(path).parents}
        if twice := directories & found.keys():
            raise ValueError(f"{min(twice)!r} is both a file and a directory")
        if len(found) != sum(layer.media_type != _EMPTY for layer in self.layers):
            raise ValueError("two files have the same path")
        return found


class _ConfigSection(Struct):
    user: str | None = field(default=None, name="User")
    env: list[str] | None = field(default=None, name="Env")
    entrypoint: list[str] | None = field(default=None, name="Entrypoint")
    cmd: list[str] | None = field(default=None, name="Cmd")
    working_dir: str | None = field(default=None, name="WorkingDir")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    stop_signal: str | None = field(default=None, name="StopSignal")


class _RootFS(Struct):
    type: str = "layers"
    diff_ids: list[str] | None = None


class _ConfigFile(Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: _ConfigSection | None = None
    rootfs: _RootFS | None = None


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def platform() -> str:
    """Return this machine's platform as upstream writes it: linux/amd64, linux/arm/v7."""
    return f"linux/{_runs()[0]}"


def _runs() -> list[str]:
    machine = os.uname().machine
    return _RUNS.get(machine, [machine])


def instance(raw: bytes) -> Descriptor | None:
    """Return the entry for this machine in an index, or None if `raw` is a manifest.

    Entries of unknown media types do not count (image-index.md: they must not be an error), an entry without a platform counts
    if no other is right. The entry may be an index, too. Raises ValueError, NoMatch.
    """
    index = _decode(raw, _Index)
    if index.manifests is None:
        return None
    _check_version(index.schema_version)
    known = [entry for entry in index.manifests if entry.media_type in ("", *_MANIFESTS, *_INDEXES)]
    for wanted in _runs():
        for entry in known:
            if entry.platform is not None and entry.platform.os == "linux" and str(entry.platform) == wanted:
                _checked(entry.digest)
                return entry
    for entry in known:
        if entry.platform is None:
            _checked(entry.digest)
            return entry
    raise NoMatch(f"none for {platform()}")


def manifest(raw: bytes) -> Manifest:
    """Raises ValueError."""
    found = _decode(raw, Manifest)
    _check_version(found.schema_version)
    for descriptor in (found.config, *found.layers):
        _checked(descriptor.digest)
    return found


def packed(raw: bytes) -> list[Descriptor]:
    """Return the blobs of a manifest, each once; none for Docker's first form, which does not say sizes. Raises ValueError."""
    if _decode(raw, _Index).schema_version == 1:
        return []
    found = manifest(raw)
    return list({blob.digest: blob for blob in (found.config, *found.layers)}.values())


def _check_version(version: int) -> None:
    if version != 2:
        raise ValueError(f"schemaVersion is {version}, not 2")


def manifests_of_layout(index: bytes) -> list[str]:
    """The digests that an OCI layout's index.json lists. Raises ValueError."""
    return [_checked(descriptor.digest) for descriptor in _decode(index, _Index).manifests or ()]


def descriptor(digest: str, size: int) -> str:
    """Of a manifest in OCI's form, as JSON."""
    return json.dumps({"mediaType": MANIFEST, "digest": digest, "size": size})


def with_config(raw: bytes, digest: str, size: int) -> bytes:
    """A manifest in OCI's form with another configuration. Raises ValueError."""
    document = _decode(raw, dict[str, Any])
    document["config"] = {"mediaType": CONFIG, "digest": digest, "size": size}
    return json.dumps(document).encode()


def config(raw: bytes) -> tuple[ImageConfig, list[str]]:
    """What an image says of its containers, and the digests of its unpacked layers, lowest first. Raises ValueError."""
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ValueError(f"the configuration is longer than {_MAX_CONFIG_BYTES} bytes")
    document = _decode(raw, _ConfigFile)
    # Old tools left both out; what they built was for their own machine.
    wanted = str(_Platform(document.architecture, variant=document.variant))
    if document.os not in ("", "linux") or (document.architecture and wanted not in _runs()):
        raise NoMatch(f"none for {platform()}, the image is for {document.os or 'linux'}/{wanted}")
    section = document.config or _ConfigSection()
    rootfs = document.rootfs or _RootFS()
    if rootfs.type != "layers":
        raise ValueError(f"rootfs.type is {rootfs.type[:100]!r}, not 'layers'")
    diff_ids = rootfs.diff_ids or []
    return ImageConfig(
        user=section.user or "",
        env=section.env or [],
        entrypoint=section.entrypoint or [],
        cmd=section.cmd or [],
        working_dir=section.working_dir or "",
        volumes=sorted(section.volumes or ()),
        stop_signal=section.stop_signal or "",
    ), [_checked(diff_id) for diff_id in diff_ids]


def _checked(digest: str) -> str:
    """It becomes a file's name. Raises ValueError."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest[:100]!r} is not a SHA-256 digest")
    return digest


def _decode(data: bytes, kind: type[_Document]) -> _Document:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
