"""subPath: a part of a volume, found without leaving the volume.

Source: Kubernetes documentation "Volumes" (Using subPath). A container may have put symbolic links into the volume: they are
followed (the files of ConfigMap volumes are links), but what they lead to has to be in the volume. The result is opened
step by step without following links, so that a link put there meanwhile is an error; and it is mounted by that descriptor
where no container reaches, so that what the container gets is what was checked (CVE-2017-1002101).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from podling.kubelet.env import ConfigError
from podling.kubelet.volumes.plugin import bind, unmount

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def mount_subpath(volume: Path, relative: str, volume_name: str, container: str, target: Path) -> None:
    """Mounts the path below `volume` at `target`, in the place of what is there. Raises ConfigError and OSError."""
    found = open_subpath(volume, relative, volume_name, container)
    try:
        unmount(target)
        directory = stat.S_ISDIR(os.fstat(found).st_mode)
        if target.exists() and target.is_dir() != directory:
            target.rmdir() if target.is_dir() else target.unlink()
        if directory:
            target.mkdir(parents=True, exist_ok=True)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.touch()
        bind(found, target)
    finally:
        os.close(found)


def unmount_subpaths(root: Path) -> None:
    """Takes away everything that `mount_subpath` mounted at <root>/<container>/<index>. Raises OSError.

    Never deletes recursively: what is mounted here may be the node's own files."""
    for parent in root.iterdir() if root.exists() else ():
        for target in parent.iterdir():
            unmount(target)
            target.rmdir() if target.is_dir() else target.unlink()
        parent.rmdir()


def open_subpath(volume: Path, relative: str, volume_name: str, container: str) -> int:
    """A descriptor (O_PATH) of the path below `volume`; missing directories are made. Raises ConfigError."""
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
        os.close(current)
        raise ConfigError(f"{failure}: {error.strerror}") from error
    except ConfigError:
        os.close(current)
        raise
    return current


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
