"""NodeAffinity: preferred node affinity."""

from __future__ import annotations

from podling.api import node_affinity
from podling.api.core.v1 import Node
from podling.scheduler.framework import Cycle, Score, highest_first
from podling.scheduler.node_info import NodeInfo


def _score(cycle: Cycle, info: NodeInfo, node: Node) -> int:
    return node_affinity.preference(cycle.pod.spec, node)


PREFERRED_NODE_AFFINITY = Score("NodeAffinity", 2, _score, highest_first)
