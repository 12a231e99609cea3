"""What a Pod asks for as a whole: requests, limits and its quality-of-service class.

Source: Kubernetes documentation "Resource Management for Pods and Containers", "Pod Quality of Service Classes",
"Sidecar Containers" (resource sharing within containers) and KEP-753; pod-level resources: KEP-2837.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podling.api.core.v1 import Container, Pod, PodSpec
from podling.api.quantity import Quantity

Resources = dict[str, Quantity]

GUARANTEED = "Guaranteed"
BURSTABLE = "Burstable"
BEST_EFFORT = "BestEffort"

_COMPUTE = ("cpu", "memory")


def add(total: Resources, more: Mapping[str, Quantity]) -> None:
    """Adds `more` to `total`, name by name."""
    for name, quantity in more.items():
        total[name] = total[name] + quantity if name in total else quantity


def _raise_to(total: Resources, other: Mapping[str, Quantity]) -> None:
    for name, quantity in other.items():
        if name not in total or total[name] < quantity:
            total[name] = quantity


def is_sidecar(container: Container) -> bool:
    """Whether an init container keeps running beside the others (restartPolicy: Always)."""
    return container.restart_policy == "Always"


def _sum(spec: PodSpec, part: str) -> Resources:
    total: Resources = {}
    for container in spec.containers:
        add(total, getattr(container.resources, part))
    sidecars: Resources = {}
    peak: Resources = {}
    for container in spec.init_containers:
        own: Mapping[str, Quantity] = getattr(container.resources, part)
        if is_sidecar(container):
            add(total, own)
            add(sidecars, own)
            _raise_to(peak, sidecars)
        else:
            while_it_runs = dict(sidecars)
            add(while_it_runs, own)
            _raise_to(peak, while_it_runs)
    _raise_to(total, peak)
    if spec.resources is not None:
        total.update(getattr(spec.resources, part))
    return total


def pod_requests(spec: PodSpec) -> Resources:
    """What the scheduler and the node reserve for the Pod, overhead included."""
    total = _sum(spec, "requests")
    add(total, spec.overhead)
    return total


def pod_limits(spec: PodSpec) -> Resources:
    """The Pod's limits; a resource that some container leaves unlimited is still counted from the others."""
    total = _sum(spec, "limits")
    for name, quantity in spec.overhead.items():
        if name in total:
            total[name] = total[name] + quantity
    return total


def all_containers(spec: PodSpec) -> Iterable[Container]:
    """Init containers, then containers, in their order."""
    yield from spec.init_containers
    yield from spec.containers


def qos_class(pod: Pod) -> str:
    """Guaranteed, Burstable or BestEffort."""
    if pod.status.qos_class:
        return pod.status.qos_class
    return compute_qos_class(pod.spec)


def compute_qos_class(spec: PodSpec) -> str:
    """From the requests and limits of CPU and memory alone."""
    if spec.resources is not None and (spec.resources.requests or spec.resources.limits):
        pairs = [(spec.resources.requests, spec.resources.limits)]
    else:
        pairs = [(c.resources.requests, c.resources.limits) for c in all_containers(spec)]
    if not any(values.get(name) for pair in pairs for values in pair for name in _COMPUTE):
        return BEST_EFFORT
    for requests, limits in pairs:
        for name in _COMPUTE:
            limit = limits.get(name)
            if not limit or requests.get(name, limit) != limit:
                return BURSTABLE
    return GUARANTEED
