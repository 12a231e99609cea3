"""The images of a node, in a containers-storage of Podling's own. skopeo writes it, we read its metadata ourselves."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from podling.runtime import image_name
from podling.runtime.image_name import ImageName
from podling.runtime.native import image_archive, image_auth, image_errors, image_registries, image_sweep
from podling.runtime.native.image_archive import ArchivedImage
from podling.runtime.native.image_check import RegistryCheck
from podling.runtime.native.image_metadata import Metadata, StoredImage
from podling.runtime.native.image_pins import Pins
from podling.runtime.native.image_skopeo import Skopeo, SkopeoError, SkopeoStalled
from podling.runtime.protocol import (
    AuthConfig,
    CRIError,
    FilesystemUsage,
    Image,
    ImageConfig,
    ImagePullError,
    NotFound,
)

_ATTEMPTS = 4
"""Of one pull whose connection breaks. Layers that arrived are not fetched again."""
_STALL_SECONDS = 300.0
"""A pull that moves no byte for so long fails (containerd's image_pull_progress_timeout is 5 minutes, too)."""


class _Pull:
    """One download and everybody who waits for it."""

    def __init__(self) -> None:
        self.task: asyncio.Task[str]
        self.waiters = 0
        self._begun = False
        self._on_start: list[Callable[[], None]] = []

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
    ) -> None:
        self._skopeo = Skopeo(root, run_root, registries_conf)
        self._metadata = Metadata(self._skopeo.storage_root)
        self._pins = Pins(root / "pinned")
        self._run_root = run_root
        self._registries_conf = registries_conf
        self._stall_seconds = stall_seconds
        self._check = RegistryCheck(registries_conf)
        self._slots = asyncio.Semaphore(parallel_pulls)
        self._pulls: dict[tuple[object, ...], _Pull] = {}
        self._usage: dict[str, tuple[int, int]] = {}

    async def open(self) -> None:
        """Prepares the directories and removes what pulls that were interrupted by a crash left behind.

        Raises CRIError when skopeo is missing.
        """
        await asyncio.to_thread(self._skopeo.prepare)
        await self._sweep()

    async def close(self) -> None:
        """Ends the pulls that run; those who wait for them get ImagePullError."""
        pulls = [pull.task for pull in self._pulls.values()]
        for task in pulls:
            task.cancel()
        await asyncio.gather(*pulls, return_exceptions=True)
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
        progress: int | None = None,
    ) -> str:
        """Pulls, or learns from the registry that nothing has changed; returns the image's ID.

        Pulls of the same image with the same credentials share one download, which ends when the last of those who wait
        is cancelled. `progress`: a file descriptor (of a terminal, best) for skopeo's progress bars; of a shared
        download the first one counts. Raises ImagePullError.
        """
        if labels:
            raise ImagePullError("ErrImagePull", "labels of images are not supported by this runtime")
        name = image_name.parse(image)
        credentials = (auth.username, auth.password, auth.identity_token, auth.registry_token) if auth else None
        key = (name.canonical, credentials)
        pull = self._pulls.get(key)
        if pull is None or pull.task.cancelling():
            pull = self._pulls[key] = current = _Pull()
            pull.task = asyncio.create_task(self._pull(name, auth, progress, pull.begin), name=f"pull {name.canonical}")
            pull.task.add_done_callback(lambda _: self._pulls.pop(key) if self._pulls.get(key) is current else None)
        if on_start is not None:
            pull.when_begun(on_start)
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

    async def _pull(
        self, name: ImageName, auth: AuthConfig | None, progress: int | None, begin: Callable[[], None]
    ) -> str:
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
            and await self._check.unchanged(name, self._metadata.digests(stored), auth)
        ):
            return f"sha256:{stored.id}"
        swept = False
        try:
            async with self._slots:
                begin()
                with contextlib.ExitStack() as stack:
                    arguments = ["copy", "--src-no-creds"]
                    if auth is not None:
                        file = image_auth.auth_file(self._run_root, name, auth, self._registries_conf)
                        arguments = ["copy", "--src-authfile", str(stack.enter_context(file))]
                    if image_auth.is_loopback(name):
                        arguments.append("--src-tls-verify=false")
                    await self._fetch(name, arguments, auth, progress)
            stored = self._metadata.find(name.canonical)
            cause = "removed while it was pulled"
            try:
                if stored is not None:
                    image = self._metadata.image(stored)
                    swept = True
                    return image.id
            except (KeyError, OSError, ValueError) as e:
                cause = f"malformed image: {e}"
            raise ImagePullError("ErrImagePull", f'failed to pull and unpack image "{name.canonical}": {cause}')
        finally:
            if not swept:
                await self._sweep()

    async def _fetch(
        self, name: ImageName, arguments: list[str], auth: AuthConfig | None, progress: int | None
    ) -> None:
        target = self._skopeo.storage(name.canonical)
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                await self._skopeo.run(
                    *arguments,
                    f"docker://{name.canonical}",
                    target,
                    progress=progress,
                    stall_seconds=self._stall_seconds,
                )
                return
            except SkopeoError as e:
                final = attempt == _ATTEMPTS or isinstance(e, SkopeoStalled) or not image_errors.is_transient(str(e))
                if final:
                    known = (
                        await self._check.knows_repository(name, auth) if image_errors.is_not_found(str(e)) else None
                    )
                    raise image_errors.pull_error(
                        name, str(e), with_credentials=auth is not None, repository_known=known
                    ) from None
            await asyncio.sleep(0.25 * 2**attempt)

    async def remove_image(self, image: str) -> None:
        """Removes the image with all its names; removing what is not there is no error.

        Whoever calls makes sure that no container needs it: its layers are deleted.
        """
        stored = self._metadata.find(image)
        if stored is None:
            return
        try:
            await self._skopeo.run("delete", self._skopeo.storage(f"@{stored.id}"))
        except SkopeoError as e:
            if stored.id in self._metadata.snapshot().images:
                raise CRIError("ImageRemoveFailed", f'failed to remove image "{image}": {e}') from None
        await self._sweep()

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
        except BaseException:
            await self._sweep()
            raise

    async def _load(self, path: Path, image: ArchivedImage, name: str, progress: int | None) -> str:
        names = [image_name.parse(name).canonical] if name else image.names
        if not names:
            raise image_archive.ArchiveError(f"{path} does not say its image's name; give one")
        for target in names:
            try:
                await self._skopeo.run("copy", image.source, self._skopeo.storage(target), progress=progress)
            except SkopeoError as e:
                raise CRIError("ImageLoadFailed", f"failed to load {target} from {path}: {e}") from None
        stored = self._metadata.find(names[0])
        if stored is None or self._metadata.view(stored) is None:
            raise CRIError("ImageLoadFailed", f"failed to load {names[0]} from {path}: malformed image")
        return f"sha256:{stored.id}"

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
        tags = [n for n in stored.names or () if not image_name.parse(n).digest]
        try:
            asked = image_name.parse(image).canonical
            name = asked if asked in tags else next(iter(tags), "")
        except image_name.InvalidImageName:
            name = next(iter(tags), "")
        new = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            target = f"{archive_format}:{new}:{name}" if name else f"{archive_format}:{new}"
            await self._skopeo.run("copy", self._skopeo.storage(f"@{stored.id}"), target, progress=progress)
            new.replace(path)
        except SkopeoError as e:
            raise CRIError("ImageSaveFailed", f'failed to save image "{image}" to {path}: {e}') from None
        finally:
            new.unlink(missing_ok=True)

    async def _sweep(self) -> None:
        await asyncio.to_thread(image_sweep.sweep, self._skopeo, self._metadata)

    # Disk.

    async def image_fs_info(self) -> FilesystemUsage:
        """Disk space and inodes of all layers, as allocated."""
        return await asyncio.to_thread(self._measure)

    def _measure(self) -> FilesystemUsage:
        layers = self._metadata.snapshot().layers
        for gone in self._usage.keys() - layers.keys():
            del self._usage[gone]
        for layer_id, layer in layers.items():
            if layer_id not in self._usage and not layer.incomplete:
                # A finished layer never changes: measured once.
                self._usage[layer_id] = _disk_usage(self._metadata.root / "overlay" / layer_id)
        return FilesystemUsage(
            timestamp=time.time_ns(),
            mountpoint=str(self._metadata.root),
            used_bytes=sum(used for used, _ in self._usage.values()),
            inodes_used=sum(inodes for _, inodes in self._usage.values()),
        )


def _absolute(path: Path) -> Path:
    if ":" in str(path):
        raise image_archive.ArchiveError(f"{path}: the path of an archive must not contain a colon")
    return path.absolute()


def _disk_usage(directory: Path) -> tuple[int, int]:
    """(bytes, inodes) below the directory. What vanishes meanwhile does not count."""
    used, inodes = 0, 0
    seen: set[int] = set()
    for parent, directories, files in os.walk(directory):
        for entry in (*directories, *files):
            with contextlib.suppress(FileNotFoundError):
                stat = os.lstat(os.path.join(parent, entry))
                if stat.st_ino not in seen:
                    seen.add(stat.st_ino)
                    used += stat.st_blocks * 512
                    inodes += 1
    return used, inodes
