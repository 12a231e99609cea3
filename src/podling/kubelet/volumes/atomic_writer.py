"""Replaces all files of a volume at one stroke, so that a container never sees a mixture of old and new.

Layout (what users of ConfigMap volumes know): a directory "..<time stamp>" with the files, a link "..data" to it that is
replaced by rename, and for each first path component a link to "..data/<component>".
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from podling.kubelet.volumes.content import File, Payload
from podling.runtime import tree

_DATA = "..data"
_MAX_PATH = 4096
_MAX_DEPTH = 255
"""Directories of a path: Python's own functions for trees call themselves for each."""


def write(volume: Path, payload: Payload, group: int | None) -> bool:
    """Makes `payload` what the volume shows; `group` owns the files (fsGroup). Returns whether its files were written.

    A kill at any moment leaves the old or the new content; the next call completes the links and clears the rest.
    Raises ValueError for a path that leads out of the volume, or that is one of this module's own names.
    """
    for path in payload:
        parts = path.split("/")
        if not path or path.startswith(("/", "..")) or ".." in parts or len(path.encode()) > _MAX_PATH:
            raise ValueError(f'invalid path "{path}": it must be relative and must not contain or start with ".."')
        if len(parts) > _MAX_DEPTH:
            raise ValueError(f'invalid path "{path[:100]}...": it is more than {_MAX_DEPTH} directories deep')
    link = volume / f"{_DATA}_tmp"
    link.unlink(missing_ok=True)
    current = _current(volume)
    stale = current is None or not _shows(current, payload)
    if current is None or stale:
        current = volume / f"..{time.strftime('%Y_%m_%d_%H_%M_%S', time.gmtime())}.{time.time_ns() % 1_000_000_000:09d}"
        try:
            current.mkdir(mode=0o755)
            for path, file in payload.items():
                _write_file(current / path, file, group)
        except BaseException:
            tree.remove(current)  # it is tried again, and each attempt would leave as much
            raise
        link.symlink_to(current.name)
        link.rename(volume / _DATA)
    wanted = {path.partition("/")[0] for path in payload}
    for name in wanted:
        if not (volume / name).is_symlink():
            (volume / name).symlink_to(f"{_DATA}/{name}")
    for entry in volume.iterdir():
        if entry.name.startswith("..") and entry.name not in (_DATA, current.name):
            tree.remove(entry)
        elif entry.is_symlink() and entry.name not in (_DATA, *wanted):
            # What is no link is none of ours: a directory made for a subPath that names no file.
            entry.unlink()
    return stale


def _current(volume: Path) -> Path | None:
    try:
        return volume / os.readlink(volume / _DATA)
    except OSError:
        return None


def _shows(directory: Path, payload: Payload) -> bool:
    names = {
        str((Path(parent) / file).relative_to(directory)) for parent, _, files in os.walk(directory) for file in files
    }
    if names != payload.keys():
        return False
    return all((directory / path).read_bytes() == file.data for path, file in payload.items())


def _write_file(path: Path, file: File, group: int | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(file.data)
    if group is not None or file.owner is not None:
        os.chown(path, -1 if file.owner is None else file.owner, -1 if group is None else group)
    path.chmod(file.mode | (0o040 if group is not None else 0))
