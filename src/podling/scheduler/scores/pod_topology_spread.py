"""PodTopologySpread: constraints with whenUnsatisfiable: ScheduleAnyway; the emptier the domain, the better."""

from __future__ import annotations

import math

from podling.api.core.v1 import Node
from podling.scheduler.framework import MAX_SCORE, Cycle, Score
from podling.scheduler.node_info import NodeInfo
from podling.scheduler.topology_spread import SCHEDULE_ANYWAY, Spread, spreads

_NOT_IN_ANY_DOMAIN = -1


def _score(cycle: Cycle, info: NodeInfo, node: Node) -> int:
    if not cycle.pod.spec.topology_spread_constraints:
        return 0
    constraints = cycle.memo.get("PodTopologySpreadScore")
    if not isinstance(constraints, list):
        constraints = cycle.memo["PodTopologySpreadScore"] = spreads(cycle, SCHEDULE_ANYWAY)
    total = 0.0
    for spread in constraints:
        assert isinstance(spread, Spread)
        value = node.metadata.labels.get(spread.key)
        if value is None:
            return _NOT_IN_ANY_DOMAIN
        # More domains make each Pod weigh more, so that zones do not drown among hosts (as kube-scheduler).
        total += spread.counts[value] * math.log(len(spread.counts) + 2) + spread.max_skew - 1
    return round(total)


def _normalize(raw: list[int]) -> list[int]:
    rated = [value for value in raw if value != _NOT_IN_ANY_DOMAIN]
    low, high = min(rated, default=0), max(rated, default=0)
    if not high:
        return [0 if value == _NOT_IN_ANY_DOMAIN else MAX_SCORE for value in raw]
    return [0 if value == _NOT_IN_ANY_DOMAIN else MAX_SCORE * (high + low - value) // high for value in raw]


SPREAD_ANYWAY = Score("PodTopologySpread", 2, _score, _normalize)
