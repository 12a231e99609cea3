"""Where a Pod may run: tolerations, taints, node selectors, affinity, topology spread, scheduling gates."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import field, names
from podling.api.core.v1 import (
    Affinity,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinityTerm,
    PodResourceClaim,
    PodSchedulingGate,
    Taint,
    Toleration,
    TopologySpreadConstraint,
    WeightedPodAffinityTerm,
)
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import LabelSelector
from podling.api.validation import meta

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
REQUIRED_DURING_SCHEDULING = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED_DURING_SCHEDULING = "preferredDuringSchedulingIgnoredDuringExecution"

_TOLERATION_OPERATORS = ("Equal", "Exists")
_NOT_AN_OPERATOR = "not a valid selector operator"
_SPREAD_ACTIONS = ("DoNotSchedule", "ScheduleAnyway")
_INCLUSION = ("Honor", "Ignore")
_POSITIVE = "must be greater than zero"


def taint_effect(effect: str, path: Path, errors: list[FieldError]) -> None:
    if effect not in TAINT_EFFECTS:
        errors.append(field.not_supported(path, effect, TAINT_EFFECTS))


def taints(items: Sequence[Taint], path: Path, errors: list[FieldError]) -> None:
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(items):
        at = path.index(i)
        meta.qualified_name(taint.key, at.child("key"), errors)
        if messages := names.label_value(taint.value):
            errors.append(field.invalid(at.child("value"), taint.value, ";".join(messages)))
        if not taint.effect:
            errors.append(field.required(at.child("effect"), ""))
        else:
            taint_effect(taint.effect, at.child("effect"), errors)
        if (taint.key, taint.effect) in seen:
            detail = "taints must be unique by key and effect pair"
            errors.append(FieldError(field.DUPLICATE, at, taint, detail))
        seen.add((taint.key, taint.effect))


def tolerations(items: Sequence[Toleration], path: Path, errors: list[FieldError]) -> None:
    for i, toleration in enumerate(items):
        at = path.index(i)
        if toleration.key:
            meta.qualified_name(toleration.key, at.child("key"), errors)
        elif toleration.operator != "Exists":
            message = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
            errors.append(field.invalid(at.child("operator"), toleration.operator, message))
        if toleration.toleration_seconds is not None and toleration.effect != "NoExecute":
            message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
            errors.append(field.invalid(at.child("effect"), toleration.effect, message))
        match toleration.operator:
            case "Equal" | "":
                if messages := names.label_value(toleration.value):
                    errors.append(field.invalid(at.child("operator"), toleration.value, ";".join(messages)))
            case "Exists":
                if toleration.value:
                    message = "value must be empty when `operator` is 'Exists'"
                    errors.append(field.invalid(at.child("operator"), toleration.value, message))
            case "Lt" | "Gt":
                # Feature gate TaintTolerationComparisonOperators, off by default in 1.36.
                allowed = ("Equal", "Exists", "Lt", "Gt")
                errors.append(field.not_supported(at.child("operator"), toleration.operator, allowed))
            case operator:
                errors.append(field.not_supported(at.child("operator"), operator, _TOLERATION_OPERATORS))
        if toleration.effect:
            taint_effect(toleration.effect, at.child("effect"), errors)


def _node_requirement(
    requirement: NodeSelectorRequirement, path: Path, errors: list[FieldError], *, any_value: bool
) -> None:
    count = len(requirement.values)
    match requirement.operator:
        case "In" | "NotIn":
            if not count:
                message = "must be specified when `operator` is 'In' or 'NotIn'"
                errors.append(field.required(path.child("values"), message))
        case "Exists" | "DoesNotExist":
            if count:
                message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                errors.append(field.forbidden(path.child("values"), message))
        case "Gt" | "Lt":
            if count != 1:
                message = "must be specified single value when `operator` is 'Lt' or 'Gt'"
                errors.append(field.required(path.child("values"), message))
        case operator:
            errors.append(field.invalid(path.child("operator"), operator, _NOT_AN_OPERATOR))
    meta.qualified_name(requirement.key, path.child("key"), errors)
    if not any_value:
        meta.label_values(requirement.values, path.child("values"), errors)


def _node_field_requirement(requirement: NodeSelectorRequirement, path: Path, errors: list[FieldError]) -> None:
    if requirement.operator not in ("In", "NotIn"):
        errors.append(field.invalid(path.child("operator"), requirement.operator, _NOT_AN_OPERATOR))
    elif len(requirement.values) != 1:
        message = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
        errors.append(field.required(path.child("values"), message))
    if requirement.key != "metadata.name":
        errors.append(field.invalid(path.child("key"), requirement.key, "not a valid field selector key"))
        return
    for i, value in enumerate(requirement.values):
        meta.dns1123_subdomain(value, path.child("values").index(i), errors)


def _node_term(term: NodeSelectorTerm, path: Path, errors: list[FieldError], *, any_value: bool) -> None:
    for i, requirement in enumerate(term.match_expressions):
        at = path.child("matchExpressions").index(i)
        _node_requirement(requirement, at, errors, any_value=any_value)
    for i, requirement in enumerate(term.match_fields):
        _node_field_requirement(requirement, path.child("matchFields").index(i), errors)


def node_selector(selector: NodeSelector, path: Path, errors: list[FieldError], *, any_value: bool = False) -> None:
    at = path.child("nodeSelectorTerms")
    if not selector.node_selector_terms:
        errors.append(field.required(at, "must have at least one node selector term"))
    for i, term in enumerate(selector.node_selector_terms):
        _node_term(term, at.index(i), errors, any_value=any_value)


def _node_affinity(node: NodeAffinity, path: Path, errors: list[FieldError], *, any_value: bool) -> None:
    required = node.required_during_scheduling_ignored_during_execution
    if required is not None:
        node_selector(required, path.child(REQUIRED_DURING_SCHEDULING), errors, any_value=any_value)
    at = path.child(PREFERRED_DURING_SCHEDULING)
    for i, preferred in enumerate(node.preferred_during_scheduling_ignored_during_execution):
        _weight(preferred.weight, at.index(i), errors)
        # Values of preferred terms are never checked: such a term merely does not match.
        _node_term(preferred.preference, at.index(i).child("preference"), errors, any_value=True)


def _weight(weight: int, path: Path, errors: list[FieldError]) -> None:
    if not 1 <= weight <= 100:
        errors.append(field.invalid(path.child("weight"), weight, "must be in the range 1-100"))


def _label_keys(keys: Sequence[str], selector: LabelSelector | None, path: Path, errors: list[FieldError]) -> None:
    if not keys:
        return
    if selector is None:
        errors.append(field.forbidden(path, "must not be specified when labelSelector is not set"))
        return
    for i, key in enumerate(keys):
        meta.qualified_name(key, path.index(i), errors)


def _match_label_keys(
    matching: Sequence[str],
    mismatching: Sequence[str],
    selector: LabelSelector | None,
    path: Path,
    errors: list[FieldError],
) -> None:
    """`path` is that of the term or constraint."""
    _label_keys(matching, selector, path.child("matchLabelKeys"), errors)
    _label_keys(mismatching, selector, path.child("mismatchLabelKeys"), errors)
    if selector is not None:
        # The keys were merged into the selector at creation, so twice there means that the user had them there too.
        index = {key: i for i, key in enumerate(matching)}
        seen = set(selector.match_labels)
        for expression in selector.match_expressions:
            if expression.key in index and expression.key in seen:
                message = "exists in both matchLabelKeys and labelSelector"
                errors.append(field.invalid(path.index(index[expression.key]), expression.key, message))
            seen.add(expression.key)
    for i, key in enumerate(matching):
        if key in mismatching:
            message = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(field.invalid(path.child("matchLabelKeys").index(i), key, message))


def _pod_term(term: PodAffinityTerm, path: Path, errors: list[FieldError]) -> None:
    meta.label_selector(term.label_selector, path.child("labelSelector"), errors)
    meta.label_selector(term.namespace_selector, path.child("namespaceSelector"), errors)
    for namespace in term.namespaces:
        meta.dns1123_label(namespace, path.child("namespace"), errors)
    _match_label_keys(term.match_label_keys, term.mismatch_label_keys, term.label_selector, path, errors)
    if not term.topology_key:
        errors.append(field.required(path.child("topologyKey"), "can not be empty"))
    meta.qualified_name(term.topology_key, path.child("topologyKey"), errors)


def _pod_terms(
    required: Sequence[PodAffinityTerm],
    preferred: Sequence[WeightedPodAffinityTerm],
    path: Path,
    errors: list[FieldError],
) -> None:
    for i, term in enumerate(required):
        _pod_term(term, path.child(REQUIRED_DURING_SCHEDULING).index(i), errors)
    for i, weighted in enumerate(preferred):
        at = path.child(PREFERRED_DURING_SCHEDULING).index(i)
        _weight(weighted.weight, at, errors)
        _pod_term(weighted.pod_affinity_term, at.child("podAffinityTerm"), errors)


def affinity(value: Affinity | None, path: Path, errors: list[FieldError], *, any_value: bool = False) -> None:
    """`any_value` as in meta.label_selector, for required node affinity."""
    if value is None:
        return
    if value.node_affinity is not None:
        _node_affinity(value.node_affinity, path.child("nodeAffinity"), errors, any_value=any_value)
    for wire, pods in (("podAffinity", value.pod_affinity), ("podAntiAffinity", value.pod_anti_affinity)):
        if pods is not None:
            _pod_terms(
                pods.required_during_scheduling_ignored_during_execution,
                pods.preferred_during_scheduling_ignored_during_execution,
                path.child(wire),
                errors,
            )


def topology_spread(items: Sequence[TopologySpreadConstraint], path: Path, errors: list[FieldError]) -> None:
    for i, constraint in enumerate(items):
        at = path.index(i)
        action = constraint.when_unsatisfiable
        if constraint.max_skew <= 0:
            errors.append(field.invalid(at.child("maxSkew"), constraint.max_skew, _POSITIVE))
        if not constraint.topology_key:
            errors.append(field.required(at.child("topologyKey"), "can not be empty"))
        if action not in _SPREAD_ACTIONS:
            errors.append(field.not_supported(at.child("whenUnsatisfiable"), action, _SPREAD_ACTIONS))
        pair = (constraint.topology_key, action)
        if any((other.topology_key, other.when_unsatisfiable) == pair for other in items[i + 1 :]):
            to = at.child("{topologyKey, whenUnsatisfiable}")
            errors.append(field.duplicate(to, f"{{{pair[0]}, {pair[1]}}}"))
        if (domains := constraint.min_domains) is not None:
            to = at.child("minDomains")
            if domains <= 0:
                errors.append(field.invalid(to, domains, _POSITIVE))
            if action != "DoNotSchedule":
                message = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
                errors.append(field.invalid(to, domains, message))
        for wire, policy in (
            ("nodeAffinityPolicy", constraint.node_affinity_policy),
            ("nodeTaintsPolicy", constraint.node_taints_policy),
        ):
            if policy is not None and policy not in _INCLUSION:
                errors.append(field.not_supported(at.child(wire), policy, _INCLUSION))
        _match_label_keys(constraint.match_label_keys, (), constraint.label_selector, at, errors)
        meta.label_selector(constraint.label_selector, at.child("labelSelector"), errors)


def scheduling_gates(gates: Sequence[PodSchedulingGate], path: Path, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, gate in enumerate(gates):
        meta.qualified_name(gate.name, path.index(i), errors)
        if gate.name in seen:
            errors.append(field.duplicate(path.index(i), gate.name))
        seen.add(gate.name)


def resource_claims(claims: Sequence[PodResourceClaim], path: Path, errors: list[FieldError], *, static: bool) -> None:
    """`static` says that the Pod mirrors a static one."""
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        if static:
            errors.append(field.forbidden("", "static pods do not support resource claims"))
            continue
        at = path.index(i)
        if not claim.name:
            errors.append(field.required(at.child("name"), ""))
        elif claim.name in seen:
            errors.append(field.duplicate(at.child("name"), claim.name))
        else:
            meta.dns1123_label(claim.name, at.child("name"), errors)
            seen.add(claim.name)
        named = claim.resource_claim_name
        template = claim.resource_claim_template_name
        if named is not None and template is not None:
            message = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
            errors.append(field.invalid(at, claim, message))
        if named is None and template is None:
            message = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
            errors.append(field.invalid(at, claim, message))
        if named is not None:
            meta.dns1123_subdomain(named, at.child("resourceClaimName"), errors)
        if template is not None:
            meta.dns1123_subdomain(template, at.child("resourceClaimTemplateName"), errors)
