"""Sysctls of a sandbox: only those that the kernel keeps for a namespace of the sandbox's own are ever written.

The runtime decides this by itself, whatever its caller has checked: a sysctl of the machine would change the machine for
good, and some of them (kernel.core_pattern) make the kernel run programs as root.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Set

from podling.api import sysctl
from podling.runtime.protocol import CRIError

_ROOT = "/proc/sys"
_UTS = "uts"


def check(sysctls: Mapping[str, str], namespaces: Set[str]) -> dict[str, str]:
    """Return the values by normalized name. Raises CRIError unless each belongs to one of `namespaces` (net, ipc, uts).

    `namespaces` are the sandbox's own: those of the host are not among them.
    """
    checked: dict[str, str] = {}
    for given, value in sysctls.items():
        name = sysctl.normalize(given)
        if not sysctl.is_valid(given):
            raise CRIError("SysctlError", f'sysctl "{given}" has no valid name')
        if name == "kernel.hostname":
            raise CRIError("SysctlError", f'sysctl "{name}" conflicts with the host name of the Pod')
        # The kernel keeps one NIS domain name for each UTS namespace, as OCI runtimes know.
        namespace = _UTS if name == "kernel.domainname" else sysctl.namespace(name)
        if not namespace:
            raise CRIError("SysctlError", f'sysctl "{name}" is not in a separate kernel namespace')
        if namespace not in namespaces:
            raise CRIError("SysctlError", f'sysctl "{name}" is not allowed in the {namespace} namespace of the host')
        if checked.setdefault(name, value) != value:
            raise CRIError("SysctlError", f'sysctl "{name}" is given twice, with different values')
    return checked


def write(checked: Mapping[str, str]) -> None:
    """Write what `check` returned, in the namespaces of the calling thread. Raises CRIError."""
    for name, value in checked.items():
        path = f"{_ROOT}/{sysctl.path(name)}"
        try:
            # O_NOFOLLOW guards the last part only; a valid name has no parts that lead elsewhere.
            fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.write(fd, value.encode(errors="replace"))
            finally:
                os.close(fd)
        except OSError as error:
            raise CRIError("SysctlError", f"cannot set sysctl {name}={value}: {error.strerror}") from error
