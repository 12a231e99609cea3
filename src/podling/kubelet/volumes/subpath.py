"""subPath: a part of a volume, found without leaving the volume.

Source: Kubernetes documentation "Volumes" (Using subPath). A container may have put symbolic links into the volume: they are
followed (the files of ConfigMap volumes are links), but what they lead to has to be in the volume. The result is opened
step by step without following links, so that a link put there meanwhile is an error.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from podling.kubelet.env import ConfigError

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def subpath(volume: Path, relative: str, volume_name: str, container: str) -> Path:
    """The path below `volume`; missing directories are made. Raises ConfigError."""
    failure = f'failed to prepare subPath for volumeMount "{volume_name}" of container "{container}"'
    if ".." in relative.split("/") or relative.startswith("/"):
        raise ConfigError(f"{failure}: subPath must be relative and must not contain '..'")
    root = Path(os.path.realpath(volume))
    target = Path(os.path.realpath(root / relative))
    if not target.is_relative_to(root):
        raise ConfigError(f"{failure}: {relative} leads out of the volume")
    current = os.open(root, _FLAGS)
    try:
        mode = stat.S_IMODE(os.fstat(current).st_mode)
        for part in target.relative_to(root).parts:
            following = _step(current, part, mode)
            os.close(current)
            current = following
            if stat.S_ISLNK(os.fstat(current).st_mode):
                raise ConfigError(f"{failure}: {part} is a symbolic link")
    except OSError as error:
        raise ConfigError(f"{failure}: {error.strerror}") from error
    finally:
        os.close(current)
    return target


def _step(parent: int, part: str, mode: int) -> int:
    """The entry of a directory. One that is missing becomes a directory with the mode of the volume."""
    try:
        return os.open(part, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(part, dir_fd=parent)
        made = os.open(part, _FLAGS, dir_fd=parent)
        # The umask does not count; the descriptor of an O_PATH open cannot be chmodded itself.
        os.chmod(f"/proc/self/fd/{made}", mode)
        return made
