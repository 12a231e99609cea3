"""InterPodAffinity: preferred affinity and anti-affinity, of the new Pod and of those that are there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from podling.api.core.v1 import Node, Pod
from podling.scheduler.affinity_term import AffinityTerm
from podling.scheduler.framework import MAX_SCORE, Cycle, Score
from podling.scheduler.node_info import NodeInfo

_REQUIRED_WEIGHT = 1
"""What the required affinity of a Pod that is there counts for a new one that it matches."""


def _points(cycle: Cycle) -> Counter[tuple[str, str]]:
    points: Counter[tuple[str, str]] = Counter()

    def add(terms: Iterable[AffinityTerm], about: Pod, node_labels: dict[str, str], factor: int) -> None:
        for term in terms:
            value = node_labels.get(term.topology_key)
            if value is not None and term.matches(about, cycle.namespace_labels):
                points[term.topology_key, value] += factor * (term.weight or _REQUIRED_WEIGHT)

    own, pod = cycle.info.affinity, cycle.pod
    for info in cycle.nodes:
        if info.node is None:
            continue
        node_labels = info.node.metadata.labels
        for other in info.pods.values():
            add(own.preferred, other.pod, node_labels, 1)
            add(own.preferred_anti, other.pod, node_labels, -1)
            add(other.affinity.required, pod, node_labels, 1)
            add(other.affinity.preferred, pod, node_labels, 1)
            add(other.affinity.preferred_anti, pod, node_labels, -1)
    return points


def _score(cycle: Cycle, info: NodeInfo, node: Node) -> int:
    points = cycle.memo.get("InterPodAffinityScore")
    if not isinstance(points, Counter):
        points = cycle.memo["InterPodAffinityScore"] = _points(cycle)
    return sum(count for (key, value), count in points.items() if node.metadata.labels.get(key) == value)


def _normalize(raw: list[int]) -> list[int]:
    low, high = min(raw), max(raw)
    return [MAX_SCORE * (value - low) // (high - low) if high > low else 0 for value in raw]


PREFERRED_POD_AFFINITY = Score("InterPodAffinity", 2, _score, _normalize)
