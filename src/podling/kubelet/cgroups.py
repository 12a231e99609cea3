"""Pods and containers as cgroups: names by quality of service, and requests and limits as kernel settings.

Source: Kubernetes documentation "Resource Management for Pods and Containers" (how limits are applied), "Pod Quality of
Service Classes"; node documentation "Node-pressure Eviction" (oom_score_adj).
"""

from __future__ import annotations

from collections.abc import Mapping

from podling.api.core.v1 import Container, Pod
from podling.api.quantity import Quantity
from podling.api.resources import BEST_EFFORT, BURSTABLE, GUARANTEED, pod_limits, pod_requests, qos_class
from podling.runtime.protocol import LinuxResources

_PERIOD_US = 100_000
_MIN_QUOTA_US = 1_000
_MAX_QUOTA_US = (1 << 44) - 1
"""The most that the kernel takes (max_cfs_runtime)."""
_MIN_SHARES = 2
_MAX_SHARES = 262_144
_MAX_BYTES = (1 << 63) - 1
_HUGEPAGES = "hugepages-"


def qos_parents(root: str) -> list[str]:
    """The cgroups above the Pods' own, outermost first. `root` is the cluster's on this machine: "/podling"."""
    return [root, f"{root}/burstable", f"{root}/besteffort"]


def pod_cgroup(root: str, pod: Pod) -> str:
    """The Pod's cgroup below each hierarchy's root."""
    name = f"pod{pod.metadata.uid}"
    qos = qos_class(pod)
    return f"{root}/{name}" if qos == GUARANTEED else f"{root}/{qos.lower()}/{name}"


def cpu_shares(request: Quantity | None) -> int:
    """cpu.shares for a CPU request: 1024 a core."""
    milli = request.milli_value() if request else 0
    return max(_MIN_SHARES, min(_MAX_SHARES, milli * 1024 // 1000))


def _quota(limit: Quantity | None) -> int | None:
    if not limit:
        return None
    return min(_MAX_QUOTA_US, max(_MIN_QUOTA_US, limit.milli_value() * _PERIOD_US // 1000))


def _memory(limit: Quantity | None) -> int | None:
    """Return bytes that the kernel understands: quantities have no bound."""
    return min(_MAX_BYTES, limit.value()) if limit else None


def _hugepages(limits: Mapping[str, Quantity]) -> dict[str, int]:
    sizes = {}
    for name, quantity in limits.items():
        if name.startswith(_HUGEPAGES):
            page = name.removeprefix(_HUGEPAGES)
            sizes[page.replace("Mi", "MB").replace("Gi", "GB").replace("Ki", "KB")] = min(_MAX_BYTES, quantity.value())
    return sizes


def pod_resources(pod: Pod) -> LinuxResources:
    """What holds for all containers of the Pod together; a limit only where every container has one."""
    spec = pod.spec
    requests, limits = pod_requests(spec), pod_limits(spec)
    containers = [*spec.containers, *spec.init_containers]

    def limit(name: str) -> Quantity | None:
        if spec.resources is not None and name in spec.resources.limits:
            return limits.get(name)
        return limits.get(name) if all(c.resources.limits.get(name) for c in containers) else None

    quota = _quota(limit("cpu"))
    return LinuxResources(
        cpu_shares=_MIN_SHARES if qos_class(pod) == BEST_EFFORT else cpu_shares(requests.get("cpu")),
        cpu_period=_PERIOD_US if quota else None,
        cpu_quota=quota,
        memory_limit=_memory(limit("memory")),
        hugepage_limits=_hugepages(limits),
    )


def container_resources(pod: Pod, container: Container, node_memory: int) -> LinuxResources:
    """A container's own settings. `node_memory` in bytes is the machine's, for the OOM score."""
    requests, limits = container.resources.requests, container.resources.limits
    request = requests.get("cpu", limits.get("cpu"))
    quota = _quota(limits.get("cpu"))
    return LinuxResources(
        cpu_shares=cpu_shares(request),
        cpu_period=_PERIOD_US if quota else None,
        cpu_quota=quota,
        memory_limit=_memory(limits.get("memory")),
        oom_score_adj=oom_score_adj(pod, container, node_memory),
        hugepage_limits=_hugepages(limits),
    )


def oom_score_adj(pod: Pod, container: Container, node_memory: int) -> int:
    """-997 for guaranteed and node-critical Pods, 1000 for best effort, between by the share of memory requested."""
    if pod.spec.priority is not None and pod.spec.priority >= 2_000_001_000:
        return -997
    qos = qos_class(pod)
    if qos == GUARANTEED:
        return -997
    if qos == BEST_EFFORT:
        return 1000
    assert qos == BURSTABLE
    request = container.resources.requests.get("memory")
    score = 1000 - 1000 * (request.value() if request else 0) // max(1, node_memory)
    return max(3, min(999, score))
