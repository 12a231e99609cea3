"""Topology spread constraints: how many Pods that match stand in each domain.

Source: Kubernetes documentation, "Pod Topology Spread Constraints".
"""

from __future__ import annotations

from collections import Counter

from podling.api import labels, node_affinity
from podling.api.core.v1 import Node, Pod, TopologySpreadConstraint
from podling.api.tolerations import NO_EXECUTE, NO_SCHEDULE, untolerated
from podling.scheduler.affinity_term import with_label_keys
from podling.scheduler.framework import Cycle

DO_NOT_SCHEDULE = "DoNotSchedule"
SCHEDULE_ANYWAY = "ScheduleAnyway"


class Spread:
    """One constraint of a Pod and the number of matching Pods in each domain (value of the topology key)."""

    def __init__(self, constraint: TopologySpreadConstraint, cycle: Cycle, keys: list[str]) -> None:
        pod = cycle.pod
        self.key = constraint.topology_key
        self.max_skew = constraint.max_skew
        self._selector = with_label_keys(
            labels.from_struct(constraint.label_selector), constraint.match_label_keys, pod
        )
        self.counts: Counter[str] = Counter()
        for info in cycle.nodes:
            node = info.node
            if node is None or any(key not in node.metadata.labels for key in keys):
                continue
            if not _eligible(constraint, pod, node):
                continue
            value = node.metadata.labels[self.key]
            self.counts[value] += sum(1 for other in info.pods.values() if self._counts(other.pod, pod))
        self.own = 1 if self._selector.matches(pod.metadata.labels) else 0
        enough = len(self.counts) >= (constraint.min_domains or 1)
        self.minimum = min(self.counts.values(), default=0) if enough else 0

    def skew(self, value: str) -> int:
        """How far the domain would be ahead of the emptiest one, with the Pod in it."""
        return self.counts[value] + self.own - self.minimum

    def _counts(self, other: Pod, pod: Pod) -> bool:
        meta = other.metadata
        if meta.namespace != pod.metadata.namespace or meta.deletion_timestamp:
            return False
        return self._selector.matches(meta.labels)


def spreads(cycle: Cycle, when_unsatisfiable: str) -> list[Spread]:
    """The Pod's constraints of one sort."""
    chosen = [c for c in cycle.pod.spec.topology_spread_constraints if c.when_unsatisfiable == when_unsatisfiable]
    keys = [constraint.topology_key for constraint in chosen]
    return [Spread(constraint, cycle, keys) for constraint in chosen]


def _eligible(constraint: TopologySpreadConstraint, pod: Pod, node: Node) -> bool:
    if (constraint.node_affinity_policy or "Honor") == "Honor" and not node_affinity.allows(pod.spec, node):
        return False
    return constraint.node_taints_policy != "Honor" or not untolerated(
        node.spec.taints, pod.spec.tolerations, (NO_SCHEDULE, NO_EXECUTE)
    )
