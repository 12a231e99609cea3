"""Linux capabilities: the default set of a container, and what `add` and `drop` make of it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from podling.runtime.protocol import CRIError

NAMES = (
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
)
"""By number, as in linux/capability.h."""

DEFAULT = (
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
)
"""What a container has unless told otherwise: the set of containerd (and Docker before it)."""


@functools.cache
def available() -> frozenset[str]:
    """The capabilities that this process may hand on: its bounding set."""
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == "CapBnd":
            bits = int(value, 16)
            return frozenset(cap for number, cap in enumerate(NAMES) if bits >> number & 1)
    raise RuntimeError("/proc/self/status has no CapBnd")


def resolve(add: Sequence[str], drop: Sequence[str], privileged: bool) -> list[str]:
    """The names (CAP_...) that a container gets. "ALL" in either list counts first, single names over it.

    What the machine itself does not have is left out of ALL. Raises CRIError for an unknown name, and for one that is
    asked for by name but not available.
    """
    if privileged:
        wanted = set(available())
    else:
        added, dropped = [_normal(name) for name in add], [_normal(name) for name in drop]
        wanted = set(DEFAULT) & available()
        if "ALL" in added:
            wanted = set(available())
        if "ALL" in dropped:
            wanted = set()
        for name in added:
            if name != "ALL":
                if name not in available():
                    raise CRIError("CreateContainerError", f'capability "CAP_{name}" is not available on this machine')
                wanted.add(name)
        wanted -= set(dropped)
    return [f"CAP_{name}" for name in NAMES if name in wanted]


def _normal(name: str) -> str:
    name = name.upper().removeprefix("CAP_")
    if name != "ALL" and name not in NAMES:
        raise CRIError("CreateContainerError", f'unknown capability "CAP_{name}"')
    return name
