"""subPath: a part of a volume, found without leaving the volume.

Source: Kubernetes documentation "Volumes" (Using subPath). A container may have put symbolic links into the volume: they are
followed (the files of ConfigMap volumes are links), but only inside the volume. The path is walked directory by directory
from descriptor to descriptor, and links are read here, never followed by the kernel, so that what a container changes
meanwhile cannot lead elsewhere; and the result is mounted by its descriptor where no container reaches, so that what the
container gets is what was checked (CVE-2017-1002101).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from podling.kit import c_text, file_error
from podling.kubelet.env import ConfigError
from podling.kubelet.volumes.plugin import bind, unmount

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
"""As the kernel has it."""
_MAX_DEPTH = 255
"""Directories, each of which costs a descriptor."""


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
    if found := c_text.flaw(relative, "subPath"):
        raise ConfigError(f"{failure}: {found}")
    if ".." in relative.split("/") or relative.startswith("/"):
        raise ConfigError(f"{failure}: subPath must be relative and must not contain '..'")
    # The directories from the volume's root to where the walk is: a link's ".." goes back along them, not to wherever a
    # container moves them meanwhile.
    walked: list[int] = []
    try:
        walked.append(os.open(os.path.realpath(volume), _FLAGS))
        mode = stat.S_IMODE(os.fstat(walked[0]).st_mode)
        pending, links = relative.split("/")[::-1], 0
        while pending:
            part = pending.pop()
            if part == ".." and len(walked) > 1:
                os.close(walked.pop())
            elif part == "..":
                raise ConfigError(f"{failure}: {relative} leads out of the volume")
            elif part not in ("", "."):
                walked.append(_step(walked[-1], part, mode))
                if stat.S_ISLNK(os.fstat(walked[-1]).st_mode):
                    link = walked.pop()
                    target = _target(link)
                    links += 1
                    if target.startswith("/") or links > _MAX_LINKS:
                        raise ConfigError(f"{failure}: {relative} leads out of the volume")
                    pending += target.split("/")[::-1]
                elif len(walked) > _MAX_DEPTH:
                    raise ConfigError(f"{failure}: {relative} is more than {_MAX_DEPTH} directories deep")
        return walked.pop()
    except OSError as error:
        raise ConfigError(f"{failure}: {file_error.reason(error, relative)}") from error
    finally:
        for descriptor in walked:
            os.close(descriptor)


def _target(link: int) -> str:
    """Where a symbolic link leads, by its descriptor, which is closed."""
    try:
        return os.readlink("", dir_fd=link)
    finally:
        os.close(link)


def _step(parent: int, part: str, mode: int) -> int:
    """The entry of a directory. One that is missing becomes a directory with the mode of the volume."""
    try:
        return os.open(part, _FLAGS, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(part, dir_fd=parent)
        made = os.open(part, _FLAGS, dir_fd=parent)
        try:
            # The umask does not count; the descriptor of an O_PATH open cannot be chmodded itself.
            os.chmod(f"/proc/self/fd/{made}", mode)
        except OSError:
            os.close(made)
            raise
        return made
