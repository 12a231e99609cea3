"""What registries and archives say of an image: index, manifest and configuration. None of it is trusted.

Format: OCI image-spec (image-index.md, manifest.md, config.md) and Docker's image manifest version 2, schema 2.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from podling.runtime.protocol import ImageConfig

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_MAX_CONFIG_BYTES = 4 << 20
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armv6l": "arm", "i686": "386"}
_VARIANTS = {
    "x86_64": ("", "v1"),
    "aarch64": ("v8", ""),
    "armv7l": ("v7", "v6", "v5", ""),
    "armv6l": ("v6", "v5", ""),
}
"""That this machine runs, best first. An empty one stands for the architecture's first."""

_Document = TypeVar("_Document")


class NoMatch(ValueError):
    """The index holds no image for this machine."""


class _Platform(Struct):
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Descriptor(Struct):
    digest: str
    platform: _Platform | None = None


class _Index(Struct):
    manifests: list[_Descriptor] | None = None


class Manifest(Struct):
    """Digests of the configuration and of the packed layers, lowest first."""

    config: _Descriptor
    layers: list[_Descriptor] = []


class _ConfigSection(Struct):
    user: str | None = field(default=None, name="User")
    env: list[str] | None = field(default=None, name="Env")
    entrypoint: list[str] | None = field(default=None, name="Entrypoint")
    cmd: list[str] | None = field(default=None, name="Cmd")
    working_dir: str | None = field(default=None, name="WorkingDir")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    stop_signal: str | None = field(default=None, name="StopSignal")


class _RootFS(Struct):
    diff_ids: list[str] = []


class _ConfigFile(Struct):
    os: str = ""
    config: _ConfigSection | None = None
    rootfs: _RootFS | None = None


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def platform() -> str:
    """As upstream writes it: linux/amd64, linux/arm/v7."""
    machine = os.uname().machine
    architecture = _ARCHITECTURES.get(machine, machine)
    return f"linux/{architecture}/{_VARIANTS[machine][0]}" if architecture == "arm" else f"linux/{architecture}"


def instance(raw: bytes) -> str:
    """The digest of the manifest for this machine in an index; empty if `raw` is a manifest. Raises ValueError, NoMatch."""
    index = _decode(raw, _Index)
    if index.manifests is None:
        return ""
    machine = os.uname().machine
    for variant in _VARIANTS.get(machine, ("",)):
        wanted = _Platform(_ARCHITECTURES.get(machine, machine), "linux", variant)
        for descriptor in index.manifests:
            if descriptor.platform == wanted:
                return _checked(descriptor.digest)
    raise NoMatch(f"none for {platform()}")


def manifest(raw: bytes) -> Manifest:
    """Raises ValueError."""
    found = _decode(raw, Manifest)
    for descriptor in (found.config, *found.layers):
        _checked(descriptor.digest)
    return found


def manifests_of_layout(index: bytes) -> list[str]:
    """The digests that an OCI layout's index.json lists. Raises ValueError."""
    return [_checked(descriptor.digest) for descriptor in _decode(index, _Index).manifests or ()]


def descriptor(digest: str, size: int) -> str:
    """Of a manifest in OCI's form, as JSON."""
    return json.dumps({"mediaType": _MANIFEST, "digest": digest, "size": size})


def with_config(raw: bytes, digest: str, size: int) -> bytes:
    """A manifest in OCI's form with another configuration. Raises ValueError."""
    document = _decode(raw, dict[str, Any])
    document["config"] = {"mediaType": _CONFIG, "digest": digest, "size": size}
    return json.dumps(document).encode()


def config(raw: bytes) -> tuple[ImageConfig, list[str]]:
    """What an image says of its containers, and the digests of its unpacked layers, lowest first. Raises ValueError."""
    if len(raw) > _MAX_CONFIG_BYTES:
        raise ValueError(f"the configuration is longer than {_MAX_CONFIG_BYTES} bytes")
    document = _decode(raw, _ConfigFile)
    if document.os not in ("", "linux"):
        raise NoMatch(f"the image is for {document.os}")
    section = document.config or _ConfigSection()
    diff_ids = document.rootfs.diff_ids if document.rootfs else []
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
        raise ValueError(f"{digest[:100]!r} is no SHA-256 digest")
    return digest


def _decode(data: bytes, kind: type[_Document]) -> _Document:
    """Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None
