"""Containers, init containers (sidecars too) and ephemeral containers."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from podling.api import field
from podling.api.core.v1 import Container, ContainerResizePolicy, ContainerRestartRule, PodSpec
from podling.api.field import FieldError, Path
from podling.api.validation import env, meta, mount, ports, probe, resource, security
from podling.api.validation.visit import AnyContainer
from podling.api.validation.volume import ByName, pull_policy

_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_RULE_OPERATORS = ("In", "NotIn")
_RESIZE_RESOURCES = ("cpu", "memory")
_RESIZE_POLICIES = ("NotRequired", "RestartContainer")
_MAX_RULES = 20
_MAX_EXIT_CODES = 255

# Wire name, attribute: what an ephemeral container may not have, in upstream's order.
_NOT_EPHEMERAL = (
    ("ports", "ports"),
    ("resources", "resources"),
    ("resizePolicy", "resize_policy"),
    ("restartPolicy", "restart_policy"),
    ("restartPolicyRules", "restart_policy_rules"),
    ("livenessProbe", "liveness_probe"),
    ("readinessProbe", "readiness_probe"),
    ("startupProbe", "startup_probe"),
    ("lifecycle", "lifecycle"),
)
_EMPTY = Container()


def _common(
    container: AnyContainer,
    spec: PodSpec,
    volumes: ByName,
    claims: Collection[str],
    path: Path,
    errors: list[FieldError],
) -> None:
    if not container.name:
        errors.append(field.required(path.child("name"), ""))
    else:
        meta.dns1123_label(container.name, path.child("name"), errors)
    if not container.image:
        errors.append(field.required(path.child("image"), ""))
    policy = container.termination_message_policy
    if not policy:
        errors.append(field.required(path.child("terminationMessagePolicy"), ""))
    elif policy not in _MESSAGE_POLICIES:
        errors.append(field.not_supported(path.child("terminationMessagePolicy"), policy, _MESSAGE_POLICIES))
    if container.ports:
        ports.container_ports(container.ports, path.child("ports"), errors)
    if container.env:
        env.env(container.env, path.child("env"), errors)
    if container.env_from:
        env.env_from(container.env_from, path.child("envFrom"), errors)
    if container.volume_mounts:
        mount.volume_mounts(container, volumes, path.child("volumeMounts"), errors)
    if container.volume_devices:
        mount.volume_devices(container, volumes, path.child("volumeDevices"), errors)
    pull_policy(container.image_pull_policy, path.child("imagePullPolicy"), errors)
    resource.requirements(container.resources, path.child("resources"), errors, claims=claims)
    if container.resize_policy:
        _resize_policy(container.resize_policy, spec.restart_policy, path.child("resizePolicy"), errors)
    security.security_context(
        container.security_context,
        path.child("securityContext"),
        errors,
        host_users=spec.host_users is not False,
    )


def _resize_policy(
    policies: Sequence[ContainerResizePolicy], restart_policy: str, path: Path, errors: list[FieldError]
) -> None:
    seen: set[str] = set()
    for i, policy in enumerate(policies):
        if policy.resource_name in seen:
            errors.append(field.duplicate(path.index(i), policy.resource_name))
        seen.add(policy.resource_name)
        if not policy.resource_name:
            errors.append(field.required(path, ""))
        elif policy.resource_name not in _RESIZE_RESOURCES:
            errors.append(field.not_supported(path, policy.resource_name, _RESIZE_RESOURCES))
        if not policy.restart_policy:
            errors.append(field.required(path, ""))
        elif policy.restart_policy not in _RESIZE_POLICIES:
            errors.append(field.not_supported(path, policy.restart_policy, _RESIZE_POLICIES))
        if restart_policy == "Never" and policy.restart_policy != "NotRequired":
            message = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            errors.append(field.invalid(path, policy.restart_policy, message))


def _restart_policy(
    policy: str | None, rules: Sequence[ContainerRestartRule], path: Path, errors: list[FieldError]
) -> None:
    if policy is None:
        if rules:
            message = "must specify restartPolicy when restart rules are used"
            errors.append(field.required(path.child("restartPolicy"), message))
    elif policy not in _RESTART_POLICIES:
        errors.append(field.not_supported(path.child("restartPolicy"), policy, _RESTART_POLICIES))
    at = path.child("restartPolicyRules")
    if len(rules) > _MAX_RULES:
        errors.append(field.too_many(at, len(rules), _MAX_RULES))
    for i, rule in enumerate(rules):
        if rule.action not in _RULE_ACTIONS:
            errors.append(field.not_supported(at.index(i).child("action"), rule.action, _RULE_ACTIONS))
        to = at.index(i).child("exitCodes")
        if rule.exit_codes is None:
            errors.append(field.required(to, "must be specified"))
            continue
        if rule.exit_codes.operator not in _RULE_OPERATORS:
            errors.append(field.not_supported(to.child("operator"), rule.exit_codes.operator, _RULE_OPERATORS))
        if len(rule.exit_codes.values) > _MAX_EXIT_CODES:
            errors.append(field.too_many(to.child("values"), len(rule.exit_codes.values), _MAX_EXIT_CODES))


def _probes(container: Container, spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    grace = spec.termination_grace_period_seconds
    if container.lifecycle is not None:
        probe.lifecycle(container.lifecycle, grace, spec.os, path.child("lifecycle"), errors)
    probe.liveness_or_startup_probe(container.liveness_probe, grace, path.child("livenessProbe"), errors)
    probe.readiness_probe(container.readiness_probe, grace, path.child("readinessProbe"), errors)
    probe.liveness_or_startup_probe(container.startup_probe, grace, path.child("startupProbe"), errors)


def containers(spec: PodSpec, volumes: ByName, claims: Collection[str], path: Path, errors: list[FieldError]) -> None:
    if not spec.containers:
        errors.append(field.required(path, ""))
        return
    seen: set[str] = set()
    for i, container in enumerate(spec.containers):
        at = path.index(i)
        _common(container, spec, volumes, claims, at, errors)
        if container.name in seen:
            errors.append(field.duplicate(at.child("name"), container.name))
        seen.add(container.name)
        _probes(container, spec, at, errors)
        _restart_policy(container.restart_policy, container.restart_policy_rules, at, errors)
    ports.host_port_conflicts(spec.containers, path, errors)


def init_containers(
    spec: PodSpec, volumes: ByName, claims: Collection[str], path: Path, errors: list[FieldError]
) -> None:
    seen = {container.name for container in spec.containers}
    for i, container in enumerate(spec.init_containers):
        at = path.index(i)
        _common(container, spec, volumes, claims, at, errors)
        _restart_policy(container.restart_policy, container.restart_policy_rules, at, errors)
        if container.name in seen:
            errors.append(field.duplicate(at.child("name"), container.name))
        elif container.name:
            seen.add(container.name)
        # One at a time, because init containers do not run at the same time.
        ports.host_port_conflicts([container], path, errors)
        if container.restart_policy == "Always":
            _probes(container, spec, at, errors)
            continue
        for wire, value in (
            ("lifecycle", container.lifecycle),
            ("livenessProbe", container.liveness_probe),
            ("readinessProbe", container.readiness_probe),
            ("startupProbe", container.startup_probe),
        ):
            if value is not None:
                message = "may not be set for init containers without restartPolicy=Always"
                errors.append(field.forbidden(at.child(wire), message))
        for j, policy in enumerate(container.resize_policy):
            if policy.restart_policy == "RestartContainer":
                to = at.child("resizePolicy").index(j).child("restartPolicy")
                message = "must not be set to 'RestartContainer' for non-sidecar initContainers"
                errors.append(field.invalid(to, policy.restart_policy, message))


def ephemeral_containers(
    spec: PodSpec, volumes: ByName, claims: Collection[str], path: Path, errors: list[FieldError]
) -> None:
    others = {container.name for container in (*spec.containers, *spec.init_containers)}
    seen = set(others)
    for i, container in enumerate(spec.ephemeral_containers):
        at = path.index(i)
        _common(container, spec, volumes, claims, at, errors)
        image_whitespace(container, at, errors)
        if container.name in seen:
            errors.append(field.duplicate(at.child("name"), container.name))
        seen.add(container.name)
        target = container.target_container_name
        if target and target not in others:
            errors.append(field.not_found(at.child("targetContainerName"), target))
        for wire, attribute in _NOT_EPHEMERAL:
            if getattr(container, attribute) != getattr(_EMPTY, attribute):
                errors.append(field.forbidden(at.child(wire), "cannot be set for an Ephemeral Container"))
        for j, volume_mount in enumerate(container.volume_mounts):
            for wire, value in (("subPath", volume_mount.sub_path), ("subPathExpr", volume_mount.sub_path_expr)):
                if value:
                    to = at.child("volumeMounts").index(j).child(wire)
                    errors.append(field.forbidden(to, "cannot be set for an Ephemeral Container"))


def image_whitespace(container: AnyContainer, path: Path, errors: list[FieldError]) -> None:
    """Only for Pods: templates may hold an image of blanks."""
    if container.image != container.image.strip():
        message = "must not have leading or trailing whitespace"
        errors.append(field.invalid(path.child("image"), container.image, message))
