"""The filters, in the order in which they are asked; the first that rejects a Node has the word."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.scheduler.filters.inter_pod_affinity import INTER_POD_AFFINITY
from podling.scheduler.filters.node_affinity import NODE_AFFINITY
from podling.scheduler.filters.node_ports import NODE_PORTS
from podling.scheduler.filters.node_resources_fit import NODE_RESOURCES_FIT
from podling.scheduler.filters.node_unschedulable import NODE_UNSCHEDULABLE
from podling.scheduler.filters.pod_topology_spread import POD_TOPOLOGY_SPREAD
from podling.scheduler.filters.taint_toleration import TAINT_TOLERATION
from podling.scheduler.framework import Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo

FILTERS: tuple[Filter, ...] = (
    NODE_UNSCHEDULABLE,
    TAINT_TOLERATION,
    NODE_AFFINITY,
    NODE_PORTS,
    NODE_RESOURCES_FIT,
    POD_TOPOLOGY_SPREAD,
    INTER_POD_AFFINITY,
)


def reject(cycle: Cycle, info: NodeInfo, node: Node) -> tuple[Filter, Rejection] | None:
    """The first filter that will not have the Pod on this Node, and why; None if it may go there."""
    for candidate in FILTERS:
        rejection = candidate.function(cycle, info, node)
        if rejection is not None:
            return candidate, rejection
    return None
