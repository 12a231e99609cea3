"""What all volume types share."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

from msgspec import Struct


class VolumeError(Exception):
    """A volume cannot be set up: event FailedMount. `volume` is its name."""

    def __init__(self, volume: str, message: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {message}')
        self.volume = volume


class Mounted(Struct, frozen=True):
    """A volume that is ready on the node."""

    path: Path
    readonly: bool = False
    """The volume as a whole, whatever its mounts say."""
    image: str = ""
    """ID of the image whose files it shows; then there is no path."""


_libc = ctypes.CDLL(None, use_errno=True)

_MS_NOSUID, _MS_NODEV, _MS_BIND = 2, 4, 4096
_MNT_DETACH = 2


def mount_tmpfs(target: Path, options: str) -> None:
    """mount(2) of a tmpfs. Raises OSError."""
    if _libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", _MS_NOSUID | _MS_NODEV, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def bind(descriptor: int, target: Path) -> None:
    """mount(2) of what the descriptor stands for, without what is mounted below it. Raises OSError."""
    if _libc.mount(f"/proc/self/fd/{descriptor}".encode(), os.fsencode(target), None, _MS_BIND, None):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path) -> None:
    """Detaches what is mounted at `target`; no error where nothing is."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(target))
