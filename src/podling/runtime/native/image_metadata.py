"""Reads the metadata of a containers-storage (overlay driver): images, their layers, manifests and configurations.

The files are replaced atomically by whoever changes the storage, so a reader needs no lock: a file's identity (inode,
time, size) tells whether what was read before still holds. A look-up costs two stat calls, microseconds.

Format: github.com/containers/storage, images.go and layers.go.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from podling.runtime import image_name
from podling.runtime.protocol import Image, ImageConfig

_SIMPLE_NAME = re.compile(r"[A-Za-z0-9._-]+")
_HEX_ID = re.compile(r"[0-9a-f]{7,64}")


class StoredImage(Struct, rename="kebab"):
    """An entry of images.json."""

    id: str
    digest: str = ""
    names: list[str] | None = None
    names_history: list[str] | None = None
    layer: str = ""
    big_data_names: list[str] | None = None
    created: str = ""


class StoredLayer(Struct, rename="kebab"):
    """An entry of layers.json. Sizes in bytes; `diff_size` and `diff_digest` are those of the uncompressed tar."""

    id: str
    parent: str = ""
    diff_digest: str = ""
    diff_size: int = 0
    compressed_size: int = 0
    flags: dict[str, Any] | None = None

    @property
    def incomplete(self) -> bool:
        """Being written, or left so by a writer that died; the next writer deletes it."""
        return bool(self.flags and self.flags.get("incomplete"))


class _ConfigSection(Struct):
    user: str | None = field(default=None, name="User")
    env: list[str] | None = field(default=None, name="Env")
    entrypoint: list[str] | None = field(default=None, name="Entrypoint")
    cmd: list[str] | None = field(default=None, name="Cmd")
    working_dir: str | None = field(default=None, name="WorkingDir")
    volumes: dict[str, Any] | None = field(default=None, name="Volumes")
    stop_signal: str | None = field(default=None, name="StopSignal")


class _RootFS(Struct):
    diff_ids: list[str] | None = None


class _ConfigFile(Struct):
    config: _ConfigSection | None = None
    rootfs: _RootFS | None = None


class _Manifest(Struct):
    manifests: list[Any] | None = None
    """Of an index."""


class Snapshot:
    """The storage at one moment. Immutable."""

    def __init__(self, images: list[StoredImage], layers: list[StoredLayer]) -> None:
        self.images = {image.id: image for image in images}
        self.layers = {layer.id: layer for layer in layers}
        self.by_name = {name: image for image in images for name in image.names or ()}

    def layer_ids(self, image: StoredImage) -> list[str]:
        """Topmost first. Raises KeyError when a layer is missing."""
        ids = []
        layer_id = image.layer
        while layer_id:
            ids.append(layer_id)
            layer_id = self.layers[layer_id].parent
        return ids

    def orphans(self) -> set[str]:
        """Layers that belong to no image: what an interrupted pull had finished, or had not."""
        used: set[str] = set()
        for image in self.images.values():
            layer_id = image.layer
            while layer_id and layer_id not in used:
                used.add(layer_id)
                layer_id = self.layers[layer_id].parent if layer_id in self.layers else ""
        return self.layers.keys() - used


_Identity = tuple[int, int, int]
_Entry = TypeVar("_Entry")


class Metadata:
    """The metadata of the storage at `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._images_file = str(root / "overlay-images" / "images.json")
        self._layers_file = str(root / "overlay-layers" / "layers.json")
        self._identity: tuple[_Identity | None, _Identity | None] | None = None
        self._snapshot = Snapshot([], [])
        self._views: dict[str, Image] = {}
        self._configs: dict[str, ImageConfig] = {}
        self._diff_ids: dict[str, list[str]] = {}
        self._manifest_digests: dict[str, list[str]] = {}
        self._links: dict[str, Path] = {}

    def snapshot(self) -> Snapshot:
        identity = (_identity(self._images_file), _identity(self._layers_file))
        if identity != self._identity:
            images = _read(self._images_file, list[StoredImage])
            layers = _read(self._layers_file, list[StoredLayer])
            self._snapshot = Snapshot(images, layers)
            self._views = {}
            for cache in (self._configs, self._diff_ids, self._manifest_digests):
                for image_id in cache.keys() - self._snapshot.images.keys():
                    del cache[image_id]
            for layer_id in self._links.keys() - self._snapshot.layers.keys():
                del self._links[layer_id]
            # Of before the reading: a change in between is then seen the next time.
            self._identity = identity
        return self._snapshot

    def find(self, image: str) -> StoredImage | None:
        """By name, digest reference, ID (`sha256:` or bare) or unambiguous start of an ID of at least 7 digits."""
        snapshot = self.snapshot()
        bare = image.removeprefix("sha256:")
        if found := snapshot.images.get(bare):
            return found
        try:
            name = image_name.parse(image)
        except image_name.InvalidImageName:
            name = None
        if name is not None:
            if found := snapshot.by_name.get(name.canonical):
                return found
            if name.digest:
                for candidate in snapshot.images.values():
                    names = [*(candidate.names or ()), *(candidate.names_history or ())]
                    if name.digest in self.digests(candidate) and any(
                        image_name.parse(n).repository == name.repository for n in names
                    ):
                        return candidate
        if _HEX_ID.fullmatch(bare):
            matches = [i for i in snapshot.images if i.startswith(bare)]
            if len(matches) == 1:
                return snapshot.images[matches[0]]
        return None

    def digests(self, image: StoredImage) -> list[str]:
        """Of the image's manifests; that of the index through which it was pulled comes first."""
        if image.id not in self._manifest_digests:
            keys = [n for n in image.big_data_names or () if n.startswith("manifest-")]
            indexes: list[str] = []
            manifests: list[str] = []
            for key in keys:
                manifest = _decode(self._big_data(image.id, key), _Manifest)
                (indexes if manifest.manifests else manifests).append(key.removeprefix("manifest-"))
            self._manifest_digests[image.id] = [*indexes, *manifests] or [image.digest]
        return self._manifest_digests[image.id]

    def config(self, image_id: str) -> ImageConfig:
        """Raises KeyError when there is no such image, OSError or ValueError when its files are broken."""
        image_id = image_id.removeprefix("sha256:")
        if image_id not in self._configs:
            if image_id not in self.snapshot().images:
                raise KeyError(image_id)
            raw = self._big_data(image_id, f"sha256:{image_id}")
            document = _decode(raw, _ConfigFile)
            section = document.config or _ConfigSection()
            self._diff_ids[image_id] = (document.rootfs and document.rootfs.diff_ids) or []
            self._configs[image_id] = ImageConfig(
                user=section.user or "",
                env=section.env or [],
                entrypoint=section.entrypoint or [],
                cmd=section.cmd or [],
                working_dir=section.working_dir or "",
                volumes=sorted(section.volumes or ()),
                stop_signal=section.stop_signal or "",
            )
        return self._configs[image_id]

    def layers(self, image_id: str) -> list[Path]:
        """The directories that overlayfs stacks, topmost first. Raises KeyError when image or layer is missing.

        They are the storage's short symlinks: mount options have room for a page only.
        """
        snapshot = self.snapshot()
        image = snapshot.images[image_id.removeprefix("sha256:")]
        return [self._layer_directory(layer_id) for layer_id in snapshot.layer_ids(image)]

    def image(self, stored: StoredImage) -> Image:
        """As CRI shows it. Raises KeyError, OSError, ValueError when a part of the image is missing or malformed."""
        view = self._views.get(stored.id)
        if view is None:
            snapshot = self.snapshot()
            tags, repositories = [], []
            for text in stored.names or stored.names_history or ():
                name = image_name.parse(text)
                if name.repository not in repositories:
                    repositories.append(name.repository)
                if stored.names and not name.digest:
                    tags.append(text)
            digests = self.digests(stored)
            layers = [snapshot.layers[layer] for layer in snapshot.layer_ids(stored)]
            config = self.config(stored.id)
            if [layer.diff_digest for layer in reversed(layers)] != self._diff_ids[stored.id]:
                # Old versions of skopeo do not look.
                raise ValueError("the layers are not those that the configuration names (wrong diff id)")
            view = Image(
                id=f"sha256:{stored.id}",
                repo_tags=tags,
                repo_digests=[f"{r}@{d}" for r in repositories for d in digests],
                size=sum(layer.diff_size for layer in layers),
                config=config,
            )
            self._views[stored.id] = view
        return view

    def view(self, stored: StoredImage) -> Image | None:
        """The same, but None for an image that lacks a part: it is being written, or its writer died, or it is malformed."""
        try:
            return self.image(stored)
        except (KeyError, OSError, ValueError):
            return None

    def broken(self) -> set[str]:
        """IDs of images that lack a part."""
        return {stored.id for stored in self.snapshot().images.values() if self.view(stored) is None}

    def _layer_directory(self, layer_id: str) -> Path:
        if layer_id not in self._links:
            directory = self.root / "overlay" / layer_id
            try:
                link = self.root / "overlay" / "l" / (directory / "link").read_text().strip()
                usable = link.exists()
            except FileNotFoundError:
                usable = False
            self._links[layer_id] = link if usable else directory / "diff"
        return self._links[layer_id]

    def _big_data(self, image_id: str, key: str) -> bytes:
        name = key if _SIMPLE_NAME.fullmatch(key) else "=" + base64.b64encode(key.encode()).decode()
        return (self.root / "overlay-images" / image_id / name).read_bytes()


def _identity(path: str) -> _Identity | None:
    try:
        stat = os.stat(path)
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def _decode(data: bytes, kind: type[_Entry]) -> _Entry:
    """What comes from a registry. Raises ValueError."""
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise ValueError("JSON is nested too deeply") from None


def _read(path: str, kind: type[list[_Entry]]) -> list[_Entry]:
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=kind)
    except FileNotFoundError:
        return []
