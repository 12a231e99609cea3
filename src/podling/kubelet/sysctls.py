"""Which sysctls Pods may set on this node: the safe ones, and those that the administrator allows besides.

Source: Kubernetes documentation "Using sysctls in a Kubernetes Cluster", "Linux Kernel Version Requirements"; reason and
messages as the kubelet's.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Iterable

from podling.api import sysctl
from podling.api.core.v1 import Pod

REASON = "SysctlForbidden"

_SAFE = {
    "kernel.shm_rmid_forced": (0, 0),
    "net.ipv4.ip_local_port_range": (0, 0),
    "net.ipv4.tcp_syncookies": (0, 0),
    "net.ipv4.ping_group_range": (0, 0),
    "net.ipv4.ip_unprivileged_port_start": (0, 0),
    "net.ipv4.ip_local_reserved_ports": (3, 16),
    "net.ipv4.tcp_keepalive_time": (4, 5),
    "net.ipv4.tcp_fin_timeout": (4, 6),
    "net.ipv4.tcp_keepalive_intvl": (4, 5),
    "net.ipv4.tcp_keepalive_probes": (4, 5),
    "net.ipv4.tcp_rmem": (4, 15),
    "net.ipv4.tcp_wmem": (4, 15),
}
"""The least kernel version that keeps the sysctl for each namespace."""


def allowlist(unsafe: Iterable[str] = (), release: str = "") -> sysctl.Allowlist:
    """Return what Pods may set with this kernel (by default the running one). Raises ValueError for a bad pattern."""
    numbers = re.match(r"(\d+)\.(\d+)", release or platform.release())
    kernel = (int(numbers[1]), int(numbers[2])) if numbers is not None else (0, 0)
    return sysctl.Allowlist.of([*(name for name, least in _SAFE.items() if kernel >= least), *unsafe])


def refusal(pod: Pod, allowed: sysctl.Allowlist) -> str:
    """Return why the Pod may not have the sysctls that it asks for, or ""."""
    context = pod.spec.security_context
    for wanted in context.sysctls if context is not None else ():
        name = sysctl.normalize(wanted.name)
        if not allowed.allows(name):
            return f'forbidden sysctl: "{name}" not allowlisted'
        namespace = sysctl.namespace(name)
        if (namespace == sysctl.IPC and pod.spec.host_ipc) or (namespace == sysctl.NETWORK and pod.spec.host_network):
            return f'forbidden sysctl: "{name}" not allowed with host {namespace} enabled'
    return ""
