"""NodeResourcesFit, LeastAllocated: the more of CPU and memory is left, the better."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.scheduler.framework import MAX_SCORE, Cycle, Score
from podling.scheduler.node_info import NodeInfo


def _score(cycle: Cycle, info: NodeInfo, node: Node) -> int:
    cpu = _free(info.scored_cpu + cycle.info.scored_cpu, info.allocatable.get("cpu", 0))
    memory = _free(info.scored_memory + cycle.info.scored_memory, info.allocatable.get("memory", 0))
    return (cpu + memory) // 2


def _free(requested: int, allocatable: int) -> int:
    if requested > allocatable or not allocatable:
        return 0
    return (allocatable - requested) * MAX_SCORE // allocatable


LEAST_ALLOCATED = Score("NodeResourcesFit", 1, _score)
