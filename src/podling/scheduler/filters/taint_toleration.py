"""TaintToleration: taints with effect NoSchedule or NoExecute that the Pod does not tolerate."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.api.tolerations import NO_EXECUTE, NO_SCHEDULE, untolerated
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo

_REJECTION = Rejection(("node(s) had untolerated taint(s)",), unresolvable=True)


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    taints = node.spec.taints
    if taints and untolerated(taints, cycle.pod.spec.tolerations, (NO_SCHEDULE, NO_EXECUTE)):
        return _REJECTION
    return None


TAINT_TOLERATION = Filter("TaintToleration", _filter, frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_TAINTS}))
