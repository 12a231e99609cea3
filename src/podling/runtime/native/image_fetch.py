"""Brings an image's blobs to the node, by skopeo, into a place of their own: from a registry or from an archive.

What comes is checked against its digests by skopeo, with one exception: the manifest in a registry, which is checked here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from podling.api.image_name import ImageName
from podling.runtime.native import image_auth, image_errors, image_manifest, image_registries
from podling.runtime.native.image_archive import ArchivedImage
from podling.runtime.native.image_check import RegistryCheck
from podling.runtime.native.image_manifest import Descriptor
from podling.runtime.native.image_metadata import Metadata
from podling.runtime.native.image_skopeo import Place, Skopeo, SkopeoError, SkopeoStalled
from podling.runtime.protocol import AuthConfig

_ATTEMPTS = 4
"""Of one pull whose connection breaks. Layers that arrived are not fetched again."""

_MAX_INDEXES = 3
"""On the way to an image: an index may lead to another one (image-index.md)."""

_SLACK = 4 << 20
"""Bytes that a file may be longer than the largest blob: skopeo writes a few small ones of its own."""

_Run = Callable[..., Awaitable[bytes]]


class Fetched(Struct, frozen=True):
    """An image whose blobs are all in their place."""

    manifest: str
    """The digest of its manifest, in OCI's form."""
    digests: list[str]
    """By which the registry knows it: that of the index first, if it came through one. None: out of an archive."""


class Fetcher:
    """`place` is of Skopeo.place."""

    def __init__(
        self,
        skopeo: Skopeo,
        metadata: Metadata,
        check: RegistryCheck,
        registries_conf: Path | None,
        stall_seconds: float,
        stall_bytes: int,
    ) -> None:
        self._skopeo = skopeo
        self._metadata = metadata
        self._check = check
        self._registries_conf = registries_conf
        self._stall_seconds = stall_seconds
        self._stall_bytes = stall_bytes

    async def from_registry(
        self,
        name: ImageName,
        auth: AuthConfig | None,
        place: Place,
        progress: int | None = None,
        on_progress: Callable[[int], None] | None = None,
    ) -> Fetched:
        """`progress` and `on_progress` are as for ImageStore.pull_image.

        Raises ImagePullError, OSError; ValueError for a malformed image.
        """
        conditional = image_registries.route(name.repository, self._registries_conf).conditional
        with contextlib.ExitStack() as stack:
            options = ["no-creds"]
            if auth is not None:
                file = image_auth.auth_file(name, auth, self._registries_conf)
                options = [f"authfile={stack.enter_context(file)}"]
            if image_auth.is_loopback(name):
                options.append("tls-verify=false")
            run = functools.partial(self._attempts, name, auth, place=place)
            inspect = [f"--{option}" for option in options]
            raw = await run("inspect", "--raw", *inspect, f"docker://{name.canonical}")
            digests = [image_manifest.digest_of(raw)]
            if name.digest not in ("", digests[0]):
                raise ValueError(f"the manifest does not match its digest: it is {digests[0]}")
            while instance := image_manifest.instance(raw):
                digests.append(instance.digest)
                if instance.is_index and len(digests) > _MAX_INDEXES:
                    raise ValueError(f"more than {_MAX_INDEXES} indexes, one within another")
                raw = await run("inspect", "--raw", *inspect, f"docker://{name.repository}@{instance.digest}")
                if image_manifest.digest_of(raw) != instance.digest:
                    raise ValueError(f"the manifest does not match its digest: it is {image_manifest.digest_of(raw)}")
            # By digest, lest the tag move in between; but some mirrors are not to be asked for digests.
            source = f"docker://{name.canonical if conditional else f'{name.repository}@{digests[-1]}'}"
            blobs = image_manifest.packed(raw)
            limit = self._limit(blobs)
            await asyncio.to_thread(self._metadata.lend, [blob.digest for blob in blobs], place)
            copy = functools.partial(run, progress=progress, on_progress=on_progress, file_bytes=limit)
            manifest = await self._copy(copy, [f"--src-{option}" for option in options], source, place)
            if manifest != digests[-1]:
                manifest = await self._with_own_config(run, inspect, source, manifest, place)
            return Fetched(manifest, digests)

    def _limit(self, blobs: list[Descriptor]) -> int:
        """Return how long a file may get when these blobs are fetched. Raises OSError if there is no room for all."""
        sizes = [blob.size for blob in blobs if not self._metadata.blob(blob.digest).exists()]
        said, room = [size for size in sizes if size is not None], self._metadata.room()
        if sum(said) >= room:
            raise OSError(errno.ENOSPC, f"{sum(said)} bytes are to come, there is room for {room}")
        return min(room, max(said) + _SLACK) if said and len(said) == len(sizes) else room

    async def from_archive(self, image: ArchivedImage, place: Place, progress: int | None = None) -> Fetched:
        """Raises SkopeoError, OSError; ValueError for a malformed image."""
        await asyncio.to_thread(lambda: self._metadata.lend(self._metadata.present(), place))
        run = functools.partial(self._skopeo.run, lock=place.lock, tmp=place.directory)
        manifest = await self._copy(functools.partial(run, progress=progress), [], image.source, place)
        if not image.source.startswith("oci"):
            manifest = await self._with_own_config(run, [], image.source, manifest, place)
        return Fetched(manifest, [])

    async def _copy(self, run: _Run, options: list[str], source: str, place: Place) -> str:
        """Returns the digest of the manifest, in OCI's form."""
        into = ["--dest-shared-blob-dir", str(place.blobs), "--dest-oci-accept-uncompressed-layers"]
        layout = place.directory / "image"
        await run("copy", *options, *into, source, f"oci:{layout}:image")
        (manifest,) = image_manifest.manifests_of_layout((layout / "index.json").read_bytes())
        return manifest

    async def _with_own_config(self, run: _Run, options: list[str], source: str, manifest: str, place: Place) -> str:
        """Of a manifest in Docker's form skopeo has made one in OCI's, and a configuration that has another digest.

        The digest of an image's own is its ID, so it takes its place again. Returns the digest of the manifest with it.
        """
        config = await run("inspect", "--raw", "--config", *options, source)
        if not config:
            return manifest  # Docker's first form has none

        def replace() -> str:
            raw = place.blob(manifest).read_bytes()
            return place.add(image_manifest.with_config(raw, place.add(config), len(config)))

        return await asyncio.to_thread(replace)

    async def _attempts(
        self,
        name: ImageName,
        auth: AuthConfig | None,
        *arguments: str,
        place: Place,
        progress: int | None = None,
        on_progress: Callable[[int], None] | None = None,
        file_bytes: int | None = None,
    ) -> bytes:
        """Runs skopeo, again while the connection breaks. Raises ImagePullError; OSError when the disk gets full."""
        attempt = 1
        arrived = before = 0

        def hear(written: int) -> None:
            nonlocal arrived
            arrived = before + written
            if not self._metadata.room():  # others write, too
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if on_progress is not None:
                on_progress(arrived)

        while True:
            try:
                return await self._skopeo.run(
                    *arguments,
                    lock=place.lock,
                    tmp=place.directory,
                    progress=progress,
                    on_progress=hear,
                    stall_seconds=self._stall_seconds,
                    stall_bytes=self._stall_bytes,
                    file_bytes=file_bytes,
                )
            except SkopeoError as e:
                message = str(e).replace(": file too large", ": a blob is longer than the manifest says")
                if attempt == _ATTEMPTS or isinstance(e, SkopeoStalled) or not image_errors.is_transient(message):
                    known = (
                        await self._check.knows_repository(name, auth) if image_errors.is_not_found(message) else None
                    )
                    raise image_errors.pull_error(
                        name, message, with_credentials=auth is not None, repository_known=known
                    ) from None
            await asyncio.sleep(0.25 * 2**attempt)
            attempt += 1
            before = arrived
