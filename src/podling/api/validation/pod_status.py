"""Updates of a Pod's status, by the kubelet or by whoever sets a condition.

Source: ValidatePodStatusUpdate of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import field, names
from podling.api.core.v1 import (
    Container,
    ContainerRestartRule,
    ContainerStatus,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
)
from podling.api.field import FieldError, Path
from podling.api.validation import ip, meta
from podling.api.validation.pod_update import annotation_updates

STATUS = Path("status")

_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_GENERATION = "must be a non-negative integer"
_TWO_FAMILIES = "may specify no more than one IP for each IP family"
_MAX_HEALTH_MESSAGE = 1024
_MAX_IMAGE_REF = 256


def validate_status_update(new: Pod, old: Pod) -> list[FieldError]:
    """An update through the subresource status; the spec was taken from `old` but for what is checked here."""
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    annotation_updates(new, old, errors)
    status, before = new.status, old.status
    _conditions(status.conditions, STATUS.child("conditions"), errors)
    if new.spec.node_name != old.spec.node_name:
        errors.append(field.forbidden(STATUS.child("nodeName"), "may not be changed directly"))
    nominated = status.nominated_node_name
    if nominated and nominated != before.nominated_node_name:
        at = STATUS.child("nominatedNodeName")
        meta.dns1123_subdomain(nominated, at, errors)
        if old.spec.node_name:
            errors.append(field.forbidden(at, "may not be set on pods that are already bound to a node"))
    if status.observed_generation < 0:
        errors.append(field.invalid(STATUS.child("observedGeneration"), status.observed_generation, _GENERATION))
    meta.immutable(status.qos_class, before.qos_class, STATUS.child("qosClass"), errors)
    _terminated_stay(status, before, old.spec, errors)
    _claims(new, errors)
    _addresses(status, before, errors)
    _container_statuses(new, errors)
    return errors


def _conditions(conditions: Sequence[PodCondition], path: Path, errors: list[FieldError]) -> None:
    for i, condition in enumerate(conditions):
        at = path.index(i)
        if condition.observed_generation < 0:
            errors.append(field.invalid(at.child("observedGeneration"), condition.observed_generation, _GENERATION))
        if condition.type not in _SYSTEM_CONDITIONS:
            meta.qualified_name(condition.type, at.child("Type"), errors)


def _matches(rule: ContainerRestartRule, exit_code: int) -> bool:
    codes = rule.exit_codes
    if codes is None or codes.operator not in ("In", "NotIn"):
        return False
    return (exit_code in codes.values) == (codes.operator == "In")


def may_restart(container: Container, spec: PodSpec, exit_code: int) -> bool:
    """Whether a container that ended with `exit_code` is started again: its rules, its policy, the Pod's policy."""
    if any(_matches(rule, exit_code) for rule in container.restart_policy_rules):
        return True
    policy = container.restart_policy or spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and exit_code != 0)


def _terminated_stay(status: PodStatus, before: PodStatus, spec: PodSpec, errors: list[FieldError]) -> None:
    """A container that is not to be restarted stays terminated."""
    regular = {container.name: container for container in spec.containers}
    initial = {container.name: container for container in spec.init_containers}
    any_restarts_all = any(
        rule.action == "RestartAllContainers"
        for container in (*spec.containers, *spec.init_containers)
        for rule in container.restart_policy_rules
    )
    for wire, new, old, known in (
        ("containerStatuses", status.container_statuses, before.container_statuses, regular),
        ("initContainerStatuses", status.init_container_statuses, before.init_container_statuses, initial),
        ("ephemeralContainerStatuses", status.ephemeral_container_statuses, before.ephemeral_container_statuses, {}),
    ):
        if any_restarts_all and known:
            continue
        running = {each.name for each in new if each.state.terminated is None}
        for i, each in enumerate(old):
            ended = each.state.terminated
            if ended is None or each.name not in running:
                continue
            container = known.get(each.name)
            if container is None or not may_restart(container, spec, ended.exit_code):
                message = "may not be transitioned to non-terminated state"
                errors.append(field.forbidden(STATUS.child(wire).index(i).child("state"), message))


def _claims(pod: Pod, errors: list[FieldError]) -> None:
    known = {claim.name for claim in pod.spec.resource_claims}
    seen: set[str] = set()
    for i, claim in enumerate(pod.status.resource_claim_statuses):
        at = STATUS.child("resourceClaimStatuses").index(i)
        if claim.name not in known:
            message = "must match the name of an entry in `spec.resourceClaims`"
            errors.append(field.invalid(at.child("name"), claim.name, message))
        if claim.name in seen:
            errors.append(field.duplicate(at.child("name"), claim.name))
        seen.add(claim.name)
        if claim.resource_claim_name is not None:
            meta.dns1123_subdomain(claim.resource_claim_name, at.child("resourceClaimName"), errors)


def _addresses(status: PodStatus, before: PodStatus, errors: list[FieldError]) -> None:
    at = STATUS.child("hostIPs")
    if status.host_ips and status.host_ip != status.host_ips[0].ip:
        message = "must be equal to `hostIP`"
        errors.append(field.invalid(at.index(0).child("ip"), status.host_ips[0].ip, message))
    for path, values, stored in (
        (STATUS.child("podIPs"), [each.ip for each in status.pod_ips], [each.ip for each in before.pod_ips]),
        (at, [each.ip for each in status.host_ips], [each.ip for each in before.host_ips]),
    ):
        for i, value in enumerate(values):
            ip.valid_ip(value, path.index(i), errors, stored)
        if len(values) > 2 or (len(values) == 2 and not ip.is_dual_stack(values)):
            errors.append(field.invalid(path, [{"ip": value} for value in values], _TWO_FAMILIES))


def _container_statuses(pod: Pod, errors: list[FieldError]) -> None:
    os = pod.spec.os.name if pod.spec.os is not None else "linux"
    for wire, statuses, containers in (
        ("containerStatuses", pod.status.container_statuses, pod.spec.containers),
        ("initContainerStatuses", pod.status.init_container_statuses, pod.spec.init_containers),
        ("ephemeralContainerStatuses", pod.status.ephemeral_container_statuses, None),
    ):
        for i, each in enumerate(statuses):
            at = STATUS.child(wire).index(i)
            if each.user is not None and each.user.linux is not None:
                _user(each, os, at.child("user").child("linux"), errors)
            if each.allocated_resources_status:
                _allocated(each, containers, at.child("allocatedResourcesStatus"), errors)
            for j, mounted in enumerate(each.volume_mounts):
                image = mounted.volume_status.image if mounted.volume_status is not None else None
                if image is None:
                    continue
                to = at.child("volumeMounts").index(j).child("volumeStatus").child("image").child("imageRef")
                if not image.image_ref:
                    errors.append(field.required(to, "imageRef must not be empty"))
                elif len(image.image_ref) > _MAX_IMAGE_REF:
                    errors.append(field.too_long(to, _MAX_IMAGE_REF))


def _user(status: ContainerStatus, os: str, path: Path, errors: list[FieldError]) -> None:
    assert status.user is not None
    user = status.user.linux
    assert user is not None
    if os == "windows":
        errors.append(field.forbidden(path, "cannot be set for a windows pod"))
        return
    errors.extend(field.invalid(path.child("uid"), user.uid, message) for message in names.user_id(user.uid))
    errors.extend(field.invalid(path.child("gid"), user.gid, message) for message in names.group_id(user.gid))
    for i, group in enumerate(user.supplemental_groups):
        at = path.child("supplementalGroups").index(i)
        errors.extend(field.invalid(at, group, message) for message in names.group_id(group))


def _allocated(
    status: ContainerStatus, containers: Sequence[Container] | None, path: Path, errors: list[FieldError]
) -> None:
    if containers is None:
        errors.append(field.forbidden(path, "must not be specified in container status"))
        return
    container = next((each for each in containers if each.name == status.name), None)
    for i, allocated in enumerate(status.allocated_resources_status):
        at = path.index(i)
        if container is not None:
            if allocated.name.startswith("claim:"):
                known = {
                    f"claim:{claim.name}/{claim.request}" if claim.request else f"claim:{claim.name}"
                    for claim in container.resources.claims
                }
                message = (
                    "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' "
                    "or 'claim:<claimName>' if request is empty"
                )
            else:
                known = set(container.resources.requests)
                message = "must match one of the container's resource requests"
            if allocated.name not in known:
                errors.append(field.invalid(at.child("name"), allocated.name, message))
        seen: set[str] = set()
        for j, health in enumerate(allocated.resources):
            to = at.child("resources").index(j)
            if health.health not in _HEALTH:
                errors.append(field.not_supported(to.child("health"), health.health, _HEALTH))
            if len(health.message) > _MAX_HEALTH_MESSAGE:
                errors.append(field.too_long(to.child("message"), _MAX_HEALTH_MESSAGE))
            if health.resource_id in seen:
                errors.append(field.duplicate(to.child("resourceID"), health.resource_id))
            seen.add(health.resource_id)
