"""What a volume type has to offer: one file a type in this package, found by the field of Volume that it serves."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path
from typing import Protocol

from msgspec import Struct

from podling.api.core.v1 import Pod, Volume


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
    managed: bool = False
    """Podling made the content, so fsGroup applies."""


class VolumePlugin(Protocol):
    """One type of volume. `directory` is the volume's own under the Pod's; methods may block: they run in a thread."""

    def set_up(self, pod: Pod, volume: Volume, directory: Path) -> Mounted:
        """Idempotent: after a restart of the agent it finds what is there and leaves it. Raises VolumeError."""

    def tear_down(self, directory: Path) -> None:
        """Unmounts what set_up mounted, so that `directory` can be deleted. Idempotent."""


_libc = ctypes.CDLL(None, use_errno=True)

MS_RDONLY, MS_NOSUID, MS_NODEV = 1, 2, 4
MNT_DETACH = 2


def mount_tmpfs(target: Path, options: str) -> None:
    """mount(2) of a tmpfs. Raises OSError."""
    if _libc.mount(b"tmpfs", os.fsencode(target), b"tmpfs", MS_NOSUID | MS_NODEV, options.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def unmount(target: Path) -> None:
    """Detaches what is mounted at `target`; no error where nothing is."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH):
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOENT):
            raise OSError(number, os.strerror(number), str(target))
