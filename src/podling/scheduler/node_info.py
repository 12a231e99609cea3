"""What the scheduler knows of a Node and of the Pods on it, in numbers ready to compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from podling.api.core.v1 import Node, Pod
from podling.api.quantity import Quantity
from podling.api.resources import is_sidecar, pod_requests
from podling.scheduler.affinity_term import AffinityTerms, has_pod_affinity

Amounts = dict[str, int]
"""Resource name to amount: CPU in thousandths, everything else in whole units (bytes, pieces)."""

HostPort = tuple[str, str, int]
"""Address, protocol and number."""

ANY_ADDRESS = "0.0.0.0"

_UNREQUESTED_CPU = 100
_UNREQUESTED_MEMORY = 200 * 1024 * 1024
"""What a container that requests nothing counts for in scores, so that such Pods spread too (as kube-scheduler)."""


def amounts(resources: dict[str, Quantity]) -> Amounts:
    return {name: q.milli_value() if name == "cpu" else q.value() for name, q in resources.items()}


NO_TERMS = AffinityTerms(Pod())


class PodInfo:
    """A Pod and what it takes of a Node."""

    __slots__ = ("affinity", "host_ports", "pod", "priority", "requests", "scored_cpu", "scored_memory", "uid")

    def __init__(self, pod: Pod) -> None:
        spec = pod.spec
        self.pod = pod
        self.uid = pod.metadata.uid
        self.priority = spec.priority or 0
        self.affinity = AffinityTerms(pod) if has_pod_affinity(spec) else NO_TERMS
        self.requests = amounts(pod_requests(spec))
        running = spec.containers + [c for c in spec.init_containers if is_sidecar(c)]
        self.scored_cpu = self.requests.get("cpu", 0)
        self.scored_memory = self.requests.get("memory", 0)
        whole = spec.resources.requests if spec.resources else {}
        for container in running:
            if "cpu" not in container.resources.requests and "cpu" not in whole:
                self.scored_cpu += _UNREQUESTED_CPU
            if "memory" not in container.resources.requests and "memory" not in whole:
                self.scored_memory += _UNREQUESTED_MEMORY
        self.host_ports: list[HostPort] = [
            (port.host_ip or ANY_ADDRESS, port.protocol or "TCP", port.host_port)
            for container in running
            for port in container.ports
            if port.host_port
        ]


class NodeInfo:
    """A Node with the Pods bound to it or about to be. `node` is None while only Pods of a vanished Node are known."""

    __slots__ = (
        "allocatable",
        "daemon_ports",
        "host_ports",
        "node",
        "pods",
        "requested",
        "scored_cpu",
        "scored_memory",
        "with_anti_affinity",
    )

    def __init__(self, node: Node | None = None, daemon_ports: Collection[HostPort] = ()) -> None:
        self.node = node
        self.pods: dict[str, PodInfo] = {}
        self.allocatable: Amounts = amounts(node.status.allocatable) if node else {}
        self.requested: Counter[str] = Counter()
        self.daemon_ports = daemon_ports
        self.host_ports: Counter[HostPort] = Counter(daemon_ports)
        """Those of daemons and of Pods."""
        self.scored_cpu = 0
        self.scored_memory = 0
        self.with_anti_affinity = 0
        """How many of the Pods have required anti-affinity."""

    def set_node(self, node: Node | None, daemon_ports: Collection[HostPort] = ()) -> None:
        self.node = node
        self.host_ports.subtract(self.daemon_ports)
        self.host_ports.update(daemon_ports)
        self.host_ports += Counter()
        self.daemon_ports = daemon_ports
        self.allocatable = amounts(node.status.allocatable) if node else {}

    def add(self, pod: PodInfo) -> None:
        self.pods[pod.uid] = pod
        self.requested.update(pod.requests)
        self.host_ports.update(pod.host_ports)
        self.scored_cpu += pod.scored_cpu
        self.scored_memory += pod.scored_memory
        self.with_anti_affinity += bool(pod.affinity.required_anti)

    def remove(self, uid: str) -> PodInfo | None:
        pod = self.pods.pop(uid, None)
        if pod is not None:
            self.requested.subtract(pod.requests)
            self.host_ports.subtract(pod.host_ports)
            self.host_ports += Counter()
            self.scored_cpu -= pod.scored_cpu
            self.scored_memory -= pod.scored_memory
            self.with_anti_affinity -= bool(pod.affinity.required_anti)
        return pod

    def copy_without(self, victims: set[str]) -> NodeInfo:
        """The same Node as if these Pods (uids) were not there."""
        rest = NodeInfo(self.node, self.daemon_ports)
        for uid, pod in self.pods.items():
            if uid not in victims:
                rest.add(pod)
        return rest
