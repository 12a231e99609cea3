"""The node's own check of a Pod that was bound to it: does it fit?

Source: Kubernetes documentation "Assigning Pods to Nodes" (nodeName: a Pod that does not fit fails with OutOfcpu, ...); reasons
and messages as the kubelet's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podling.api.core.v1 import Node, Pod
from podling.api.node_affinity import allows
from podling.api.quantity import Quantity
from podling.api.resources import Resources, add, is_sidecar, pod_requests
from podling.kubelet.pod_worker import Ending


def admit(pod: Pod, others: Iterable[Pod], allocatable: Mapping[str, Quantity], node: Node | None) -> Ending | None:
    """Why the Pod cannot run here beside `others` (those that take room now), or None."""
    others = list(others)
    if node is not None and not allows(pod.spec, node):
        return Ending(
            "NodeAffinity",
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector",
        )
    limit = allocatable.get("pods")
    if limit is not None and len(others) + 1 > limit.value():
        return _shortage("pods", 1, len(others), limit.value())
    used: Resources = {}
    for other in others:
        add(used, pod_requests(other.spec))
    for name, wanted in pod_requests(pod.spec).items():
        have = allocatable.get(name, Quantity("0"))
        taken = used.get(name, Quantity("0"))
        if wanted > Quantity("0") and taken + wanted > have:
            values = [q.milli_value() if name == "cpu" else q.value() for q in (wanted, taken, have)]
            return _shortage(name, *values)
    taken_ports = {port for other in others for port in _host_ports(other)}
    if any(_conflicts(port, taken_ports) for port in _host_ports(pod)):
        return Ending(
            "NodePorts",
            "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports",
        )
    return None


def _shortage(name: str, wanted: int, used: int, capacity: int) -> Ending:
    return Ending(
        f"OutOf{name}",
        f"Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, "
        f"capacity: {capacity}",
    )


def _host_ports(pod: Pod) -> Iterable[tuple[str, str, int]]:
    sidecars = [c for c in pod.spec.init_containers if is_sidecar(c)]
    for container in [*pod.spec.containers, *sidecars]:
        for port in container.ports:
            if port.host_port:
                yield port.protocol or "TCP", port.host_ip or "0.0.0.0", port.host_port


def _conflicts(port: tuple[str, str, int], taken: Iterable[tuple[str, str, int]]) -> bool:
    protocol, address, number = port
    return any(
        protocol == other_protocol
        and number == other_number
        and (address == other_address or "0.0.0.0" in (address, other_address))
        for other_protocol, other_address, other_number in taken
    )
