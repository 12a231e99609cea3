"""NodeResourcesFit: what the Pod requests against what is left of the Node's allocatable."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    reasons = []
    unresolvable = False
    if len(info.pods) + 1 > info.allocatable.get("pods", 0):
        reasons.append("Too many pods")
    for name, amount in cycle.info.requests.items():
        allocatable = info.allocatable.get(name, 0)
        if 0 < amount > allocatable - info.requested[name]:
            reasons.append(f"Insufficient {name}")
            unresolvable |= amount > allocatable
    return Rejection(tuple(reasons), unresolvable) if reasons else None


NODE_RESOURCES_FIT = Filter(
    "NodeResourcesFit",
    _filter,
    frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_ALLOCATABLE, ClusterEvent.POD_REMOVED}),
)
