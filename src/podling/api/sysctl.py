"""Names of sysctls: one normal form, and the namespace that each belongs to.

Source: Kubernetes documentation "Using sysctls in a Kubernetes Cluster"; sysctl(8) for names with slashes. The API
server, the kubelet and the runtime all ask this module, so that no two of them understand a name differently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

MAX_LENGTH = 253
NETWORK, IPC = "net", "ipc"

_SEGMENT = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
PATTERN = rf"^({_SEGMENT}[\./])*{_SEGMENT}$"
"""As messages show it."""
_LIST_PATTERN = rf"({_SEGMENT}[\./])*([a-z0-9][-_a-z0-9]*)?[a-z0-9*]"
_NAME = re.compile(PATTERN.removeprefix("^").removesuffix("$"))
_LISTED = re.compile(_LIST_PATTERN)
_IPC_PREFIXES = ("kernel.shm", "kernel.msg", "fs.mqueue.")
_SWAP = str.maketrans("./", "/.")


def is_valid(name: str) -> bool:
    """Return whether the name is one that a Pod may write, in either form. No valid name leads out of /proc/sys."""
    return len(name) <= MAX_LENGTH and _NAME.fullmatch(name) is not None


def normalize(name: str) -> str:
    """Return the form with dots as separators. A slash that remains is a dot in the kernel's file name.

    The first separator says which form a name has: "net/ipv4/conf/eth0.100/x" is "net.ipv4.conf.eth0/100.x".
    """
    first = re.search(r"[./]", name)
    return name.translate(_SWAP) if first is not None and first[0] == "/" else name


def path(normal: str) -> str:
    """Return the path below /proc/sys of a normalized name."""
    return normal.translate(_SWAP)


def namespace(normal: str) -> str:
    """Return "net" or "ipc" for a normalized name (or prefix) that the kernel keeps for each such namespace, else ""."""
    if normal.startswith("net."):
        return NETWORK
    return IPC if normal == "kernel.sem" or normal.startswith(_IPC_PREFIXES) else ""


class Allowlist(Struct, frozen=True):
    """Sysctls that a node lets Pods set: normalized names, and prefixes of names."""

    names: frozenset[str] = frozenset()
    prefixes: tuple[str, ...] = ()

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Allowlist:
        """Read names, and patterns with `*` at their end. Raises ValueError for one that may not be on any list."""
        names: list[str] = []
        prefixes: list[str] = []
        for pattern in patterns:
            if len(pattern) > MAX_LENGTH or not _LISTED.fullmatch(pattern):
                raise ValueError(
                    f'sysctl "{pattern}" must have at most {MAX_LENGTH} characters and match regex {_LIST_PATTERN}'
                )
            normal = normalize(pattern)
            prefix = normal.removesuffix("*")
            if not namespace(prefix):
                raise ValueError(f'the sysctls "{prefix}" are not known to be namespaced')
            (names if prefix == normal else prefixes).append(prefix)
        return cls(frozenset(names), tuple(prefixes))

    def allows(self, normal: str) -> bool:
        return normal in self.names or normal.startswith(self.prefixes)
