"""Root file systems: an overlay of an image's layers with a writable layer on top."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from podling.runtime.native import syscalls
from podling.runtime.native.spawn import Descriptors

MAX_LAYERS = 500
"""overlayfs stacks no more (OVL_MAX_STACK)."""
_MAX_DATA = 4095
"""mount(2) takes a page of options, with its closing zero."""


def mount(target: Path, layers: Sequence[Path], upper: Path, work: Path) -> None:
    """Mounts layers (topmost first) with `upper` above them at `target`. Blocking; about 0.3 ms. Raises OSError.

    `volatile`: an overlay otherwise syncs the whole file system below it when it is unmounted. The writable layer need
    not survive a power failure, since a container does not.
    """
    for directory in (upper, work, target):
        directory.mkdir(mode=0o755, exist_ok=True)
    _mount(target, layers, [("upperdir", upper), ("workdir", work)])


def mount_readonly(target: Path, layers: Sequence[Path], empty: Path) -> None:
    """Mounts layers without a writable one. `empty` is an empty directory: overlayfs wants at least two."""
    target.mkdir(parents=True, exist_ok=True)
    empty.mkdir(parents=True, exist_ok=True)
    _mount(target, layers if len(layers) > 1 else [*layers, empty], [])


def _mount(target: Path, layers: Sequence[Path], writable: Sequence[tuple[str, Path]]) -> None:
    options = "".join(f",{name}={_escape(str(path))}" for name, path in writable)
    if writable:
        options += ",volatile"
    data = "lowerdir=" + ":".join(_escape(str(layer), colon=True) for layer in layers) + options
    if len(os.fsencode(data)) <= _MAX_DATA:
        _overlay(target, data)
        return
    flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
    with Descriptors() as opened, ThreadPoolExecutor(1, "mount") as thread:
        fds = [opened.add(os.open(layer, flags)) for layer in layers]
        thread.submit(_overlay_of_descriptors, target, "lowerdir=" + ":".join(map(str, fds)) + options).result()


def _overlay_of_descriptors(target: Path, data: str) -> None:
    """Numbers of descriptors are short, however many layers there are and wherever they lie."""
    syscalls.unshare(syscalls.CLONE_FS)  # this thread ends right after
    os.chdir("/proc/self/fd")
    _overlay(target, data)


def _overlay(target: Path, data: str) -> None:
    try:
        syscalls.mount("overlay", target, "overlay", 0, data)
    except OSError as error:
        if error.errno != errno.EINVAL or not data.endswith(",volatile"):
            raise
        syscalls.mount("overlay", target, "overlay", 0, data.removesuffix(",volatile"))  # before Linux 5.10


def unmount(target: Path) -> None:
    """Takes down what is mounted at `target` and removes the directory. Idempotent."""
    while syscalls.umount(target):
        pass
    with contextlib.suppress(FileNotFoundError):
        target.rmdir()


def make_directory(root: Path, path: str) -> None:
    """mkdir -p inside a root file system; a symbolic link in the image cannot lead out of it.

    Raises OSError: NotADirectoryError when a part of `path` is a file.
    """
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.close(syscalls.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY))
            return
        walked = "/"
        for part in Path(path).parts[1:]:
            parent = syscalls.open_in_root(root_fd, walked, os.O_PATH | os.O_DIRECTORY)
            try:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=parent)
            finally:
                os.close(parent)
            walked = os.path.join(walked, part)
        os.close(syscalls.open_in_root(root_fd, path, os.O_PATH | os.O_DIRECTORY))
    finally:
        os.close(root_fd)


def _escape(path: str, colon: bool = False) -> str:
    """overlayfs separates options by commas and layers by colons."""
    path = path.replace("\\", "\\\\").replace(",", "\\,")
    return path.replace(":", "\\:") if colon else path
