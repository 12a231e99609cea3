"""Where the mounts of a container go, checked before the OCI runtime makes them.

The OCI runtime follows links of the image, and those in volumes that are mounted before. So they are followed here too, and
it is given the places where they lead: what is used is what was checked.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

from podling.runtime.protocol import CRIError, Mount

_MAX_LINKS = 40
"""As the kernel has it."""

_PROC_FILES = frozenset(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "diskstats", "loadavg", "meminfo", "slabinfo", "stat", "swaps", "uptime", "net/dev"),
        *("sys/kernel/ns_last_pid", "sys/crypto/fips_enabled"),
    )
)
"""Files that may be mounted over, as lxcfs does it; runc has the same list."""

_DEFAULTS = ("/proc", "/sys", "/dev")
"""File systems of the kernel that every container has there: what the image holds below is hidden."""
_FILES = ("/etc/hostname", "/etc/resolv.conf")
"""Files of the sandbox that every container has there."""


def absolute(path: str) -> str:
    """Return a path in a container as one that begins with a single slash and has no `..`, whoever wrote it."""
    return os.path.normpath("/" + path.lstrip("/"))


def parents(path: str) -> Iterator[str]:
    """Yield the directories above an absolute path, the nearest first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def place(root: Path, mounts: Iterable[Mount], privileged: bool) -> list[Mount]:
    """Return the mounts, each with the path where it ends in `root`, provided that they are made in this order.

    Nothing else may change `root` meanwhile. What a running container changes in a volume that it shares is seen as it is
    now. Blocks. Raises CRIError for the root itself, and for a place in /proc: what a container shows there in the place
    of the kernel's files would be taken for them by the OCI runtime, which reads and writes some (CVE-2019-16884).
    """
    for name in _DEFAULTS:
        _refuse_link(root, name)
    sources: dict[str, str | None] = dict.fromkeys(_DEFAULTS)
    for name in _FILES:
        _check(name, _follow(root, name, sources), privileged)
    placed = []
    for mount in sorted(mounts, key=lambda mount: absolute(mount.container_path).count("/")):
        destination = _follow(root, absolute(mount.container_path), sources)
        _check(mount.container_path, destination, privileged)
        sources[destination] = mount.host_path
        placed.append(msgspec.structs.replace(mount, container_path=destination))
    return placed


def _refuse_link(root: Path, name: str) -> None:
    try:
        mode = os.lstat(f"{root}{name}").st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        raise CRIError("CreateContainerError", f"{name} of the image cannot be mounted over: it is not a directory")


def _check(path: str, destination: str, privileged: bool) -> None:
    if destination == "/":
        raise CRIError("CreateContainerError", f'cannot mount at "{path}": it is the root directory of the container')
    inside = destination == "/proc" or destination.startswith("/proc/")
    if inside and not privileged and destination not in _PROC_FILES:
        raise CRIError("CreateContainerError", f'"{path}" cannot be mounted because it is inside /proc')


def _follow(root: Path, path: str, sources: Mapping[str, str | None]) -> str:
    """Return where a path ends once links are followed; what does not exist is taken for directories to be made.

    `sources` maps places in the container to what is mounted there, None being a file system without links that matter.
    """
    walked, pending, links = "/", path.split("/")[::-1], 0
    while pending:
        part = pending.pop()
        if part == "..":
            walked = os.path.dirname(walked)
        elif part not in ("", "."):
            step = os.path.join(walked, part)
            target = _link(_source(root, step, sources))
            if target is None:
                walked = step
                continue
            links += 1
            if links > _MAX_LINKS:
                raise CRIError("CreateContainerError", f'cannot mount at "{path}": too many levels of symbolic links')
            if target.startswith("/"):
                walked = "/"
            pending += target.split("/")[::-1]
    return walked


def _source(root: Path, path: str, sources: Mapping[str, str | None]) -> str | None:
    """Return the file on the node that a path in the container shows; None where that cannot be a link."""
    if path in sources:
        return None
    for parent in parents(path):
        if parent in sources:
            source = sources[parent]
            return None if source is None else source + path.removeprefix(parent)
    return f"{root}{path}"


def _link(file: str | None) -> str | None:
    """Where a symbolic link leads; None for anything else."""
    try:
        return None if file is None else os.readlink(file)
    except OSError:
        return None
