"""The run directory is on a tmpfs: what is in it lives no longer than the machine runs.

Where an init system sets the machine up, /run is one. In small virtual machines and in containers it may lie on the disk:
then the start and the end of every Pod make and delete some twenty files there, which takes a quarter of their time (ext4
without a journal). So a tmpfs of the cluster's own is mounted.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from podling.cli import settings as cluster_settings
from podling.cli.settings import Settings
from podling.runtime.native import syscalls

_IMAGES = "images"
"""`podling image` makes it, whether or not there is a cluster, and needs nothing in it to last."""
_SOURCE = "podling"
"""Marks our own mounts; nothing else is ever unmounted."""


class _Mount(Struct, frozen=True):
    device: str
    target: str
    kind: str
    source: str


def prepare(settings: Settings) -> None:
    """Makes the directory, on a tmpfs if that is possible, and notes whose it is. One that is in use stays as it is.

    From its default place, if it is elsewhere, a link leads to it: who knows the data directory finds it.
    """
    path = settings.run_dir
    if path.is_symlink() and not path.exists():  # such a link, of a directory that is gone
        path.unlink()
    path.mkdir(parents=True, exist_ok=True, mode=0o755)
    in_use = set(os.listdir(path)) - {_IMAGES}
    if not in_use and not _on_tmpfs(path):
        # A container may not be allowed to mount. The disk will do.
        with contextlib.suppress(OSError):
            syscalls.mount(_SOURCE, path, "tmpfs", syscalls.MS_NOSUID | syscalls.MS_NODEV, "mode=755")
    cluster_settings.save(settings, path)
    (path / cluster_settings.OWNER_FILE).write_text(str(settings.data_dir))
    default = cluster_settings.defaults(settings.data_dir).run_dir
    if path != default:
        with contextlib.suppress(OSError):  # then somebody has that place, or a link is there already
            default.symlink_to(path)


def remove(settings: Settings) -> None:
    """Removes the directory with all that is in it. What others have mounted below it must be gone."""
    path = settings.run_dir
    default = cluster_settings.defaults(settings.data_dir).run_dir
    if path != default and default.is_symlink() and default.readlink() == path:
        default.unlink()
    target = str(path.resolve())
    while any(mount.target == target and mount.source == _SOURCE for mount in _mounts()):
        syscalls.umount(path)
    shutil.rmtree(path, ignore_errors=True)


def _on_tmpfs(path: Path) -> bool:
    number = os.stat(path).st_dev
    device = f"{os.major(number)}:{os.minor(number)}"
    return any(mount.device == device and mount.kind in ("tmpfs", "ramfs") for mount in _mounts())


def _mounts() -> Iterator[_Mount]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        device, target = left.split()[2], left.split()[4]
        kind, source, *_ = right.split(" ")
        # Blanks and such are written as octal escapes.
        decoded = target.encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        yield _Mount(device, decoded, kind, source)
