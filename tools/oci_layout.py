"""Writes OCI image layouts (image-spec v1.1) with nothing but the standard library.

What it writes depends only on what it is given: file times are fixed, entries sorted, gzip carries no time stamp. The
same files give the same digests on every machine.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EPOCH = 1_704_067_200
"""2024-01-01T00:00:00Z, the time of everything."""
CREATED = "2024-01-01T00:00:00Z"

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def host_architecture() -> str:
    """This machine's architecture as Go and OCI name it."""
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


@dataclass(frozen=True)
class Entry:
    """One file of a layer: a directory if `content` and `link` are None, a symlink if `link` is set."""

    mode: int
    content: bytes | Path | None = None
    link: str | None = None
    owner: tuple[int, int] = (0, 0)


class Layer:
    """The files of one layer, by their path below the root, without a leading slash."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def directory(self, path: str, mode: int = 0o755, owner: tuple[int, int] = (0, 0)) -> None:
        self._add(path, Entry(mode, owner=owner))

    def file(self, path: str, content: bytes | str | Path, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> None:
        """`content` is the text, or the file of this machine to copy."""
        self._add(path, Entry(mode, content.encode() if isinstance(content, str) else content, owner=owner))

    def symlink(self, path: str, target: str) -> None:
        self._add(path, Entry(0o777, link=target))

    def whiteout(self, path: str) -> None:
        """Deletes the file of a lower layer."""
        parent, _, name = path.rpartition("/")
        self.file(f"{parent}/.wh.{name}" if parent else f".wh.{name}", b"")

    def _add(self, path: str, entry: Entry) -> None:
        for parent in list(Path(path).parents)[-2::-1]:
            self.entries.setdefault(str(parent), Entry(0o755))
        self.entries[path] = entry

    def tar(self) -> bytes:
        """The uncompressed layer."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for path in sorted(self.entries):
                entry = self.entries[path]
                info = tarfile.TarInfo(path)
                info.mode, info.mtime, (info.uid, info.gid) = entry.mode, EPOCH, entry.owner
                data: bytes | None = None
                if entry.link is not None:
                    info.type, info.linkname = tarfile.SYMTYPE, entry.link
                elif entry.content is None:
                    info.type = tarfile.DIRTYPE
                else:
                    data = entry.content.read_bytes() if isinstance(entry.content, Path) else entry.content
                    info.size = len(data)
                archive.addfile(info, io.BytesIO(data) if data is not None else None)
        return buffer.getvalue()


@dataclass(frozen=True)
class ImageSpec:
    """An image to write: layers, bottom first, and the `config` object of the image configuration (Cmd, Env, ...)."""

    layers: Sequence[Layer]
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = field(default_factory=host_architecture)


class LayoutWriter:
    """Writes blobs into the layout at `root`. `write` may be called once, with one image or several for an index."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._blobs = root / "blobs" / "sha256"
        self._blobs.mkdir(parents=True, exist_ok=True)

    def _blob(self, data: bytes, media_type: str, **more: Any) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (self._blobs / digest).write_bytes(data)
        return {"mediaType": media_type, "digest": f"sha256:{digest}", "size": len(data), **more}

    def _json(self, document: object, media_type: str, **more: Any) -> dict[str, Any]:
        return self._blob(json.dumps(document, sort_keys=True, separators=(",", ":")).encode(), media_type, **more)

    def _manifest(self, image: ImageSpec) -> dict[str, Any]:
        tars = [layer.tar() for layer in image.layers]
        config = {
            "created": CREATED,
            "architecture": image.architecture,
            "os": "linux",
            "config": dict(image.config),
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(tar).hexdigest() for tar in tars]},
            "history": [{"created": CREATED, "created_by": "podling tools/images.py"} for _ in tars],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self._json(config, CONFIG),
            "layers": [self._blob(gzip.compress(tar, 6, mtime=0), LAYER) for tar in tars],
        }
        return self._json(manifest, MANIFEST, platform={"os": "linux", "architecture": image.architecture})

    def write(self, *images: ImageSpec, tag: str = "latest") -> str:
        """Writes one image, or an index of several, under `tag`. Returns the digest that the tag refers to."""
        descriptors = [self._manifest(image) for image in images]
        if len(descriptors) == 1:
            (top,) = descriptors
        else:
            top = self._json({"schemaVersion": 2, "mediaType": INDEX, "manifests": descriptors}, INDEX)
        top = {**top, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (self._root / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [top]}, sort_keys=True)
        )
        (self._root / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return str(top["digest"])
