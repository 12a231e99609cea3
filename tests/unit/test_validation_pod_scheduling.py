"""What Pods ask of the scheduler: preemption, gates, tolerations, affinity, spread; and bindings."""

from __future__ import annotations

import pytest
from tests.support.verdict import (
    DUPLICATE,
    FORBIDDEN,
    INVALID,
    REQUIRED,
    UNSUPPORTED,
    Case,
    case_id,
    check_creation,
)

from podling.api import validation
from podling.api.core.v1 import Binding, ObjectReference

REQUIRED_TERMS = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED_TERMS = "preferredDuringSchedulingIgnoredDuringExecution"

CASES = [
    Case(
        "preemption policy",
        "spec: {preemptionPolicy: Maybe}",
        UNSUPPORTED,
        "spec.preemptionPolicy",
        'Unsupported value: "Maybe": supported values: "PreemptLowerPriority", "Never"',
    ),
    Case(
        "gate given twice",
        "spec: {schedulingGates: [{name: a/b}, {name: a/b}]}",
        DUPLICATE,
        "spec.schedulingGates[1]",
        'Duplicate value: "a/b"',
    ),
    Case(
        "gated Pod on a node",
        "spec: {schedulingGates: [{name: a/b}], nodeName: n}",
        FORBIDDEN,
        "spec.nodeName",
        "Forbidden: cannot be set until all schedulingGates have been cleared",
    ),
    Case(
        "toleration of everything but with a value",
        "spec: {tolerations: [{operator: Exists, value: a}]}",
        INVALID,
        "spec.tolerations[0].operator",
        "Invalid value: \"a\": value must be empty when `operator` is 'Exists'",
    ),
    Case(
        "toleration without key",
        "spec: {tolerations: [{value: a}]}",
        INVALID,
        "spec.tolerations[0].operator",
        'Invalid value: "": operator must be Exists when `key` is empty, which means "match all values and all keys"',
    ),
    Case(
        "toleration for a time without eviction",
        "spec: {tolerations: [{key: a, effect: NoSchedule, tolerationSeconds: 5}]}",
        INVALID,
        "spec.tolerations[0].effect",
        "Invalid value: \"NoSchedule\": effect must be 'NoExecute' when `tolerationSeconds` is set",
    ),
    Case(
        "effect of a toleration",
        "spec: {tolerations: [{key: a, effect: Never}]}",
        UNSUPPORTED,
        "spec.tolerations[0].effect",
        'Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"',
    ),
    Case(
        "operator of a toleration",
        "spec: {tolerations: [{key: a, operator: In}]}",
        UNSUPPORTED,
        "spec.tolerations[0].operator",
        'Unsupported value: "In": supported values: "Equal", "Exists"',
    ),
    Case(
        "node affinity without terms",
        f"spec: {{affinity: {{nodeAffinity: {{{REQUIRED_TERMS}: {{nodeSelectorTerms: []}}}}}}}}",
        REQUIRED,
        f"spec.affinity.nodeAffinity.{REQUIRED_TERMS}.nodeSelectorTerms",
        "Required value: must have at least one node selector term",
    ),
    Case(
        "node affinity operator",
        f"spec: {{affinity: {{nodeAffinity: {{{REQUIRED_TERMS}: "
        "{nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Is, values: [b]}]}]}}}}",
        INVALID,
        f"spec.affinity.nodeAffinity.{REQUIRED_TERMS}.nodeSelectorTerms[0].matchExpressions[0].operator",
        'Invalid value: "Is": not a valid selector operator',
    ),
    Case(
        "node affinity by another field",
        f"spec: {{affinity: {{nodeAffinity: {{{REQUIRED_TERMS}: "
        "{nodeSelectorTerms: [{matchFields: [{key: metadata.uid, operator: In, values: [b]}]}]}}}}",
        INVALID,
        f"spec.affinity.nodeAffinity.{REQUIRED_TERMS}.nodeSelectorTerms[0].matchFields[0].key",
        'Invalid value: "metadata.uid": not a valid field selector key',
    ),
    Case(
        "weight",
        f"spec: {{affinity: {{nodeAffinity: {{{PREFERRED_TERMS}: [{{weight: 0, preference: {{}}}}]}}}}}}",
        INVALID,
        f"spec.affinity.nodeAffinity.{PREFERRED_TERMS}[0].weight",
        "Invalid value: 0: must be in the range 1-100",
    ),
    Case(
        "label keys without selector",
        f"spec: {{affinity: {{podAntiAffinity: {{{REQUIRED_TERMS}: [{{topologyKey: a, matchLabelKeys: [b]}}]}}}}}}",
        FORBIDDEN,
        f"spec.affinity.podAntiAffinity.{REQUIRED_TERMS}[0].matchLabelKeys",
        "Forbidden: must not be specified when labelSelector is not set",
    ),
    Case(
        "skew",
        "spec: {topologySpreadConstraints: [{maxSkew: 0, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}",
        INVALID,
        "spec.topologySpreadConstraints[0].maxSkew",
        "Invalid value: 0: must be greater than zero",
    ),
    Case(
        "spread given twice",
        "spec: {topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}, "
        "{maxSkew: 2, topologyKey: a, whenUnsatisfiable: ScheduleAnyway}]}",
        DUPLICATE,
        "spec.topologySpreadConstraints[0].{topologyKey, whenUnsatisfiable}",
        'Duplicate value: "{a, ScheduleAnyway}"',
    ),
    Case(
        "domains of a wish",
        "spec: {topologySpreadConstraints: "
        "[{maxSkew: 1, topologyKey: a, whenUnsatisfiable: ScheduleAnyway, minDomains: 2}]}",
        INVALID,
        "spec.topologySpreadConstraints[0].minDomains",
        "Invalid value: 2: can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_a_mistake_in_a_pod_is_told_as_upstream_tells_it(case: Case) -> None:
    check_creation(case)


@pytest.mark.parametrize(
    ("target", "field", "text"),
    [
        (ObjectReference(kind="Node"), "target.name", "Required value"),
        (
            ObjectReference(kind="Pod", name="n"),
            "target.kind",
            'Unsupported value: "Pod": supported values: "Node", "<empty>"',
        ),
    ],
)
def test_a_binding_names_a_node(target: ObjectReference, field: str, text: str) -> None:
    assert [(e.field, e.body) for e in validation.validate_binding(Binding(target=target))] == [(field, text)]


def test_a_binding_to_a_node_is_good() -> None:
    assert validation.validate_binding(Binding(target=ObjectReference(name="n"))) == []
