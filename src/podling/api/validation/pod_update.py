"""Updates of a Pod by users: which fields may change, and how.

Source: ValidatePodUpdate, ValidatePodEphemeralContainersUpdate and ValidatePodResize of Kubernetes 1.36.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from podling.api import codec, field, resources
from podling.api.core.v1 import (
    Affinity,
    Container,
    NodeAffinity,
    NodeSelectorTerm,
    Pod,
    PodSchedulingGate,
    PodSpec,
    ResourceRequirements,
    Toleration,
)
from podling.api.field import FieldError, Path
from podling.api.go import quote
from podling.api.quantity import Quantity
from podling.api.validation import container, meta, scheduling, security, unsupported
from podling.api.validation.pod import MAX_INT32, MIRROR_ANNOTATION, SPEC, metadata_and_spec

_UPDATABLE = ",".join(
    (
        "`spec.containers[*].image`",
        "`spec.initContainers[*].image`",
        "`spec.activeDeadlineSeconds`",
        "`spec.tolerations` (only additions to existing tolerations)",
        "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)",
    )
)
_RESIZABLE = ("cpu", "memory")
_ONLY_COMPUTE = "only cpu and memory resources are mutable"
_ANNOTATIONS = Path("metadata").child("annotations")


def validate_update(new: Pod, old: Pod) -> list[FieldError]:
    """An update of metadata and spec."""
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    metadata_and_spec(new, errors)
    annotation_updates(new, old, errors)
    if _images(new.spec.containers, old.spec.containers, SPEC.child("containers"), errors):
        return errors
    if _images(new.spec.init_containers, old.spec.init_containers, SPEC.child("initContainers"), errors):
        return errors
    if _active_deadline(new.spec, old.spec, errors):
        return errors
    _tolerations(new.spec.tolerations, old.spec.tolerations, SPEC.child("tolerations"), errors)
    _gates(new.spec.scheduling_gates, old.spec.scheduling_gates, SPEC.child("schedulingGates"), errors)
    if new.spec == old.spec:
        return errors
    errors.extend(error for error in unsupported.errors(new) if error not in unsupported.errors(old))
    rest = _without_updatable(new.spec, old.spec, errors)
    if rest != old.spec:
        message = f"pod updates may not change fields other than {_UPDATABLE}\n{_difference(old.spec, rest)}"
        errors.append(field.forbidden(SPEC, message))
    return errors


def annotation_updates(new: Pod, old: Pod, errors: list[FieldError]) -> None:
    """AppArmor and mirror annotations stay as they were."""
    before, after = old.metadata.annotations, new.metadata.annotations
    if before == after:
        return
    for key in (*before, *(key for key in after if key not in before)):
        if before.get(key) == after.get(key):
            continue
        change = "add" if key not in before else "remove or update"
        if key.startswith(security.APPARMOR_PREFIX):
            errors.append(field.forbidden(_ANNOTATIONS.key(key), f"may not {change} AppArmor annotations"))
        if key == MIRROR_ANNOTATION:
            errors.append(field.forbidden(_ANNOTATIONS.key(key), f"may not {change} mirror pod annotation"))


def _images(new: Sequence[Container], old: Sequence[Container], path: Path, errors: list[FieldError]) -> bool:
    """Whether the comparison cannot go on."""
    if len(new) != len(old):
        errors.append(field.forbidden(path, "pod updates may not add or remove containers"))
        return True
    for i, each in enumerate(new):
        if not each.image:
            errors.append(field.required(path.index(i).child("image"), ""))
        container.image_whitespace(each, path.index(i), errors)
    return False


def _active_deadline(new: PodSpec, old: PodSpec, errors: list[FieldError]) -> bool:
    """It may appear and shrink. Whether the comparison cannot go on."""
    at = SPEC.child("activeDeadlineSeconds")
    after, before = new.active_deadline_seconds, old.active_deadline_seconds
    if after is None:
        if before is not None:
            errors.append(field.invalid(at, None, "must not update from a positive integer to nil value"))
        return False
    if not 0 <= after <= MAX_INT32:
        errors.append(field.invalid(at, after, f"must be between 0 and {MAX_INT32}, inclusive"))
        return True
    if before is not None and before < after:
        errors.append(field.invalid(at, after, "must be less than or equal to previous value"))
        return True
    return False


def _tolerations(new: Sequence[Toleration], old: Sequence[Toleration], path: Path, errors: list[FieldError]) -> None:
    kept = [replace(toleration, toleration_seconds=None) for toleration in new]
    if any(replace(toleration, toleration_seconds=None) not in kept for toleration in old):
        message = "existing toleration can not be modified except its tolerationSeconds"
        errors.append(field.forbidden(path, message))
        return
    scheduling.tolerations(new, path, errors)


def _gates(
    new: Sequence[PodSchedulingGate], old: Sequence[PodSchedulingGate], path: Path, errors: list[FieldError]
) -> None:
    known = {gate.name for gate in old}
    for i, gate in enumerate(new):
        if gate.name not in known:
            message = f"only deletion is allowed, but found new scheduling gate '{gate.name}'"
            errors.append(field.forbidden(path.index(i).child("name"), message))


def _without_updatable(new: PodSpec, old: PodSpec, errors: list[FieldError]) -> PodSpec:
    """The new spec with everything that may change set back to what it was."""
    rest = replace(
        new,
        containers=[replace(a, image=b.image) for a, b in zip(new.containers, old.containers, strict=True)],
        init_containers=[
            replace(a, image=b.image) for a, b in zip(new.init_containers, old.init_containers, strict=True)
        ],
        active_deadline_seconds=old.active_deadline_seconds,
        scheduling_gates=old.scheduling_gates,
        tolerations=old.tolerations,
    )
    grace = old.termination_grace_period_seconds
    if grace is not None and grace < 0 and new.termination_grace_period_seconds == 1:
        rest.termination_grace_period_seconds = grace
    if old.scheduling_gates:
        _while_gated(rest, old, errors)
    return rest


def _while_gated(rest: PodSpec, old: PodSpec, errors: list[FieldError]) -> None:
    """Before a gated Pod is scheduled, the nodes that it may run on can still be narrowed."""
    if any(rest.node_selector.get(key) != value for key, value in old.node_selector.items()):
        message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(field.invalid(SPEC.child("nodeSelector"), rest.node_selector, message))
    rest.node_selector = old.node_selector
    before = old.affinity.node_affinity if old.affinity is not None else None
    after = rest.affinity.node_affinity if rest.affinity is not None else None
    if before == after:
        return
    _narrowed(after, before, SPEC.child("affinity").child("nodeAffinity"), errors)
    if rest.affinity is None:
        rest.affinity = Affinity(node_affinity=before)
    elif old.affinity is None and rest.affinity.pod_affinity is None and rest.affinity.pod_anti_affinity is None:
        rest.affinity = None
    else:
        rest.affinity = replace(rest.affinity, node_affinity=before)


def _narrowed(new: NodeAffinity | None, old: NodeAffinity | None, path: Path, errors: list[FieldError]) -> None:
    required = old.required_during_scheduling_ignored_during_execution if old is not None else None
    before = required.node_selector_terms if required is not None else []
    if not before:
        return
    required = new.required_during_scheduling_ignored_during_execution if new is not None else None
    after = required.node_selector_terms if required is not None else []
    at = path.child(scheduling.REQUIRED_DURING_SCHEDULING).child("nodeSelectorTerms")
    if len(after) != len(before):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(field.invalid(at, after, message))
        return
    for i, (a, b) in enumerate(zip(after, before, strict=True)):
        if not _only_adds(a, b):
            message = "only additions are allowed (no mutations or deletions)"
            errors.append(field.invalid(at.index(i), a, message))


def _only_adds(new: NodeSelectorTerm, old: NodeSelectorTerm) -> bool:
    if not old.match_expressions and not old.match_fields:
        # An empty term matches nothing; with requirements it would match more.
        return not new.match_expressions and not new.match_fields
    expressions, fields = len(old.match_expressions), len(old.match_fields)
    return (
        new.match_expressions[:expressions] == old.match_expressions and new.match_fields[:fields] == old.match_fields
    )


def _difference(old: object, new: object) -> str:
    """A unified diff of both as JSON. Upstream prints its internal types, here it is what the user wrote."""

    def lines(value: object) -> list[str]:
        text = json.dumps(codec.to_builtins(value), indent=2, sort_keys=True, default=str)
        return [f"{line}\n" for line in text.splitlines()]

    return "".join(difflib.unified_diff(lines(old), lines(new), "expected", "got", n=10))


def validate_ephemeral_containers_update(new: Pod, old: Pod) -> list[FieldError]:
    """An update through the subresource ephemeralcontainers; all else was taken from `old`."""
    if MIRROR_ANNOTATION in old.metadata.annotations:
        return [field.forbidden("", "static pods do not support ephemeral containers")]
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    metadata_and_spec(new, errors)
    annotation_updates(new, old, errors)
    errors.extend(error for error in unsupported.errors(new) if error not in unsupported.errors(old))
    by_name = {each.name: each for each in new.spec.ephemeral_containers}
    at = SPEC.child("ephemeralContainers")
    for each in old.spec.ephemeral_containers:
        if each.name not in by_name:
            message = f"existing ephemeral containers {quote(each.name)} may not be removed\n"
            errors.append(field.forbidden(at, message))
        elif by_name[each.name] != each:
            difference = _difference(each, by_name[each.name])
            message = f"existing ephemeral containers {quote(each.name)} may not be changed\n{difference}"
            errors.append(field.forbidden(at, message))
    return errors


def validate_resize(new: Pod, old: Pod) -> list[FieldError]:
    """An update through the subresource resize: requests and limits of CPU and memory."""
    if MIRROR_ANNOTATION in old.metadata.annotations:
        return [field.forbidden("", "static pods cannot be resized")]
    if old.spec.os is not None and old.spec.os.name == "windows":
        return [field.forbidden("", "windows pods cannot be resized")]
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    metadata_and_spec(new, errors)
    if resources.qos_class(old) != resources.compute_qos_class(new.spec):
        message = "Pod QOS Class may not change as a result of resizing"
        errors.append(field.invalid(SPEC, new.status.qos_class, message))
    if not _node_resizes(old):
        errors.append(field.forbidden(SPEC, "Pod running on node without support for resize"))
    if old.spec.resources is not None or new.spec.resources is not None:
        # Feature gate InPlacePodLevelResourcesVerticalScaling.
        _pod_resources_resize(new.spec.resources, old.spec.resources, errors)
    if not _same_order(new.spec, old.spec, errors):
        return errors
    rest = replace(
        new.spec,
        resources=_masked(new.spec.resources, old.spec.resources),
        containers=_resized(new.spec.containers, old.spec.containers, SPEC.child("containers"), errors),
        init_containers=_resized(
            new.spec.init_containers, old.spec.init_containers, SPEC.child("initContainers"), errors
        ),
    )
    if not errors and rest != old.spec:
        errors.append(field.forbidden(SPEC, _ONLY_COMPUTE))
    return errors


def _node_resizes(pod: Pod) -> bool:
    """A node that resizes reports the resources of what runs; before anything runs nobody can tell."""
    for status in pod.status.container_statuses:
        if status.state.running is not None:
            return status.resources is not None
    return True


def _removed(new: Mapping[str, Quantity], old: Mapping[str, Quantity]) -> bool:
    return any(name not in new for name in old)


def _pod_resources_resize(
    new: ResourceRequirements | None, old: ResourceRequirements | None, errors: list[FieldError]
) -> None:
    at = SPEC.child("resources")
    if old is not None and new is None:
        errors.append(field.forbidden(at, "pod-level resources cannot be removed"))
        return
    if old is not None and new is not None:
        if _removed(new.requests, old.requests):
            errors.append(field.forbidden(at.child("requests"), "pod-level resource requests cannot be removed"))
        if _removed(new.limits, old.limits):
            errors.append(field.forbidden(at.child("limits"), "pod-level resource limits cannot be removed"))
    if _masked(new, old) != old:
        errors.append(field.forbidden(SPEC, "only cpu and memory resources are mutable at pod-level"))


def _masked_list(new: Mapping[str, Quantity], old: Mapping[str, Quantity]) -> dict[str, Quantity]:
    masked = {name: quantity for name, quantity in new.items() if name not in _RESIZABLE}
    masked.update((name, old[name]) for name in _RESIZABLE if name in old)
    return masked


def _masked(new: ResourceRequirements | None, old: ResourceRequirements | None) -> ResourceRequirements | None:
    """`new` with CPU and memory as they were in `old`."""
    if new is None:
        return None
    was = old or ResourceRequirements()
    masked = replace(
        new, requests=_masked_list(new.requests, was.requests), limits=_masked_list(new.limits, was.limits)
    )
    return None if old is None and masked == ResourceRequirements() else masked


def _same_order(new: PodSpec, old: PodSpec, errors: list[FieldError]) -> bool:
    before = len(errors)
    for wire, after_list, before_list in (
        ("containers", new.containers, old.containers),
        ("initContainers", new.init_containers, old.init_containers),
    ):
        at = SPEC.child(wire)
        if len(after_list) != len(before_list):
            errors.append(field.forbidden(at, f"{wire} may not be added or removed on resize"))
            continue
        for i, (a, b) in enumerate(zip(after_list, before_list, strict=True)):
            if a.name != b.name:
                message = f"{wire} may not be renamed or reordered on resize"
                errors.append(field.forbidden(at.index(i).child("name"), message))
    return len(errors) == before


def _resized(
    new: Sequence[Container], old: Sequence[Container], path: Path, errors: list[FieldError]
) -> list[Container]:
    """The containers with CPU and memory as they were; errors for everything else that changed."""
    initial = path.endswith("initContainers")
    rest = []
    for i, (a, b) in enumerate(zip(new, old, strict=True)):
        at = path.index(i)
        to = at.child("resources")
        if _removed(a.resources.requests, b.resources.requests):
            errors.append(field.forbidden(to.child("requests"), "resource requests cannot be removed"))
        if _removed(a.resources.limits, b.resources.limits):
            errors.append(field.forbidden(to.child("limits"), "resource limits cannot be removed"))
        masked = replace(a, resources=_masked(a.resources, b.resources) or ResourceRequirements())
        if masked != b:
            message = "only cpu and memory resources for init or sidecar containers are mutable"
            where, text = (at, message) if initial else (SPEC, _ONLY_COMPUTE)
            errors.append(field.forbidden(where, text))
        if initial and a != b and not resources.is_sidecar(a):
            # Feature gate InPlacePodVerticalScalingInitContainers.
            for policy in a.resize_policy:
                if policy.restart_policy == "RestartContainer":
                    message = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
                    errors.append(field.forbidden(at, message))
        rest.append(masked)
    return rest
