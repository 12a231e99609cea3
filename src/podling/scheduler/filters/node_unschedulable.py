"""NodeUnschedulable: cordoned Nodes (spec.unschedulable)."""

from __future__ import annotations

from podling.api.core.v1 import Node, Taint
from podling.api.tolerations import NO_SCHEDULE, tolerates
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo

_TAINT = Taint(key="node.kubernetes.io/unschedulable", effect=NO_SCHEDULE)
_REJECTION = Rejection(("node(s) were unschedulable",), unresolvable=True)


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    if not node.spec.unschedulable or any(tolerates(t, _TAINT) for t in cycle.pod.spec.tolerations):
        return None
    return _REJECTION


NODE_UNSCHEDULABLE = Filter(
    "NodeUnschedulable", _filter, frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS})
)
