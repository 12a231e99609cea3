"""The namespaces of a sandbox: made by a thread, kept by bind mounts, with no process inside."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from podling.runtime.native import syscalls, sysctl
from podling.runtime.protocol import CRIError

_FLAGS = {"net": syscalls.CLONE_NEWNET, "ipc": syscalls.CLONE_NEWIPC, "uts": syscalls.CLONE_NEWUTS}

SHM_SIZE = 64 << 20
"""Bytes of /dev/shm in a Pod, as every runtime has it."""


def create(
    directory: Path, kinds: frozenset[str], hostname: str, sysctls: Mapping[str, str], meanwhile: Callable[[], None]
) -> None:
    """Makes new namespaces (of "net", "ipc", "uts") and pins each at directory/<kind>. Blocking; about 1 ms.

    The host name is set in the new UTS namespace and `sysctls` (from sysctl.check) are written from inside, where the
    kernel shows those of the namespace. `meanwhile` is called while that goes on. Raises CRIError; some may be pinned
    then.
    """
    failure: list[BaseException] = []

    def make() -> None:
        # unshare changes only this thread, which ends right after.
        try:
            flags = 0
            for kind in kinds:
                flags |= _FLAGS[kind]
            syscalls.unshare(flags)
            if "uts" in kinds and hostname:
                socket.sethostname(hostname)
            sysctl.write(sysctls)
            for kind in kinds:
                pin(f"/proc/thread-self/ns/{kind}", directory / kind)
        except BaseException as error:  # handed to the caller's thread
            failure.append(error)

    thread = threading.Thread(target=make, name="namespaces")
    thread.start()
    try:
        meanwhile()
    finally:
        thread.join()
    if failure:
        if isinstance(failure[0], CRIError):
            raise failure[0]
        raise CRIError("NamespaceError", f"cannot make the sandbox's namespaces: {failure[0]}") from failure[0]


def pin(namespace: str, target: Path) -> None:
    """Keeps a namespace (/proc/.../ns/...) alive by a bind mount at `target`."""
    os.close(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    syscalls.bind(namespace, target)


def unpin(directory: Path) -> None:
    """Lets go of the namespaces pinned in `directory`. Idempotent."""
    for kind in (*_FLAGS, "pid"):
        while syscalls.umount(directory / kind):
            pass
        (directory / kind).unlink(missing_ok=True)


def mount_shm(target: Path) -> None:
    """The tmpfs that all containers of a sandbox see as /dev/shm."""
    target.mkdir(exist_ok=True)
    flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
    syscalls.mount("shm", target, "tmpfs", flags, f"mode=1777,size={SHM_SIZE}")


def unmount_shm(target: Path) -> None:
    while syscalls.umount(target):
        pass
    with contextlib.suppress(FileNotFoundError):
        target.rmdir()
