"""Preemption: which Pods of lower priority would have to go so that a Pod fits.

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from podling.api.core.v1 import Node
from podling.scheduler.filters import reject
from podling.scheduler.fit_error import NO_VICTIMS, PREEMPTION_USELESS, fit_error
from podling.scheduler.framework import Cycle, Rejection
from podling.scheduler.node_info import NodeInfo, PodInfo

NEVER = "preemption: not eligible due to preemptionPolicy=Never."
TERMINATING = "preemption: not eligible due to a terminating pod on the nominated node."


class Candidate(Struct, frozen=True):
    """A Node and the Pods that would leave it, the most important first."""

    node: str
    victims: Sequence[PodInfo]


def waits_for_victims(pod: PodInfo, nodes: Sequence[NodeInfo]) -> bool:
    """Whether Pods are already leaving the Node that this Pod was promised."""
    promised = pod.pod.status.nominated_node_name
    return bool(promised) and any(
        other.priority < pod.priority and other.pod.metadata.deletion_timestamp
        for info in nodes
        if info.node is not None and info.node.metadata.name == promised
        for other in info.pods.values()
    )


def find_candidate(cycle: Cycle, rejected: Sequence[tuple[NodeInfo, Rejection]]) -> tuple[Candidate | None, str]:
    """The cheapest candidate, or None and the words of why there is none. `rejected` is what the filters said of the
    cycle's Nodes."""
    candidates: list[Candidate] = []
    verdicts: list[Rejection] = []
    for info, rejection in rejected:
        if rejection.unresolvable or info.node is None:
            verdicts.append(Rejection((PREEMPTION_USELESS,)))
            continue
        found = _select_victims(cycle, info, info.node)
        if isinstance(found, Candidate):
            candidates.append(found)
        else:
            verdicts.append(found)
    if candidates:
        return min(candidates, key=_cost), ""
    return None, f"preemption: {fit_error(verdicts)}"


def _select_victims(cycle: Cycle, info: NodeInfo, node: Node) -> Candidate | Rejection:
    """As few and as unimportant Pods as possible."""
    pod = cycle.info
    lower = [other for other in info.pods.values() if other.priority < pod.priority]
    if not lower:
        return Rejection((NO_VICTIMS,))
    rest = info.copy_without({other.uid for other in lower})
    others = [rest if one is info else one for one in cycle.nodes]

    def refusal() -> Rejection | None:
        # What filters computed before holds no longer: a new cycle.
        rejected = reject(Cycle(pod, others, cycle.namespace_labels), rest, node)
        return rejected[1] if rejected is not None else None

    still = refusal()
    if still is not None:
        return still
    victims = []
    for other in sorted(lower, key=_importance):
        rest.add(other)
        if refusal() is not None:
            rest.remove(other.uid)
            victims.append(other)
    return Candidate(node.metadata.name, victims)


def _importance(pod: PodInfo) -> tuple[int, str]:
    """The most important Pod first: by priority, then the one that has run longest."""
    return -pod.priority, pod.pod.status.start_time or "9999"


def _cost(candidate: Candidate) -> tuple[int, int, int, str]:
    """The least highest priority among the victims, then the least sum of priorities, then the fewest."""
    priorities = [victim.priority for victim in candidate.victims]
    # Counted from the lowest possible priority: else a negative one would make more victims cheaper.
    total = sum(priority + 2**31 for priority in priorities)
    return max(priorities), total, len(priorities), candidate.node
