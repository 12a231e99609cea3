"""Pods when they are created, and the PodSpec wherever it occurs.

Source: ValidatePodCreate and ValidatePodSpec of Kubernetes 1.36. Updates are in pod_update, status in pod_status.
"""

from __future__ import annotations

from podling.api import codec, field
from podling.api.core.v1 import (
    Binding,
    Pod,
    PodSpec,
    PodTemplateSpec,
    ResourceRequirements,
    Toleration,
)
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import ObjectMeta
from podling.api.validation import (
    container,
    dns,
    env,
    meta,
    ports,
    resource,
    scheduling,
    security,
    unsupported,
    volume,
    windows,
)
from podling.api.validation.visit import containers_with_path

MIRROR_ANNOTATION = "kubernetes.io/config.mirror"
TOLERATIONS_ANNOTATION = "scheduler.alpha.kubernetes.io/tolerations"
DELETION_COST_ANNOTATION = "controller.kubernetes.io/pod-deletion-cost"
MAX_INT32 = 2**31 - 1

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_PREEMPTION_POLICIES = ("PreemptLowerPriority", "Never")
_METADATA = Path("metadata")
_ANNOTATIONS = _METADATA.child("annotations")
SPEC = Path("spec")


def validate_create(pod: Pod) -> list[FieldError]:
    """A Pod about to be created, after defaulting and admission."""
    errors: list[FieldError] = []
    metadata_and_spec(pod, errors)
    if pod.spec.ephemeral_containers:
        errors.append(field.forbidden(SPEC.child("ephemeralContainers"), "cannot be set on create"))
    if pod.spec.node_name and pod.spec.scheduling_gates:
        message = "cannot be set until all schedulingGates have been cleared"
        errors.append(field.forbidden(SPEC.child("nodeName"), message))
    security.annotations_match(pod.metadata.annotations, pod.spec, SPEC, errors)
    # A Pod that no Kubernetes takes gets Kubernetes' reasons only.
    return errors or unsupported.errors(pod)


def validate_template(template: PodTemplateSpec, path: Path) -> list[FieldError]:
    """The Pod template of a controller's spec. Features that are not implemented are told at its Pods' creation."""
    errors: list[FieldError] = []
    annotations_at = path.child("annotations")
    meta.labels(template.metadata.labels, path.child("labels"), errors)
    meta.annotation_map(template.metadata.annotations, annotations_at, errors)
    _annotations(template.metadata.annotations, template.spec, annotations_at, errors)
    _spec(template.spec, None, path.child("spec"), errors)
    security.annotations_match(template.metadata.annotations, template.spec, path.child("spec"), errors)
    if template.spec.ephemeral_containers:
        message = "ephemeral containers not allowed in pod template"
        errors.append(field.forbidden(path.child("spec").child("ephemeralContainers"), message))
    return errors


def validate_binding(binding: Binding) -> list[FieldError]:
    """What POST pods/<name>/binding carries."""
    errors: list[FieldError] = []
    at = Path("target")
    if binding.target.kind not in ("", "Node"):
        errors.append(field.not_supported(at.child("kind"), binding.target.kind, ("Node", "<empty>")))
    if not binding.target.name:
        errors.append(field.required(at.child("name"), ""))
    return errors


def metadata_and_spec(pod: Pod, errors: list[FieldError]) -> None:
    """What creation and every update of the spec check alike."""
    meta.object_meta(pod.metadata, errors)
    _annotations(pod.metadata.annotations, pod.spec, _ANNOTATIONS, errors)
    _spec(pod.spec, pod.metadata, SPEC, errors)
    if not pod.spec.service_account_name:
        volume.token_needs_account(pod.spec.volumes, SPEC.child("volumes"), errors)
    at = SPEC.child("containers")
    for i, each in enumerate(pod.spec.containers):
        container.image_whitespace(each, at.index(i), errors)
    at = SPEC.child("initContainers")
    for i, each in enumerate(pod.spec.init_containers):
        container.image_whitespace(each, at.index(i), errors)


def _annotations(values: dict[str, str], spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    if not values:
        return
    if MIRROR_ANNOTATION in values and not spec.node_name:
        message = "must set spec.nodeName if mirror pod annotation is set"
        errors.append(field.invalid(path.key(MIRROR_ANNOTATION), values[MIRROR_ANNOTATION], message))
    if encoded := values.get(TOLERATIONS_ANNOTATION):
        try:
            tolerations = codec.decode(list[Toleration], encoded)
        except codec.DecodeError as error:
            errors.append(field.invalid(path, TOLERATIONS_ANNOTATION, str(error)))
        else:
            scheduling.tolerations(tolerations, path.child(TOLERATIONS_ANNOTATION), errors)
    cost = values.get(DELETION_COST_ANNOTATION)
    if cost is not None and not _is_int32(cost):
        errors.append(field.invalid(path.key(DELETION_COST_ANNOTATION), cost, "must be a 32bit integer"))
    security.pod_annotations(values, spec, path, errors)


def _is_int32(text: str) -> bool:
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdecimal() and (digits == "0" or not digits.startswith("0"))
    return plain and -(2**31) <= int(text) <= MAX_INT32


def _spec(spec: PodSpec, metadata: ObjectMeta | None, path: Path, errors: list[FieldError]) -> None:
    """`metadata` is the Pod's, None for a template."""
    is_pod = metadata is not None
    if spec.termination_grace_period_seconds is None:
        errors.append(field.required(path.child("terminationGracePeriodSeconds"), ""))
    volumes = volume.volumes(spec.volumes, path.child("volumes"), errors, metadata=metadata, is_pod=is_pod)
    claims = {claim.name for claim in spec.resource_claims if claim.name}
    if spec.resource_claims:
        static = metadata is not None and MIRROR_ANNOTATION in metadata.annotations
        scheduling.resource_claims(spec.resource_claims, path.child("resourceClaims"), errors, static=static)
    container.containers(spec, volumes, claims, path.child("containers"), errors)
    if spec.init_containers:
        container.init_containers(spec, volumes, claims, path.child("initContainers"), errors)
    if spec.ephemeral_containers:
        container.ephemeral_containers(spec, volumes, claims, path.child("ephemeralContainers"), errors)
    resource.pod_resources(spec, path, errors, claims)
    ports.host_network_ports(spec, path, errors, is_pod=is_pod)
    if not spec.restart_policy:
        errors.append(field.required(path.child("restartPolicy"), ""))
    elif spec.restart_policy not in _RESTART_POLICIES:
        errors.append(field.not_supported(path.child("restartPolicy"), spec.restart_policy, _RESTART_POLICIES))
    dns.policy(spec, path.child("dnsPolicy"), errors)
    meta.labels(spec.node_selector, path.child("nodeSelector"), errors)
    security.pod_security_context(spec, path, errors)
    scheduling.affinity(spec.affinity, path.child("affinity"), errors)
    dns.config(spec, path.child("dnsConfig"), errors)
    for i, gate in enumerate(spec.readiness_gates):
        meta.qualified_name(gate.condition_type, path.child("readinessGates").index(i).child("conditionType"), errors)
    scheduling.scheduling_gates(spec.scheduling_gates, path.child("schedulingGates"), errors)
    scheduling.topology_spread(spec.topology_spread_constraints, path.child("topologySpreadConstraints"), errors)
    windows.host_process(spec, path, errors)
    _host_users(spec, path, errors)
    dns.hostname(spec, path, errors)
    if spec.service_account_name:
        meta.dns1123_subdomain(spec.service_account_name, path.child("serviceAccountName"), errors)
    if spec.node_name:
        meta.dns1123_subdomain(spec.node_name, path.child("nodeName"), errors)
    deadline = spec.active_deadline_seconds
    if deadline is not None and not 1 <= deadline <= MAX_INT32:
        message = f"must be between 1 and {MAX_INT32}, inclusive"
        errors.append(field.invalid(path.child("activeDeadlineSeconds"), deadline, message))
    scheduling.tolerations(spec.tolerations, path.child("tolerations"), errors)
    dns.host_aliases(spec, path.child("hostAliases"), errors)
    if spec.priority_class_name:
        meta.dns1123_subdomain(spec.priority_class_name, path.child("priorityClassName"), errors)
    if spec.runtime_class_name is not None:
        meta.dns1123_subdomain(spec.runtime_class_name, path.child("runtimeClassName"), errors)
    if spec.preemption_policy is not None:
        _preemption_policy(spec.preemption_policy, path.child("preemptionPolicy"), errors)
    if spec.overhead:
        resource.requirements(ResourceRequirements(limits=spec.overhead), path.child("overhead"), errors)
    windows.operating_system(spec, path, errors)
    if spec.scheduling_group is not None:
        _scheduling_group(spec.scheduling_group.pod_group_name or "", path.child("schedulingGroup"), errors)
    env.file_key_volumes(spec, path, errors)


def _preemption_policy(policy: str, path: Path, errors: list[FieldError]) -> None:
    if not policy:
        errors.append(field.required(path, ""))
    elif policy not in _PREEMPTION_POLICIES:
        errors.append(field.not_supported(path, policy, _PREEMPTION_POLICIES))


def _scheduling_group(name: str, path: Path, errors: list[FieldError]) -> None:
    at = path.child("podGroupName")
    if not name:
        errors.append(field.invalid(at, None, "must specify one of: `podGroupName`"))
    else:
        meta.dns1123_subdomain(name, at, errors)


def _host_users(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """A user namespace of its own excludes the host's other namespaces."""
    if spec.host_users is not False:
        return
    message = "when `hostUsers` is false"
    # The capitals of the last two are upstream's.
    for wire, shared in (
        ("hostNetwork", spec.host_network),
        ("HostPID", spec.host_pid),
        ("HostIPC", spec.host_ipc),
    ):
        if shared:
            errors.append(field.forbidden(path.child(wire), message))
    for each, at in containers_with_path(spec, path):
        if each.volume_devices:
            errors.append(field.forbidden(at.child("volumeDevices"), message))
