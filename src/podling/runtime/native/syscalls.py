"""System calls that Python's os module does not offer: mount, umount2, unshare, openat2, syncfs.

All raise OSError with the path as filename. ctypes releases the GIL during a call, so they may run in threads.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

CLONE_FS = 0x00000200
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWNET = 0x40000000

RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_IN_ROOT = 0x10

_SYS_OPENAT2 = 437
"""The same on every architecture: the number is younger than the common system call table."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p]
_libc.umount2.argtypes = [ctypes.c_char_p, ctypes.c_int]
_libc.unshare.argtypes = [ctypes.c_int]
_libc.syscall.restype = ctypes.c_long


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def _error(path: str | Path | None = None) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), None if path is None else str(path))


def mount(source: str | Path, target: str | Path, fstype: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). `data` longer than a page less one byte is refused by the kernel."""
    if (
        _libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode() or None, flags, os.fsencode(data) or None)
        < 0
    ):
        raise _error(target)


def bind(source: str | Path, target: str | Path) -> None:
    mount(source, target, "", MS_BIND)


def umount(target: str | Path) -> bool:
    """Detaches what is mounted at `target`; False when nothing is mounted there or it does not exist."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH | UMOUNT_NOFOLLOW) == 0:
        return True
    error = _error(target)
    if error.errno in (22, 2):  # EINVAL: no mount point; ENOENT
        return False
    raise error


def unshare(flags: int) -> None:
    """Moves the calling thread into new namespaces, or gives it a working directory of its own (CLONE_FS)."""
    if _libc.unshare(flags) < 0:
        raise _error()


def syncfs(path: str | Path) -> None:
    """Writes to the disk what the file system of `path` has in memory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(fd) < 0:
            raise _error(path)
    finally:
        os.close(fd)


def open_in_root(root_fd: int, path: str, flags: int = os.O_RDONLY) -> int:
    """Opens `path` as a process whose root directory is `root_fd` would: symbolic links cannot lead out of it.

    Needs Linux 5.6. Raises OSError.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
    fd: int = _libc.syscall(
        _SYS_OPENAT2, root_fd, ctypes.c_char_p(os.fsencode(path)), ctypes.byref(how), ctypes.sizeof(how)
    )
    if fd < 0:
        raise _error(path)
    return fd
