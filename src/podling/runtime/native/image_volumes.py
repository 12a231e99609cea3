"""What VOLUME in a Dockerfile asks for: a directory of the container's own, outside its root file system.

As containerd does it: each path that no mount of the Pod covers gets a fresh directory that begins with what the image
holds there, and goes when the container does. It can be written to even if the root file system cannot.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from podling.kit import program
from podling.runtime.native import mount_point, syscalls
from podling.runtime.protocol import CRIError, Mount


def make(root: Path, directory: Path, paths: Sequence[str], mounts: Sequence[Mount]) -> list[Mount]:
    """Makes a volume below `directory` for every one of the image's `paths` that `mounts` leave free.

    `root` is the container's root file system. Blocks. Raises CRIError, OSError.
    """
    taken = {mount_point.absolute(mount.container_path) for mount in mounts}
    wanted = sorted({mount_point.absolute(path) for path in paths} - taken - {"/"})
    if not wanted:
        return []
    directory.mkdir(mode=0o711)
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return [_make(root_fd, directory / str(number), path) for number, path in enumerate(wanted)]
    finally:
        os.close(root_fd)


def _make(root_fd: int, volume: Path, path: str) -> Mount:
    volume.mkdir(mode=0o755)
    try:
        # Symbolic links of the image cannot lead out of it.
        source = syscalls.open_in_root(root_fd, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CRIError("CreateContainerError", f"volume {path} of the image: {error.strerror}") from error
    else:
        try:
            _copy(source, volume, path)
        finally:
            os.close(source)
    return Mount(container_path=path, host_path=str(volume))


def _copy(source: int, volume: Path, path: str) -> None:
    """The directory's content, owner, mode and times."""
    if not os.listdir(source):
        # The usual case: no program to start.
        status = os.stat(source)
        os.chown(volume, status.st_uid, status.st_gid)
        shutil.copystat(f"/proc/self/fd/{source}", volume)
        return
    argv = ["cp", "--archive", "--no-target-directory", "--", f"/proc/self/fd/{source}/.", str(volume)]
    done = program.call(*argv, pass_fds=(source,))
    if done.code:
        said = done.stderr.decode(errors="replace").strip()
        raise CRIError("CreateContainerError", f"volume {path} of the image: {said}")
