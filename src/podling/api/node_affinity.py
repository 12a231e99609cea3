"""Which Nodes a Pod may or would rather run on: nodeSelector and node affinity.

Source: Kubernetes documentation, "Assigning Pods to Nodes".
"""

from __future__ import annotations

from collections.abc import Mapping

from podling.api.core.v1 import Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PodSpec


def allows(spec: PodSpec, node: Node) -> bool:
    """Whether the Pod's nodeSelector and its required node affinity allow this Node."""
    labels = node.metadata.labels
    if any(labels.get(key) != value for key, value in spec.node_selector.items()):
        return False
    affinity = spec.affinity.node_affinity if spec.affinity else None
    required = affinity.required_during_scheduling_ignored_during_execution if affinity else None
    return required is None or selects(required, node)


def preference(spec: PodSpec, node: Node) -> int:
    """The sum of the weights of the preferred terms that match."""
    affinity = spec.affinity.node_affinity if spec.affinity else None
    if affinity is None:
        return 0
    return sum(
        term.weight
        for term in affinity.preferred_during_scheduling_ignored_during_execution
        if term_matches(term.preference, node)
    )


def selects(selector: NodeSelector, node: Node) -> bool:
    """Whether one of the terms matches (none does in an empty selector)."""
    return any(term_matches(term, node) for term in selector.node_selector_terms)


def term_matches(term: NodeSelectorTerm, node: Node) -> bool:
    """Whether all requirements hold. A term without any matches no Node."""
    if not term.match_expressions and not term.match_fields:
        return False
    fields = {"metadata.name": node.metadata.name}
    return all(_holds(r, node.metadata.labels) for r in term.match_expressions) and all(
        _holds(r, fields) for r in term.match_fields
    )


def _holds(requirement: NodeSelectorRequirement, values: Mapping[str, str]) -> bool:
    value = values.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt" | "Lt" as operator:
            try:
                there, limit = int(value or ""), int(requirement.values[0])
            except (ValueError, IndexError):
                return False
            return there > limit if operator == "Gt" else there < limit
        case _:
            return False
