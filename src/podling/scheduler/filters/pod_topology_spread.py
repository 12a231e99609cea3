"""PodTopologySpread: constraints with whenUnsatisfiable: DoNotSchedule."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo
from podling.scheduler.topology_spread import DO_NOT_SCHEDULE, Spread, spreads

_REASON = "node(s) didn't match pod topology spread constraints"
_SKEW = Rejection((_REASON,))
_NO_LABEL = Rejection((f"{_REASON} (missing required label)",), unresolvable=True)


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    if not cycle.pod.spec.topology_spread_constraints:
        return None
    constraints = cycle.memo.get("PodTopologySpread")
    if not isinstance(constraints, list):
        constraints = cycle.memo["PodTopologySpread"] = spreads(cycle, DO_NOT_SCHEDULE)
    for spread in constraints:
        assert isinstance(spread, Spread)
        value = node.metadata.labels.get(spread.key)
        if value is None:
            return _NO_LABEL
        if spread.skew(value) > spread.max_skew:
            return _SKEW
    return None


POD_TOPOLOGY_SPREAD = Filter(
    "PodTopologySpread",
    _filter,
    frozenset(
        {
            ClusterEvent.NODE_ADDED,
            ClusterEvent.NODE_LABELS,
            ClusterEvent.NODE_TAINTS,
            ClusterEvent.POD_ADDED,
            ClusterEvent.POD_REMOVED,
        }
    ),
)
