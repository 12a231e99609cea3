"""The unpacked layers of a node's images, each once, however many images share it.

    <root>/<hex of the diff ID>/fs            what overlayfs stacks
    <root>/<hex of the diff ID>/layer.json    what else is known of it
    <root>/<hex of the diff ID>/unsettled     until the files are on the disk: the boot that wrote them

An artifact has such a directory, too, under its ID: its files are hard links to the blobs.

A directory gets its name when it is complete. Its files reach the disk later: until then `unsettled` names the boot that
wrote them, and what is found with the mark of another boot is made anew from the packed layer, which is on the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
from msgspec import Struct

from podling.runtime import tree
from podling.runtime.native import syscalls
from podling.runtime.native.image_unpack import UnpackError, unpack
from podling.runtime.native.state import boot_id

_UNSETTLED = "unsettled"


class WrongLayer(UnpackError):
    """A packed layer holds something else than the image's configuration says."""


class _Layer(Struct):
    """`size` of the uncompressed tar, in bytes."""

    size: int


class Layers:
    """Those below `root`; `tmp` lies on the same file system. Several processes may use the same directories."""

    def __init__(self, root: Path, tmp: Path) -> None:
        self.root = root
        self._tmp = tmp
        self._making: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sizes: dict[str, int] = {}

    def directory(self, diff_id: str) -> Path:
        """For overlayfs."""
        return self._place(diff_id) / "fs"

    def _place(self, diff_id: str) -> Path:
        return self.root / diff_id.removeprefix("sha256:")

    def exists(self, diff_id: str) -> bool:
        return self._place(diff_id).is_dir()

    def size(self, diff_id: str) -> int:
        """Bytes of the uncompressed tar. Raises OSError when there is no such layer."""
        if diff_id not in self._sizes:
            self._sizes[diff_id] = msgspec.json.decode(
                (self._place(diff_id) / "layer.json").read_bytes(), type=_Layer
            ).size
        return self._sizes[diff_id]

    def present(self) -> list[str]:
        """Diff IDs."""
        return [f"sha256:{name}" for name in os.listdir(self.root)]

    async def make(self, packed: Mapping[str, Path], keep_open: Sequence[int] = ()) -> None:
        """Unpacks those that are missing. `packed` has the archive for each diff ID, `keep_open` is as for `unpack`.

        Raises UnpackError; WrongLayer if an archive does not have the diff ID. Nothing is left then.
        """
        async with contextlib.AsyncExitStack() as stack:
            for diff_id in sorted(packed):  # always in this order, so two of these cannot wait for each other
                await stack.enter_async_context(self._making.setdefault(diff_id, asyncio.Lock()))
            missing = {diff_id: blob for diff_id, blob in packed.items() if not self.exists(diff_id)}
            if missing:
                await self._make(missing, keep_open)

    async def _make(self, packed: Mapping[str, Path], keep_open: Sequence[int]) -> None:
        async with self._temporary() as directory:
            places = {diff_id: directory / str(number) for number, diff_id in enumerate(packed)}
            for place in places.values():
                (place / "fs").mkdir(parents=True, mode=0o755)
            jobs = [(blob, places[diff_id] / "fs") for diff_id, blob in packed.items()]
            unpacked = await unpack(jobs, keep_open)
            for diff_id, layer in zip(packed, unpacked, strict=True):
                if layer.diff_id != diff_id:
                    raise WrongLayer(f"a layer is {layer.diff_id}, the configuration names {diff_id} (wrong diff id)")
            await asyncio.to_thread(self._keep, places, [layer.size for layer in unpacked])

    @contextlib.asynccontextmanager
    async def _temporary(self) -> AsyncIterator[Path]:
        directory = Path(tempfile.mkdtemp(prefix="layers-", dir=self._tmp))
        try:
            yield directory
        finally:
            await asyncio.to_thread(tree.remove, directory)

    def _keep(self, places: Mapping[str, Path], sizes: Sequence[int]) -> None:
        boot = boot_id()
        for (diff_id, place), size in zip(places.items(), sizes, strict=True):
            (place / "layer.json").write_bytes(msgspec.json.encode(_Layer(size)))
            (place / _UNSETTLED).write_text(boot)
            try:
                place.rename(self._place(diff_id))
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):  # another process was faster
                    raise

    async def link(self, key: str, files: Mapping[str, Path]) -> None:
        """Makes the directory of an artifact, if it is missing: `files` has the blob of each path.

        The paths are relative and lead nowhere else (image_manifest.Manifest.files). Raises OSError.
        """
        async with self._making.setdefault(key, asyncio.Lock()):
            if not self.exists(key):
                async with self._temporary() as directory:
                    await asyncio.to_thread(self._link, key, files, directory / "0")

    def _link(self, key: str, files: Mapping[str, Path], place: Path) -> None:
        (place / "fs").mkdir(parents=True, mode=0o755)
        for name, blob in files.items():
            file = place / "fs" / name
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            blob.chmod(0o444)  # the blobs' own directory is root's alone
            os.link(blob, file)
        self._keep({key: place}, [sum(blob.stat().st_size for blob in files.values())])

    def settle(self) -> None:
        """Writes what was unpacked to the disk, for good. Blocks, for seconds after a large image. Idempotent."""
        marks = [mark for mark, boot in self._marks() if boot == boot_id()]
        if marks:
            syscalls.syncfs(self.root)
            for mark in marks:
                mark.unlink(missing_ok=True)

    def remove_unsettled(self) -> None:
        """Removes layers of which a part may never have reached the disk: the machine stopped before. Blocks."""
        for mark, boot in self._marks():
            if boot != boot_id():
                self.remove(f"sha256:{mark.parent.name}")

    def _marks(self) -> Iterator[tuple[Path, str]]:
        for name in os.listdir(self.root):
            mark = self.root / name / _UNSETTLED
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                yield mark, mark.read_text()

    def remove(self, diff_id: str) -> None:
        """Blocks. Idempotent; when it is cut short the layer has lost its name, and the rest is a temporary file."""
        doomed = Path(tempfile.mkdtemp(prefix="removed-", dir=self._tmp))
        with contextlib.suppress(FileNotFoundError):
            self._place(diff_id).rename(doomed / "layer")
        self._sizes.pop(diff_id, None)
        tree.remove(doomed)
