"""InterPodAffinity: required affinity and anti-affinity to Pods that are there, and theirs to the new one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from podling.api.core.v1 import Node
from podling.scheduler.affinity_term import AffinityTerm
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo

Pair = tuple[str, str]
"""A topology key and a Node's value for it: a domain."""

_AFFINITY = Rejection(("node(s) didn't match pod affinity rules",), unresolvable=True)
_ANTI_AFFINITY = Rejection(("node(s) didn't match pod anti-affinity rules",))
_EXISTING = Rejection(("node(s) didn't satisfy existing pods anti-affinity rules",))


class _State:
    """How many Pods speak for or against each domain."""

    def __init__(self, cycle: Cycle) -> None:
        self.near: Counter[Pair] = Counter()
        self.far: Counter[Pair] = Counter()
        self.existing: set[Pair] = set()
        own, pod = cycle.info.affinity, cycle.pod
        for info in cycle.nodes:
            if info.node is None:
                continue
            node_labels = info.node.metadata.labels
            for other in info.pods.values():
                for term in other.affinity.required_anti:
                    value = node_labels.get(term.topology_key)
                    if value is not None and term.matches(pod, cycle.namespace_labels):
                        self.existing.add((term.topology_key, value))
                if own.required and all(t.matches(other.pod, cycle.namespace_labels) for t in own.required):
                    self.near.update(_pairs(own.required, node_labels))
                for term in own.required_anti:
                    if term.matches(other.pod, cycle.namespace_labels):
                        self.far.update(_pairs([term], node_labels))
        self.first_of_its_kind = (
            bool(own.required)
            and not self.near
            and all(term.matches(pod, cycle.namespace_labels) for term in own.required)
        )


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    own = cycle.info.affinity
    if "InterPodAffinity" not in cycle.memo:
        concerned = own.required or own.required_anti or any(other.with_anti_affinity for other in cycle.nodes)
        cycle.memo["InterPodAffinity"] = _State(cycle) if concerned else None
    state = cycle.memo["InterPodAffinity"]
    if not isinstance(state, _State):
        return None
    node_labels = node.metadata.labels
    if own.required:
        pairs = _pairs(own.required, node_labels)
        if len(pairs) < len(own.required):
            return _AFFINITY
        if not state.first_of_its_kind and any(not state.near[pair] for pair in pairs):
            return _AFFINITY
    if any(state.far[pair] for pair in _pairs(own.required_anti, node_labels)):
        return _ANTI_AFFINITY
    if any(node_labels.get(key) == value for key, value in state.existing):
        return _EXISTING
    return None


def _pairs(terms: Sequence[AffinityTerm], node_labels: dict[str, str]) -> list[Pair]:
    return [(t.topology_key, node_labels[t.topology_key]) for t in terms if t.topology_key in node_labels]


INTER_POD_AFFINITY = Filter(
    "InterPodAffinity",
    _filter,
    frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.NODE_LABELS, ClusterEvent.POD_ADDED, ClusterEvent.POD_REMOVED}),
)
