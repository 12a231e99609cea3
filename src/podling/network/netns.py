"""Work inside another network namespace, for threads that serve nothing else while they are there."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _setns(fd: int) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"cannot enter a network namespace: {os.strerror(code)}")


@contextmanager
def entered(path: str) -> Iterator[None]:
    """The calling thread is in the namespace at `path` until the block ends. Sockets made there stay there.

    Never await in the block: the event loop's thread would serve other tasks in the wrong namespace.
    """
    target = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with _returning():
            _setns(target)
            yield
    finally:
        os.close(target)


@contextmanager
def new() -> Iterator[None]:
    """The calling thread is in a new, empty namespace until the block ends; so are the threads and programs that it starts."""
    with _returning():
        if _libc.unshare(_CLONE_NEWNET) != 0:
            code = ctypes.get_errno()
            raise OSError(code, f"cannot make a network namespace: {os.strerror(code)}")
        yield


@contextmanager
def _returning() -> Iterator[None]:
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            yield
        finally:
            _setns(home)
    finally:
        os.close(home)
