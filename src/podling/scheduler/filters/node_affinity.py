"""NodeAffinity: nodeSelector and required node affinity."""

from __future__ import annotations

from podling.api import node_affinity
from podling.api.core.v1 import Node
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo

_REJECTION = Rejection(("node(s) didn't match Pod's node affinity/selector",), unresolvable=True)


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    return None if node_affinity.allows(cycle.pod.spec, node) else _REJECTION


NODE_AFFINITY = Filter("NodeAffinity", _filter, frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS}))
