"""Terms of affinity and anti-affinity between Pods, ready to be asked about a Pod."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from podling.api import labels
from podling.api.core.v1 import Pod, PodAffinityTerm, PodSpec
from podling.api.labels import Requirement, Selector

NamespaceLabels = Callable[[str], Mapping[str, str]]
"""From the name of a namespace to its labels."""


class AffinityTerm:
    """One term of `owner`'s affinity. `weight` is 0 for required terms."""

    __slots__ = ("_namespace_selector", "_namespaces", "_selector", "topology_key", "weight")

    def __init__(self, term: PodAffinityTerm, owner: Pod, weight: int = 0) -> None:
        self.topology_key = term.topology_key
        self.weight = weight
        self._namespaces = frozenset(term.namespaces)
        if not term.namespaces and term.namespace_selector is None:
            self._namespaces = frozenset({owner.metadata.namespace})
        self._namespace_selector = labels.from_struct(term.namespace_selector)
        selector = with_label_keys(labels.from_struct(term.label_selector), term.match_label_keys, owner)
        self._selector = with_label_keys(selector, term.mismatch_label_keys, owner, labels.NOT_IN)

    def matches(self, pod: Pod, namespace_labels: NamespaceLabels) -> bool:
        """Whether the term speaks of this Pod."""
        namespace = pod.metadata.namespace
        if namespace not in self._namespaces and (
            self._namespace_selector.nothing or not self._namespace_selector.matches(namespace_labels(namespace))
        ):
            return False
        return self._selector.matches(pod.metadata.labels)


class AffinityTerms:
    """All terms of one Pod."""

    __slots__ = ("preferred", "preferred_anti", "required", "required_anti")

    def __init__(self, pod: Pod) -> None:
        self.required: Sequence[AffinityTerm] = ()
        self.required_anti: Sequence[AffinityTerm] = ()
        self.preferred: Sequence[AffinityTerm] = ()
        self.preferred_anti: Sequence[AffinityTerm] = ()
        affinity = pod.spec.affinity
        if affinity is None:
            return
        if (near := affinity.pod_affinity) is not None:
            self.required = [AffinityTerm(t, pod) for t in near.required_during_scheduling_ignored_during_execution]
            self.preferred = [
                AffinityTerm(t.pod_affinity_term, pod, t.weight)
                for t in near.preferred_during_scheduling_ignored_during_execution
            ]
        if (far := affinity.pod_anti_affinity) is not None:
            self.required_anti = [AffinityTerm(t, pod) for t in far.required_during_scheduling_ignored_during_execution]
            self.preferred_anti = [
                AffinityTerm(t.pod_affinity_term, pod, t.weight)
                for t in far.preferred_during_scheduling_ignored_during_execution
            ]


def has_pod_affinity(spec: PodSpec) -> bool:
    affinity = spec.affinity
    return affinity is not None and (affinity.pod_affinity is not None or affinity.pod_anti_affinity is not None)


def with_label_keys(selector: Selector, keys: Iterable[str], owner: Pod, operator: str = labels.IN) -> Selector:
    """The selector narrowed to Pods that share (`in`) or do not share (`notin`) the owner's values of these labels."""
    own = owner.metadata.labels
    more = tuple(Requirement(key, operator, (own[key],)) for key in keys if key in own)
    return Selector(selector.requirements + more, selector.nothing) if more else selector
