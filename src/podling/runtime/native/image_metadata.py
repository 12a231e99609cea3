"""Which images a node has: images.json, and the manifests and configurations among the blobs.

images.json is replaced as a whole by whoever changes it, so a reader needs no lock: the file's identity (inode, time,
size) tells whether what was read before still holds. A look-up costs one stat call, microseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct

from podling.api import image_name
from podling.kit import document_error
from podling.runtime.native import image_manifest
from podling.runtime.native.image_layers import Layers
from podling.runtime.native.image_skopeo import Place
from podling.runtime.protocol import CRIError, Image, ImageConfig

_KEPT_FREE = 100
"""One part of so many of the disk stays free."""
_HEX_ID = re.compile(r"[0-9a-f]{7,64}")


class StoredLayer(Struct, frozen=True):
    """`diff_id` names the unpacked layer, `digest` the packed one, a blob of `packed_size` bytes."""

    diff_id: str
    digest: str
    packed_size: int


class StoredArtifact(Struct, frozen=True):
    """What an OCI artifact has in place of layers: `config` is a digest, `files` are digests by path."""

    config: str
    files: dict[str, str]


class StoredImage(Struct, frozen=True, kw_only=True):
    """An entry of images.json. `id` is the hex of the configuration's digest; of an artifact, of the manifest's.

    Configurations of artifacts are mostly empty, so they tell nothing apart.
    """

    id: str
    names: list[str]
    """Complete references, tags and digests. A tag that moves to another image takes its name along."""
    repositories: list[str]
    """Of all names that it ever had."""
    digests: list[str]
    """By which registries know it; that of the index through which it was pulled comes first. None: out of an archive."""
    manifest: str
    """The digest of its manifest, a blob (in OCI's form, whatever the registry's is)."""
    layers: list[StoredLayer]
    """Lowest first."""
    artifact: StoredArtifact | None = None

    def references(self) -> list[str]:
        """The digests by which it is known here."""
        return self.digests or [self.manifest]

    def blobs(self) -> set[str]:
        artifact = {self.artifact.config, *self.artifact.files.values()} if self.artifact else set()
        return {self.manifest, f"sha256:{self.id}", *(layer.digest for layer in self.layers), *artifact}

    def directories(self) -> list[str]:
        """Return the keys of its directories in `Layers`, lowest first: diff IDs, or an artifact's ID."""
        return [f"sha256:{self.id}"] if self.artifact else [layer.diff_id for layer in self.layers]


class Snapshot:
    """The images at one moment. Immutable."""

    def __init__(self, images: Iterable[StoredImage]) -> None:
        self.images = {image.id: image for image in images}
        self.by_name = {name: image for image in self.images.values() for name in image.names}


class Metadata:
    """`root` holds images.json and blobs/sha256/; `tmp` lies on the same file system."""

    def __init__(self, root: Path, tmp: Path, layers: Layers) -> None:
        self._tmp = tmp
        self.blobs = root / "blobs"
        self._file = root / "images.json"
        self._layers = layers
        self._identity: tuple[int, int, int] | None = None
        self._snapshot = Snapshot([])
        self._views: dict[str, Image] = {}
        self._configs: dict[str, ImageConfig] = {}

    def snapshot(self) -> Snapshot:
        identity = self._identify()
        if identity != self._identity:
            self._snapshot = Snapshot(self._read())
            self._views = {}
            for image_id in self._configs.keys() - self._snapshot.images.keys():
                del self._configs[image_id]
            # Of before the reading: a change in between is then seen the next time.
            self._identity = identity
        return self._snapshot

    def _identify(self) -> tuple[int, int, int] | None:
        try:
            stat = os.stat(self._file)
        except FileNotFoundError:
            return None
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def _read(self) -> list[StoredImage]:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=list[StoredImage])
        except FileNotFoundError:
            return []
        except ValueError as error:
            why = f"{self._file} is damaged: {document_error.reason(error)}"
            remedy = "restore it from a copy, or delete it to have all images pulled again"
            raise CRIError("ImageStoreDamaged", f"{why} ({remedy})") from None

    def room(self) -> int:
        """Return how many bytes may still be written: a part of the disk stays free for others, as in layer_unpacker."""
        disk = os.statvfs(self.blobs)
        return max(0, disk.f_bavail - disk.f_blocks // _KEPT_FREE) * disk.f_frsize

    def blob(self, digest: str) -> Path:
        return self.blobs / "sha256" / digest.removeprefix("sha256:")

    def lend(self, digests: Iterable[str], place: Place) -> None:
        """Links those of the blobs that are there into a place. Blocks."""
        for digest in digests:
            with contextlib.suppress(FileNotFoundError):
                os.link(self.blob(digest), place.blob(digest))

    def adopt(self, place: Place) -> None:
        """Takes over the blobs of a place. Blocks. Their names are on the disk with the next `add_blob`."""
        for file in (place.blobs / "sha256").iterdir():
            with contextlib.suppress(FileExistsError):
                os.link(file, self.blob(file.name))

    def present(self) -> list[str]:
        """Return the digests of all blobs."""
        return [f"sha256:{name}" for name in os.listdir(self.blobs / "sha256")]

    def add_blob(self, data: bytes) -> str:
        """Its digest; it is on the disk on return. Blocks."""
        digest = image_manifest.digest_of(data)
        self._write(self.blob(digest), data)
        return digest

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
            for candidate in snapshot.images.values():
                if name.digest in candidate.references() and name.repository in candidate.repositories:
                    return candidate
        if _HEX_ID.fullmatch(bare):
            matches = [image_id for image_id in snapshot.images if image_id.startswith(bare)]
            if len(matches) == 1:
                return snapshot.images[matches[0]]
        return None

    def config(self, image_id: str) -> ImageConfig:
        """Raises KeyError when there is no such image, OSError or ValueError when its configuration is broken."""
        image_id = image_id.removeprefix("sha256:")
        if image_id not in self._configs:
            if self.snapshot().images[image_id].artifact:
                return ImageConfig()
            self._configs[image_id], _ = image_manifest.config(self.blob(image_id).read_bytes())
        return self._configs[image_id]

    def layers(self, image_id: str) -> list[Path]:
        """The directories that overlayfs stacks, topmost first. Raises KeyError when there is no such image.

        overlayfs takes a directory once. Of a layer that occurs several times the topmost one hides the others whole.
        """
        stored = self.snapshot().images[image_id.removeprefix("sha256:")]
        return [self._layers.directory(key) for key in dict.fromkeys(reversed(stored.directories()))]

    def image(self, stored: StoredImage) -> Image:
        """As CRI shows it. Raises KeyError, OSError, ValueError when a part of the image is missing or malformed."""
        view = self._views.get(stored.id)
        if view is None:
            repositories = list(dict.fromkeys(image_name.parse(name).repository for name in stored.names))
            view = self._views[stored.id] = Image(
                id=f"sha256:{stored.id}",
                repo_tags=[name for name in stored.names if "@" not in name],
                repo_digests=[f"{r}@{d}" for r in repositories or stored.repositories for d in stored.references()],
                # Both forms are on the disk: garbage collection counts on it that so much is free afterwards.
                size=sum(self._layers.size(key) for key in set(stored.directories()))
                + sum(layer.packed_size for layer in set(stored.layers)),
                config=self.config(stored.id),
                artifact=stored.artifact is not None,
            )
        return view

    def view(self, stored: StoredImage) -> Image | None:
        """The same, but None for an image that lacks a part."""
        try:
            return self.image(stored)
        except (KeyError, OSError, ValueError):
            return None

    # Changing images.json. Blocks, for some milliseconds.

    def add(self, image: StoredImage) -> None:
        """Other images lose its names. One that is there already stays as it is packed, if it is whole, and gets the names.

        On the disk on return.
        """

        def change(images: list[StoredImage]) -> list[StoredImage]:
            changed = []
            merged = image
            for other in images:
                if other.id == image.id:
                    whole = all(self.blob(digest).exists() for digest in other.blobs())
                    merged = msgspec.structs.replace(
                        other if whole else image,
                        names=_union(other.names, image.names),
                        repositories=_union(other.repositories, image.repositories),
                        digests=_union(image.digests, other.digests),
                    )
                else:
                    names = [name for name in other.names if name not in image.names]
                    changed.append(msgspec.structs.replace(other, names=names))
            return [*changed, merged]

        self._change(change)

    def forget(self, image_id: str) -> None:
        """Idempotent."""
        self._change(lambda images: [image for image in images if image.id != image_id])

    def forget_name(self, image_id: str, name: str) -> None:
        """Takes the name away from the image, unless it is its last. Idempotent."""

        def without(image: StoredImage) -> StoredImage:
            names = [other for other in image.names if other != name]
            return msgspec.structs.replace(image, names=names) if names and image.id == image_id else image

        self._change(lambda images: [without(image) for image in images])

    def _change(self, change: Callable[[list[StoredImage]], list[StoredImage]]) -> None:
        with open(self._file.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._write(self._file, msgspec.json.encode(change(self._read())))

    def _write(self, path: Path, data: bytes) -> None:
        """Replaces the file, and returns when the disk has it."""
        descriptor, new = tempfile.mkstemp(dir=self._tmp)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(new, path)
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


def _union(first: list[str], second: list[str]) -> list[str]:
    return list(dict.fromkeys([*first, *second]))
