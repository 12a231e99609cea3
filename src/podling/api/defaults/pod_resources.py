"""Defaults of spec.resources, the requests and limits of a Pod as a whole. Source: KEP-2837."""

from __future__ import annotations

from msgspec.structs import replace

from podling.api import resources
from podling.api.core.v1 import PodSpec
from podling.api.quantity import Quantity

_HUGE_PAGES = "hugepages-"
_COMPUTE = ("cpu", "memory")


def _of_containers(spec: PodSpec) -> tuple[resources.Resources, resources.Resources]:
    """The containers' requests and limits together."""
    containers = replace(spec, resources=None, overhead={})
    return resources.pod_requests(containers), resources.pod_limits(containers)


def _is_supported(name: str) -> bool:
    return name in _COMPUTE or name.startswith(_HUGE_PAGES)


def apply_pod_resources(spec: PodSpec) -> None:
    """In place, after the containers' requests were defaulted from their limits."""
    pod = spec.resources
    if pod is None or not (pod.limits or pod.requests):
        return
    requests, limits = _of_containers(spec)
    for name, limit in limits.items():
        if name.startswith(_HUGE_PAGES) and name not in pod.requests:
            pod.limits.setdefault(name, limit)
    if pod.limits:
        for name, request in requests.items():
            if name in _COMPUTE:
                pod.requests.setdefault(name, request)
        for name, limit in pod.limits.items():
            if _is_supported(name):
                pod.requests.setdefault(name, limit)
    limited = any(map(_is_supported, pod.limits))
    if not limited and any(map(_is_supported, pod.requests)):
        for name, limit in limits.items():
            if name in _COMPUTE and _all_limited(spec, name):
                pod.limits.setdefault(name, limit)


def _all_limited(spec: PodSpec, name: str) -> bool:
    zero = Quantity()
    return all(each.resources.limits.get(name, zero) > zero for each in resources.all_containers(spec))
