"""Where a Pod goes: filters, scores and, as the last resort, preemption. Pure: nothing is written here."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence

from msgspec import Struct

from podling.scheduler.affinity_term import NamespaceLabels
from podling.scheduler.filters import reject
from podling.scheduler.fit_error import NO_NODES, fit_error
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection, no_labels
from podling.scheduler.node_info import NodeInfo, PodInfo
from podling.scheduler.preemption import NEVER, TERMINATING, Candidate, find_candidate, waits_for_victims
from podling.scheduler.scores import SCORES


class Placement(Struct, frozen=True):
    """`node`, or the reason why there is none, the events that may change that, whom to preempt, and the Node where the
    Pod then waits for room."""

    node: str = ""
    message: str = ""
    helped_by: frozenset[ClusterEvent] = frozenset({ClusterEvent.NODE_ADDED})
    preempt: Candidate | None = None
    nominated_node: str = ""


def place(
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    namespace_labels: NamespaceLabels = no_labels,
    nominated: Sequence[tuple[PodInfo, str]] = (),
) -> Placement:
    """`nominated`: Pods that preempted others on the Node named with them and wait until those are gone."""
    cycle = Cycle(pod, nodes, namespace_labels)
    crowded = _with_nominated(cycle, nominated)
    feasible, rejected = find_feasible(crowded)
    if nominated:
        # A Pod must fit with the nominated ones and, as they may still go elsewhere, without them.
        by_name = {info.node.metadata.name: info for info in nodes if info.node is not None}
        feasible = [by_name[info.node.metadata.name] for info in feasible if info.node is not None]
        feasible = [info for info in feasible if info.node is not None and reject(cycle, info, info.node) is None]
    if feasible:
        return Placement(node=_name(_choose(cycle, feasible)))
    if not nodes:
        return Placement(message=NO_NODES)
    rejections = [rejection for _, _, rejection in rejected]
    helped_by = Placement().helped_by.union(*(rejector.helped_by for _, rejector, _ in rejected))
    candidate = None
    nominated_node = ""
    if pod.pod.spec.preemption_policy == "Never":
        words = NEVER
    elif waits_for_victims(pod, nodes):
        words = TERMINATING
        nominated_node = pod.pod.status.nominated_node_name
    else:
        candidate, words = find_candidate(crowded, [(info, rejection) for info, _, rejection in rejected])
        nominated_node = candidate.node if candidate is not None else ""
    message = fit_error(rejections, words)
    return Placement(message=message, helped_by=helped_by, preempt=candidate, nominated_node=nominated_node)


def find_feasible(cycle: Cycle) -> tuple[list[NodeInfo], list[tuple[NodeInfo, Filter, Rejection]]]:
    """The Nodes that pass every filter; and the others, with the filter that said no."""
    feasible: list[NodeInfo] = []
    rejected: list[tuple[NodeInfo, Filter, Rejection]] = []
    for info in cycle.nodes:
        if info.node is None:
            continue
        verdict = reject(cycle, info, info.node)
        if verdict is None:
            feasible.append(info)
        else:
            rejected.append((info, *verdict))
    return feasible, rejected


def select(cycle: Cycle, feasible: Sequence[NodeInfo]) -> NodeInfo:
    """The Node with the highest score; among equals a random one."""
    totals = [0] * len(feasible)
    for score in SCORES:
        raw = [score.function(cycle, info, info.node) for info in feasible if info.node is not None]
        for index, points in enumerate(score.normalize(raw)):
            totals[index] += score.weight * points
    top = max(totals)
    return random.choice([info for info, total in zip(feasible, totals, strict=True) if total == top])


def _choose(cycle: Cycle, feasible: Sequence[NodeInfo]) -> NodeInfo:
    promised = cycle.pod.status.nominated_node_name
    for info in feasible:
        if len(feasible) == 1 or (promised and _name(info) == promised):
            return info
    return select(cycle, feasible)


def _with_nominated(cycle: Cycle, nominated: Sequence[tuple[PodInfo, str]]) -> Cycle:
    """The cycle as if the nominated Pods that matter at least as much were there already."""
    expected: defaultdict[str, list[PodInfo]] = defaultdict(list)
    for other, node in nominated:
        if other.uid != cycle.info.uid and other.priority >= cycle.info.priority:
            expected[node].append(other)
    if not expected:
        return cycle
    crowded = []
    for info in cycle.nodes:
        others = expected.get(_name(info))
        if others:
            info = info.copy_without(set())
            for other in others:
                info.add(other)
        crowded.append(info)
    return Cycle(cycle.info, crowded, cycle.namespace_labels)


def _name(info: NodeInfo) -> str:
    return info.node.metadata.name if info.node is not None else ""
