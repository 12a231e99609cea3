"""The images of a node.

skopeo brings an image's blobs into a place of their own and checks their digests. When all are there they come into
<root>/blobs; layers are unpacked, several at once, into <root>/layers; then <root>/images.json names the image. The blobs
stay: archives are made of them, and layers that a power failure damaged.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from podling.api import image_name
from podling.api.image_name import ImageName
from podling.kit import document_error, file_error
from podling.runtime import tree
from podling.runtime.native import (
    image_archive,
    image_errors,
    image_manifest,
    image_registries,
    image_sweep,
    rootfs,
)
from podling.runtime.native.image_archive import ArchivedImage
from podling.runtime.native.image_check import RegistryCheck
from podling.runtime.native.image_fetch import Fetched, Fetcher
from podling.runtime.native.image_layers import Layers
from podling.runtime.native.image_metadata import Metadata, StoredArtifact, StoredImage, StoredLayer
from podling.runtime.native.image_pins import Pins
from podling.runtime.native.image_skopeo import Place, Skopeo, SkopeoError
from podling.runtime.native.image_unpack import UnpackError
from podling.runtime.protocol import (
    AuthConfig,
    CRIError,
    FilesystemUsage,
    Image,
    ImageConfig,
    ImagePullError,
    NotFound,
)

log = logging.getLogger(__name__)

_STALL_SECONDS = 300.0
"""A pull that brings fewer than _STALL_BYTES in so long fails (containerd's image_pull_progress_timeout is 5 minutes, too)."""
_STALL_BYTES = 1 << 20
"""28 kbit/s on the average. One byte now and then would do otherwise, and a pull has one of few places."""


class _Pull:
    """One download and everybody who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[str]
        self.waiters = 0
        self._begun = False
        self._on_start: list[Callable[[], None]] = []
        self.on_progress: list[Callable[[int], None]] = []

    def when_begun(self, on_start: Callable[[], None]) -> None:
        """Calls it when the download has done waiting for others; at once if it has."""
        if self._begun:
            on_start()
        else:
            self._on_start.append(on_start)

    def begin(self) -> None:
        self._begun = True
        for on_start in self._on_start:
            on_start()

    def progress(self, bytes_arrived: int) -> None:
        for on_progress in self.on_progress:
            on_progress(bytes_arrived)


class ImageStore:
    """Implements protocol.ImageService.

    `root` holds the images, `run_root` what need not survive a reboot. `registries_conf` is a
    containers-registries.conf(5), None means the system's. Several stores, in several processes, may use the same
    directories at once. Both directories are absolute paths.
    """

    def __init__(
        self,
        root: Path,
        run_root: Path,
        registries_conf: Path | None = None,
        *,
        parallel_pulls: int = 4,
        stall_seconds: float = _STALL_SECONDS,
        stall_bytes: int = _STALL_BYTES,
    ) -> None:
        self._root = root
        self._skopeo = Skopeo(root, run_root, registries_conf)
        self._layers = Layers(root / "layers", self._skopeo.tmp)
        self._metadata = Metadata(root, self._skopeo.tmp, self._layers)
        self._pins = Pins(root / "pinned")
        self._registries_conf = registries_conf
        self._check = RegistryCheck(registries_conf)
        self._fetcher = Fetcher(self._skopeo, self._metadata, self._check, registries_conf, stall_seconds, stall_bytes)
        self._slots = asyncio.Semaphore(parallel_pulls)
        self._pulls: dict[tuple[object, ...], _Pull] = {}
        self._settling: set[asyncio.Task[None]] = set()
        self._usage: dict[Path, tuple[int, int]] = {}

    async def open(self) -> None:
        """Prepares the directories, mends what a power failure damaged, removes what interrupted pulls left.

        Raises CRIError when skopeo is missing.
        """
        await asyncio.to_thread(self._prepare)
        for stored in list(self._metadata.snapshot().images.values()):
            await self._mend(stored)
        self._settle()
        await self._sweep()

    def _prepare(self) -> None:
        self._skopeo.prepare()
        for directory in (self._layers.root, self._metadata.blobs / "sha256"):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._skopeo.sole_writer() as alone:
            if alone:  # else another process has been here before
                self._layers.remove_unsettled()

    async def _mend(self, stored: StoredImage) -> None:
        try:
            async with self._skopeo.writing() as lock:
                await self._unpack(stored, lock)
            self._metadata.image(stored)
        except (UnpackError, OSError, ValueError) as error:
            log.warning(
                "image %s (%s) is lost: %s", stored.id, ", ".join(stored.names) or "no name", file_error.reason(error)
            )
            await self._forget(stored.id)

    async def _forget(self, image_id: str) -> None:
        async with self._skopeo.writing():
            await asyncio.to_thread(self._metadata.forget, image_id)

    async def close(self) -> None:
        """Ends the pulls that run; those who wait for them get ImagePullError."""
        pulls = [pull.task for pull in self._pulls.values()]
        for task in pulls:
            task.cancel()
        await asyncio.gather(*pulls, *self._settling, return_exceptions=True)
        await self._check.close()

    # Looking things up: no process, no waiting.

    async def list_images(self) -> Sequence[Image]:
        views = (self._view(stored) for stored in self._metadata.snapshot().images.values())
        return [image for image in views if image is not None]

    def _view(self, stored: StoredImage) -> Image | None:
        image = self._metadata.view(stored)
        return msgspec.structs.replace(image, pinned=True) if image is not None and image in self._pins else image

    async def image_status(self, image: str) -> Image | None:
        """By name, digest reference, ID, or unambiguous start of an ID of at least 7 digits."""
        stored = self._metadata.find(image)
        return self._view(stored) if stored is not None else None

    async def layers(self, image_id: str) -> list[Path]:
        """The image's directories for overlayfs, topmost first. Raises NotFound."""
        try:
            return self._metadata.layers(image_id)
        except KeyError:
            raise NotFound(f'image "{image_id}": not found') from None

    def config(self, image_id: str) -> ImageConfig:
        """Raises NotFound."""
        try:
            return self._metadata.config(image_id)
        except (KeyError, OSError, ValueError):
            raise NotFound(f'image "{image_id}": not found') from None

    # Changing the storage.

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        on_start: Callable[[], None] | None = None,
        on_progress: Callable[[int], None] | None = None,
        progress: int | None = None,
    ) -> str:
        """Pulls, or learns from the registry that nothing has changed; returns the image's ID.

        Pulls of the same image with the same credentials share one download, which ends when the last of those who wait
        is cancelled. `on_progress` hears every second how many bytes have arrived. `progress`: a file descriptor (of
        a terminal, best) for skopeo's progress bars; of a shared download the first one counts. Raises ImagePullError.
        """
        if labels:
            raise ImagePullError("ErrImagePull", "labels of images are not supported by this runtime")
        name = image_errors.named(image)
        credentials = (auth.username, auth.password, auth.identity_token, auth.registry_token) if auth else None
        key = (name.canonical, credentials)
        pull = self._pulls.get(key)
        if pull is None or pull.task.cancelling():
            pull = self._pulls[key] = current = _Pull()
            pull.task = asyncio.create_task(self._pull(name, auth, progress, pull), name=f"pull {name.canonical}")
            pull.task.add_done_callback(lambda _: self._pulls.pop(key) if self._pulls.get(key) is current else None)
        if on_start is not None:
            pull.when_begun(on_start)
        if on_progress is not None:
            pull.on_progress.append(on_progress)
        pull.waiters += 1
        try:
            return await asyncio.shield(pull.task)
        except asyncio.CancelledError:
            if pull.task.cancelled():  # by close(), not our own cancellation
                raise ImagePullError(
                    "ErrImagePull", f'failed to pull and unpack image "{name.canonical}": context canceled'
                ) from None
            if pull.waiters == 1:
                pull.task.cancel()
                await asyncio.wait((pull.task,))
            raise
        finally:
            pull.waiters -= 1
            if on_progress is not None:
                pull.on_progress.remove(on_progress)

    async def _pull(self, name: ImageName, auth: AuthConfig | None, progress: int | None, pull: _Pull) -> str:
        route = image_registries.route(name.repository, self._registries_conf)
        if route.blocked:
            # skopeo does not see it where the entry leads to another location.
            conf = self._registries_conf or image_registries.SYSTEM_CONF
            cause = f"registry {route.prefix} is blocked in {conf}"
            raise image_errors.pull_error(name, cause, with_credentials=auth is not None)
        stored = self._metadata.snapshot().by_name.get(name.canonical)
        if (
            stored is not None
            and self._metadata.view(stored) is not None
            and await self._check.unchanged(name, stored.references(), auth)
        ):
            return f"sha256:{stored.id}"
        try:
            async with self._slots, self._skopeo.place() as place:
                pull.begin()
                fetched = await self._fetcher.from_registry(name, auth, place, progress, pull.progress)
                return await self._keep(fetched, place, [name.canonical])
        except (UnpackError, OSError, ValueError) as error:
            raise image_errors.pull_error(name, _cause(error), with_credentials=auth is not None) from None
        finally:
            await self._sweep()

    async def _keep(self, fetched: Fetched, place: Place, names: list[str]) -> str:
        """Takes over, unpacks and names an image; returns its ID.

        Raises UnpackError, OSError; ValueError for a malformed image.
        """
        async with self._skopeo.writing() as lock:
            await asyncio.to_thread(self._metadata.adopt, place)
            stored = await asyncio.to_thread(self._describe, fetched, names)
            await self._unpack(stored, lock)
            await asyncio.to_thread(self._metadata.add, stored)
        self._settle()
        return f"sha256:{stored.id}"

    def _describe(self, fetched: Fetched, names: list[str]) -> StoredImage:
        raw = self._metadata.blob(fetched.manifest).read_bytes()
        self._metadata.add_blob(raw)  # skopeo leaves it to the kernel when it reaches the disk
        manifest = image_manifest.manifest(raw)
        for blob in (manifest.config, *manifest.layers):
            size = self._metadata.blob(blob.digest).stat().st_size
            if blob.size not in (None, size):  # skopeo compares digests alone
                raise ValueError(f"{blob.digest} has {size} bytes, the manifest says {blob.size}")
        layers: list[StoredLayer] = []
        artifact = None
        if manifest.is_artifact:
            image_id = fetched.manifest
            files = {path: file.digest for path, file in manifest.files().items()}
            artifact = StoredArtifact(manifest.config.digest, files)
        else:
            image_id = manifest.config.digest
            _, diff_ids = image_manifest.config(self._metadata.blob(image_id).read_bytes())
            if len(diff_ids) != len(manifest.layers):
                raise ValueError(f"{len(manifest.layers)} layers, but {len(diff_ids)} diff ids")
            if (count := len(set(diff_ids))) > rootfs.MAX_LAYERS:
                raise UnpackError(f"it has {count} layers, overlayfs stacks at most {rootfs.MAX_LAYERS}")
            layers = [
                StoredLayer(diff_id, layer.digest, self._metadata.blob(layer.digest).stat().st_size)
                for diff_id, layer in zip(diff_ids, manifest.layers, strict=True)
            ]
        return StoredImage(
            id=image_id.removeprefix("sha256:"),
            names=names,
            repositories=[image_name.parse(name).repository for name in names],
            digests=fetched.digests,
            manifest=fetched.manifest,
            layers=layers,
            artifact=artifact,
        )

    async def _unpack(self, stored: StoredImage, lock: int) -> None:
        """Makes the image's directories out of its blobs, as far as they are missing."""
        if stored.artifact is not None:
            files = {path: self._metadata.blob(digest) for path, digest in stored.artifact.files.items()}
            await self._layers.link(f"sha256:{stored.id}", files)
        else:
            packed = {layer.diff_id: self._metadata.blob(layer.digest) for layer in stored.layers}
            await self._layers.make(packed, keep_open=(lock,))

    def _settle(self) -> None:
        """Nobody waits for it: an image can be used before the disk has it."""
        task = asyncio.create_task(asyncio.to_thread(self._layers.settle), name="settle layers")
        self._settling.add(task)
        task.add_done_callback(self._settled)

    def _settled(self, task: asyncio.Task[None]) -> None:
        self._settling.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.warning("layers cannot be written to the disk: %s", file_error.reason(error))

    async def remove_image(self, image: str) -> None:
        """Removes the image with all its names; removing what is not there is no error.

        Whoever calls makes sure that no container needs it: its layers are deleted.
        """
        stored = self._metadata.find(image)
        if stored is None:
            return
        try:
            await self._forget(stored.id)
        except OSError as e:
            raise CRIError("ImageRemoveFailed", f'failed to remove image "{image}": {file_error.reason(e)}') from None
        await self._sweep()

    async def remove_name(self, image: str) -> Image | None:
        """Takes one of an image's several names away; returns the image, which stays, with its other names.

        None, and nothing is done, for the only name of an image and for what is no name. Raises CRIError.
        """
        stored = self._metadata.find(image)
        try:
            name = image_name.parse(image).canonical
        except image_name.InvalidImageName:
            return None
        if stored is None or name not in stored.names or len(stored.names) == 1:
            return None
        try:
            async with self._skopeo.writing():
                await asyncio.to_thread(self._metadata.forget_name, stored.id, name)
        except OSError as e:
            raise CRIError(
                "ImageRemoveFailed", f'failed to remove the name "{image}": {file_error.reason(e)}'
            ) from None
        return await self.image_status(stored.id)

    async def pin(self, image: str, *, pinned: bool = True) -> None:
        """Pins the name (whatever image it is going to have) or, given an ID, that image; or takes the pin away.

        A pinned image is removed only on demand, by remove_image. Raises NotFound.
        """
        found = await self.image_status(image)
        if found is None:
            raise NotFound(f'image "{image}": not found')
        if not pinned:
            # Whichever way it was pinned.
            await asyncio.to_thread(self._pins.remove, found.id, *found.repo_tags, *found.repo_digests)
            return
        try:
            name = image_name.parse(image).canonical
        except image_name.InvalidImageName:
            name = found.id
        is_name = name in found.repo_tags or name in found.repo_digests
        await asyncio.to_thread(self._pins.add, name if is_name else found.id)

    async def load(self, path: Path, name: str = "", *, progress: int | None = None) -> list[str]:
        """Stores the images of a docker-archive, oci-archive, OCI layout or `dir:` directory; returns their IDs.

        `name` replaces the name that the archive gives, if it holds one image. Raises CRIError, OSError.
        """
        path = _absolute(path)
        archived = await asyncio.to_thread(image_archive.contents, path)
        if name and len(archived) != 1:
            raise image_archive.ArchiveError(f"{path} holds {len(archived)} images; a name fits only one")
        try:
            return [await self._load(path, image, name, progress) for image in archived]
        finally:
            await self._sweep()

    async def _load(self, path: Path, image: ArchivedImage, name: str, progress: int | None) -> str:
        names = [image_errors.named(name).canonical] if name else image.names
        if not names:
            raise image_archive.ArchiveError(f"{path} does not say its image's name; give one")
        try:
            async with self._skopeo.place() as place:
                return await self._keep(await self._fetcher.from_archive(image, place, progress), place, names)
        except SkopeoError as e:
            raise CRIError("ImageLoadFailed", f"failed to load {names[0]} from {path}: skopeo: {e}") from None
        except (UnpackError, OSError, ValueError) as e:
            raise CRIError("ImageLoadFailed", f"failed to load {names[0]} from {path}: {_cause(e)}") from None

    async def save(
        self, image: str, path: Path, archive_format: str = "docker-archive", *, progress: int | None = None
    ) -> None:
        """Writes the image to the file as `docker-archive` or `oci-archive`; replaces it only once it is complete.

        Raises NotFound, CRIError.
        """
        path = _absolute(path)
        stored = self._metadata.find(image)
        if stored is None:
            raise NotFound(f'image "{image}": not found')
        tags = [name for name in stored.names if "@" not in name]
        try:
            asked = image_name.parse(image).canonical
            name = asked if asked in tags else next(iter(tags), "")
        except image_name.InvalidImageName:
            name = next(iter(tags), "")
        if path.is_dir() or not path.parent.is_dir():
            why = "it is a directory, give a file" if path.is_dir() else f"there is no directory {path.parent}"
            raise CRIError("ImageSaveFailed", f'failed to save image "{image}" to {path}: {why}')
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            target = f"{archive_format}:{new}:{name}" if name else f"{archive_format}:{new}"
            async with self._skopeo.writing() as lock:
                manifest = image_manifest.descriptor(
                    stored.manifest, self._metadata.blob(stored.manifest).stat().st_size
                )
                with self._skopeo.layout(manifest) as layout:
                    blobs = ("--src-shared-blob-dir", str(self._metadata.blobs))
                    await self._skopeo.run("copy", *blobs, f"oci:{layout}", target, lock=lock, progress=progress)
            new.replace(path)
        except SkopeoError as e:
            raise CRIError("ImageSaveFailed", f'failed to save image "{image}" to {path}: skopeo: {e}') from None
        except OSError as e:
            raise CRIError(
                "ImageSaveFailed", f'failed to save image "{image}" to {path}: {file_error.reason(e)}'
            ) from None
        finally:
            new.unlink(missing_ok=True)

    async def _sweep(self) -> None:
        await asyncio.to_thread(image_sweep.sweep, self._skopeo, self._metadata, self._layers)

    # Disk.

    async def image_fs_info(self) -> FilesystemUsage:
        """Disk space and inodes of all layers, packed and unpacked, as allocated."""
        return await asyncio.to_thread(self._measure)

    def _measure(self) -> FilesystemUsage:
        # The files of artifacts are the blobs themselves.
        artifacts = {name for name, image in self._metadata.snapshot().images.items() if image.artifact}
        layers = (path for path in self._layers.root.iterdir() if path.name not in artifacts)
        finished = {*layers, *(self._metadata.blobs / "sha256").iterdir()}
        for gone in self._usage.keys() - finished:
            del self._usage[gone]
        for path in finished - self._usage.keys():
            self._usage[path] = tree.usage(path)  # it never changes
        return FilesystemUsage(
            timestamp=time.time_ns(),
            mountpoint=str(self._root),
            used_bytes=sum(used for used, _ in self._usage.values()),
            inodes_used=sum(inodes for _, inodes in self._usage.values()),
        )


def _cause(error: Exception) -> str:
    """Why an image that has arrived cannot be kept."""
    if isinstance(error, image_manifest.NoMatch):
        return f"no match for platform in manifest: not found: {error}"
    if isinstance(error, UnpackError):
        return f"failed to unpack: {error}"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        full = "no space left on device"
        return full if error.strerror == os.strerror(errno.ENOSPC) else f"{full}: {error.strerror}"
    if isinstance(error, OSError):
        return f"failed to unpack: {file_error.reason(error)}"
    return f"malformed image: {document_error.reason(error)}"


def _absolute(path: Path) -> Path:
    if ":" in str(path):
        raise image_archive.ArchiveError(f"{path}: the path of an archive must not contain a colon")
    return path.absolute()
