"""The node's own check of a Pod that was bound to it: does it fit?

Source: Kubernetes documentation "Assigning Pods to Nodes" (nodeName: a Pod that does not fit fails with OutOfcpu, ...); reasons
and messages as the kubelet's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from podling.api.core.v1 import Node, Pod
from podling.api.node_affinity import allows
from podling.api.quantity import Quantity
from podling.api.resources import Resources, add, is_sidecar, pod_requests
from podling.api.sysctl import Allowlist
from podling.api.tolerations import untolerated
from podling.api.validation import unsupported
from podling.api.validation.resource import is_extended
from podling.kubelet import sysctls
from podling.kubelet.pod_worker import Ending

FEATURE_UNSUPPORTED = "PodFeatureUnsupported"


def ignored(pod: Pod, old: Pod) -> str:
    """Return what another API server let change in a Pod that runs and this node does not follow; "" for nothing."""
    if pod.spec == old.spec:
        return ""
    resized = [
        f"spec.{wire}[{index}].resources: the change {unsupported.DETAIL}"
        for wire, after, before in (
            ("initContainers", pod.spec.init_containers, old.spec.init_containers),
            ("containers", pod.spec.containers, old.spec.containers),
        )
        for index, (new, one) in enumerate(zip(after, before, strict=False))
        if new.resources != one.resources
    ]
    return "; ".join([*_unsupported(pod), *resized])


def _unsupported(pod: Pod) -> list[str]:
    return [f"{error.field}: {error.detail}" for error in unsupported.errors(pod, unsupported.NODE_TABLE)]


def admit(
    pod: Pod,
    others: Iterable[Pod],
    allocatable: Mapping[str, Quantity],
    node: Node | None,
    sysctls_allowed: Allowlist,
    daemon_ports: Collection[int] = (),
) -> Ending | None:
    """Return why the Pod cannot run here beside `others` (those that take room now), or None.

    `daemon_ports` are TCP ports of the cluster's own daemons on this node.
    """
    others = list(others)
    if pod.spec.os is not None and pod.spec.os.name != "linux":
        return Ending("PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS")
    if found := _unsupported(pod):
        return Ending(FEATURE_UNSUPPORTED, "; ".join(found))
    if forbidden := sysctls.refusal(pod, sysctls_allowed):
        return Ending(sysctls.REASON, forbidden)
    if node is not None:
        allocatable = {**node.status.allocatable, **allocatable}
        if not allows(pod.spec, node):
            return _failed("NodeAffinity", "node(s) didn't match Pod's node affinity/selector")
        if untolerated(node.spec.taints, pod.spec.tolerations, ("NoExecute",)):
            return _failed("TaintToleration", "node(s) had taints that the pod didn't tolerate")
    limit = allocatable.get("pods")
    if limit is not None and len(others) + 1 > limit.value():
        return _shortage("pods", 1, len(others), limit.value())
    used: Resources = {}
    for other in others:
        add(used, pod_requests(other.spec))
    for name, wanted in pod_requests(pod.spec).items():
        if is_extended(name) and name not in allocatable:
            continue  # The scheduler's part: what the node knows nothing of, it cannot run out of.
        have = allocatable.get(name, Quantity("0"))
        taken = used.get(name, Quantity("0"))
        if wanted > Quantity("0") and taken + wanted > have:
            values = [q.milli_value() if name == "cpu" else q.value() for q in (wanted, taken, have)]
            return _shortage(name, *values)
    taken_ports = {port for other in others for port in _host_ports(other)}
    taken_ports.update(("TCP", "0.0.0.0", number) for number in daemon_ports)
    if any(_conflicts(port, taken_ports) for port in _host_ports(pod)):
        return _failed("NodePorts", "node(s) didn't have free ports for the requested pod ports")
    return None


def _failed(predicate: str, message: str) -> Ending:
    return Ending(predicate, f"Predicate {predicate} failed: {message}")


def _shortage(name: str, wanted: int, used: int, capacity: int) -> Ending:
    return Ending(
        f"OutOf{name}",
        f"Node didn't have enough resource: {name}, requested: {wanted}, used: {used}, capacity: {capacity}",
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
