"""TaintToleration: Nodes with fewer taints of effect PreferNoSchedule that the Pod does not tolerate."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.api.tolerations import PREFER_NO_SCHEDULE, untolerated
from podling.scheduler.framework import Cycle, Score, lowest_first
from podling.scheduler.node_info import NodeInfo


def _score(cycle: Cycle, info: NodeInfo, node: Node) -> int:
    return len(untolerated(node.spec.taints, cycle.pod.spec.tolerations, (PREFER_NO_SCHEDULE,)))


PREFER_NO_TAINTS = Score("TaintToleration", 3, _score, lowest_first)
