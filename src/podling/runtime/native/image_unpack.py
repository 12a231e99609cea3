"""Unpacks the layers of an image, by a program of its own: layer_unpacker."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from podling.kit import program

LIBARCHIVE = "libarchive.so.13"
_PROGRAM = Path(__file__).with_name("layer_unpacker.py")


class UnpackError(Exception):
    """A layer cannot be unpacked; the text says why."""


class Unpacked(Struct, frozen=True):
    """The digest and the length in bytes of a layer's uncompressed tar."""

    diff_id: str
    size: int


class _Result(Struct):
    index: int
    diff_id: str = ""
    size: int = 0
    error: str = ""


async def unpack(layers: Sequence[tuple[Path, Path]], keep_open: Sequence[int] = ()) -> list[Unpacked]:
    """Unpacks archives into directories that exist, as many at once as there are processors. The results are in order.

    `layers`: pairs of a tar, as it is or compressed by gzip or zstd, and its directory. The processes inherit
    the descriptors `keep_open`. Raises UnpackError; then the directories hold something or other. Cancelling ends all
    processes.
    """
    ended = await program.run(
        # It must not outlive this process: nobody would wait for it.
        *("setpriv", "--pdeathsig", "KILL", "--"),
        *(sys.executable, "-I", str(_PROGRAM)),
        input=msgspec.json.encode([(str(blob), str(directory)) for blob, directory in layers]),
        # So libarchive-c need not ask the linker's cache.
        env={"LIBARCHIVE": LIBARCHIVE, "LC_ALL": "C.UTF-8", "PATH": os.environ.get("PATH", os.defpath)},
        pass_fds=keep_open,
    )
    results = sorted(
        (msgspec.json.decode(line, type=_Result) for line in ended.stdout.splitlines()), key=lambda r: r.index
    )
    for result in results:
        if result.error:
            raise UnpackError(f"layer {layers[result.index][0].name}: {result.error}")
    if ended.code or len(results) != len(layers):
        lines = ended.stderr.decode(errors="replace").strip().splitlines()
        # A traceback ends with the error, its class first.
        said = lines[-1].rpartition("Error: ")[2] if lines else f"it ended with code {ended.code}"
        raise UnpackError(f"the program that unpacks layers failed: {said}")
    return [Unpacked(result.diff_id, result.size) for result in results]
