"""subPath: a part of a volume, found without leaving the volume.

Source: Kubernetes documentation "Volumes" (Using subPath). A container may have put symbolic links into the volume, so each
step is opened relative to the one before and links are not followed; the mount is made through the open descriptor's real
path, checked to be still below the volume.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from podling.kubelet.env import ConfigError


def subpath(volume: Path, relative: str, volume_name: str, container: str) -> Path:
    """The path below `volume`; missing directories are made. Raises ConfigError."""
    failure = f'failed to prepare subPath for volumeMount "{volume_name}" of container "{container}"'
    parts = [part for part in relative.split("/") if part not in ("", ".")]
    if ".." in parts or relative.startswith("/"):
        raise ConfigError(f"{failure}: subPath must be relative and must not contain '..'")
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    current = os.open(os.path.realpath(volume), flags)
    try:
        root = os.readlink(f"/proc/self/fd/{current}")
        for part in parts:
            following = _step(current, part, flags)
            os.close(current)
            current = following
            if stat.S_ISLNK(os.fstat(current).st_mode):
                raise ConfigError(f"{failure}: {part} is a symbolic link")
        found = os.readlink(f"/proc/self/fd/{current}")
    except OSError as error:
        raise ConfigError(f"{failure}: {error.strerror}") from error
    finally:
        os.close(current)
    if found != root and not found.startswith(f"{root}/"):
        raise ConfigError(f"{failure}: {relative} leads out of the volume")
    return Path(found)


def _step(parent: int, part: str, flags: int) -> int:
    try:
        return os.open(part, flags, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(part, 0o750, dir_fd=parent)
        return os.open(part, flags, dir_fd=parent)
