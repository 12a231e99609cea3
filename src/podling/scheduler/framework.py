"""What filters and scores are: functions of one scheduling attempt (the cycle) and one Node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

from msgspec import Struct

from podling.api.core.v1 import Node, Pod
from podling.scheduler.affinity_term import NamespaceLabels
from podling.scheduler.node_info import NodeInfo, PodInfo


class ClusterEvent(StrEnum):
    """Changes that may make room for a Pod that did not fit."""

    NODE_ADDED = "NodeAdd"
    NODE_ALLOCATABLE = "NodeAllocatableChange"
    NODE_LABELS = "NodeLabelChange"
    NODE_TAINTS = "NodeTaintChange"
    DAEMON_PORTS = "DaemonPortChange"
    POD_ADDED = "AssignedPodAdd"
    POD_REMOVED = "AssignedPodDelete"


class Rejection(Struct, frozen=True):
    """Why a Node will not do. `unresolvable`: no Pod that left the Node would change it."""

    reasons: tuple[str, ...]
    unresolvable: bool = False


def no_labels(namespace: str) -> Mapping[str, str]:
    return {}


class Cycle:
    """One attempt to place one Pod: the Pod and the Nodes there are."""

    __slots__ = ("info", "memo", "namespace_labels", "nodes", "pod")

    def __init__(self, info: PodInfo, nodes: Sequence[NodeInfo], namespace_labels: NamespaceLabels = no_labels) -> None:
        self.info = info
        self.pod: Pod = info.pod
        self.nodes = nodes
        self.namespace_labels = namespace_labels
        self.memo: dict[str, object] = {}
        """What a filter computes once for all Nodes, under its name."""


class Filter(Struct, frozen=True):
    name: str
    function: Callable[[Cycle, NodeInfo, Node], Rejection | None]
    helped_by: frozenset[ClusterEvent]
    """After which changes a Pod that it rejected is worth another attempt."""


class Score(Struct, frozen=True):
    """Points for Nodes that passed: `function` returns a raw number per Node, `normalize` brings all to 0..100."""

    name: str
    weight: int
    function: Callable[[Cycle, NodeInfo, Node], int]
    normalize: Callable[[list[int]], list[int]] = list


MAX_SCORE = 100


def highest_first(raw: list[int]) -> list[int]:
    """Scales so that the highest number gets 100."""
    top = max(raw)
    return [MAX_SCORE * value // top for value in raw] if top else raw


def lowest_first(raw: list[int]) -> list[int]:
    """Scales so that zero gets 100 and the highest number 0."""
    top = max(raw)
    return [MAX_SCORE - MAX_SCORE * value // top for value in raw] if top else [MAX_SCORE] * len(raw)
