"""The scores that choose among the Nodes that passed every filter."""

from __future__ import annotations

from podling.scheduler.framework import Score
from podling.scheduler.scores.inter_pod_affinity import PREFERRED_POD_AFFINITY
from podling.scheduler.scores.node_affinity import PREFERRED_NODE_AFFINITY
from podling.scheduler.scores.node_resources_fit import LEAST_ALLOCATED
from podling.scheduler.scores.pod_topology_spread import SPREAD_ANYWAY
from podling.scheduler.scores.taint_toleration import PREFER_NO_TAINTS

SCORES: tuple[Score, ...] = (
    PREFER_NO_TAINTS,
    PREFERRED_NODE_AFFINITY,
    LEAST_ALLOCATED,
    SPREAD_ANYWAY,
    PREFERRED_POD_AFFINITY,
)
