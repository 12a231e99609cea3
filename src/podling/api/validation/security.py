"""Security contexts of Pods and containers: users, sysctls, seccomp, AppArmor, and the annotations of older days."""

from __future__ import annotations

from collections.abc import Mapping

from podling.api import field, names, sysctl
from podling.api.core.v1 import (
    AppArmorProfile,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
    Sysctl,
)
from podling.api.field import FieldError, Path
from podling.api.validation import files, windows
from podling.api.validation.visit import containers_with_path

SECCOMP_POD_ANNOTATION = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER_PREFIX = "container.seccomp.security.alpha.kubernetes.io/"
APPARMOR_PREFIX = "container.apparmor.security.beta.kubernetes.io/"

_PROFILE_TYPES = ("Localhost", "RuntimeDefault", "Unconfined")
_FS_GROUP_POLICIES = ("Always", "OnRootMismatch")
_GROUPS_POLICIES = ("Merge", "Strict")
_SELINUX_POLICIES = ("MountOption", "Recursive")
_PROC_MOUNTS = ("Default", "Unmasked")
_MAX_PROFILE = 4095


def _user(value: int | None, path: Path, errors: list[FieldError]) -> None:
    if value is not None:
        errors.extend(field.invalid(path, value, message) for message in names.user_id(value))


def _group(value: int | None, path: Path, errors: list[FieldError]) -> None:
    if value is not None:
        errors.extend(field.invalid(path, value, message) for message in names.group_id(value))


def _one_of(value: str | None, allowed: tuple[str, ...], path: Path, errors: list[FieldError]) -> None:
    if value is not None and value not in allowed:
        errors.append(field.not_supported(path, value, allowed))


def seccomp_profile(profile: SeccompProfile | None, path: Path, errors: list[FieldError]) -> None:
    if profile is None:
        return
    if not profile.type:
        errors.append(field.required(path.child("type"), "type is required when seccompProfile is set"))
    elif profile.type not in _PROFILE_TYPES:
        errors.append(field.not_supported(path.child("type"), profile.type, _PROFILE_TYPES))
    at = path.child("localhostProfile")
    if profile.type == "Localhost":
        if profile.localhost_profile is None:
            errors.append(field.required(at, "must be set when seccomp type is Localhost"))
        else:
            files.local_descending(profile.localhost_profile, at, errors)
    elif profile.localhost_profile is not None:
        errors.append(field.invalid(at, profile, "can only be set when seccomp type is Localhost"))


def app_armor_profile(profile: AppArmorProfile | None, path: Path, errors: list[FieldError]) -> None:
    if profile is None:
        return
    at = path.child("localhostProfile")
    name = profile.localhost_profile
    if profile.type == "Localhost":
        if name is None or name == "":
            errors.append(field.required(at, "must be set when AppArmor type is Localhost"))
        elif name != name.strip():
            errors.append(field.invalid(at, name, "must not be padded with whitespace"))
        if name is not None and len(name.encode()) > _MAX_PROFILE:
            errors.append(field.too_long(at, _MAX_PROFILE))
    elif not profile.type:
        errors.append(field.required(path.child("type"), "type is required when appArmorProfile is set"))
    elif profile.type not in _PROFILE_TYPES:
        errors.append(field.not_supported(path.child("type"), profile.type, _PROFILE_TYPES))
    elif name is not None:
        errors.append(field.invalid(at, name, "can only be set when AppArmor type is Localhost"))


def _sysctls(sysctls: list[Sysctl], spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, wanted in enumerate(sysctls):
        at, name = path.index(i).child("name"), wanted.name
        if not name:
            errors.append(field.required(at, ""))
        elif not sysctl.is_valid(name):
            message = f"must have at most {sysctl.MAX_LENGTH} characters and match regex {sysctl.PATTERN}"
            errors.append(field.invalid(at, name, message))
        elif name in seen:
            errors.append(field.duplicate(at, name))
        namespace = sysctl.namespace(sysctl.normalize(name))
        if spec.host_network and namespace == sysctl.NETWORK:
            errors.append(field.invalid(at, name, "may not be specified when 'hostNetwork' is true"))
        elif spec.host_ipc and namespace == sysctl.IPC:
            errors.append(field.invalid(at, name, "may not be specified when 'hostIPC' is true"))
        seen.add(name)


def pod_security_context(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """`path` is the PodSpec's."""
    at = path.child("securityContext")
    if spec.share_process_namespace and spec.host_pid:
        message = "ShareProcessNamespace and HostPID cannot both be enabled"
        errors.append(field.invalid(at.child("shareProcessNamespace"), True, message))
    context = spec.security_context
    if context is None or context == _NO_CONTEXT:
        return
    _group(context.fs_group, at.child("fsGroup"), errors)
    _user(context.run_as_user, at.child("runAsUser"), errors)
    _group(context.run_as_group, at.child("runAsGroup"), errors)
    for i, group in enumerate(context.supplemental_groups):
        _group(group, at.child("supplementalGroups").index(i), errors)
    _sysctls(context.sysctls, spec, at.child("sysctls"), errors)
    _one_of(context.fs_group_change_policy, _FS_GROUP_POLICIES, at.child("fsGroupChangePolicy"), errors)
    seccomp_profile(context.seccomp_profile, at.child("seccompProfile"), errors)
    windows.options(context.windows_options, at.child("windowsOptions"), errors)
    app_armor_profile(context.app_armor_profile, at.child("appArmorProfile"), errors)
    _one_of(context.supplemental_groups_policy, _GROUPS_POLICIES, at.child("supplementalGroupsPolicy"), errors)
    _one_of(context.se_linux_change_policy, _SELINUX_POLICIES, at.child("seLinuxChangePolicy"), errors)


_NO_CONTEXT = PodSecurityContext()


def security_context(
    context: SecurityContext | None, path: Path, errors: list[FieldError], *, host_users: bool
) -> None:
    """A container's."""
    if context is None:
        return
    _user(context.run_as_user, path.child("runAsUser"), errors)
    _group(context.run_as_group, path.child("runAsGroup"), errors)
    if context.proc_mount is not None:
        at = path.child("procMount")
        _one_of(context.proc_mount, _PROC_MOUNTS, at, errors)
        if host_users and context.proc_mount == "Unmasked":
            errors.append(field.invalid(at, context.proc_mount, "`hostUsers` must be false to use `Unmasked`"))
    seccomp_profile(context.seccomp_profile, path.child("seccompProfile"), errors)
    if context.allow_privilege_escalation is False:
        if context.privileged:
            message = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            errors.append(field.invalid(path, context, message))
        if context.capabilities is not None and "CAP_SYS_ADMIN" in context.capabilities.add:
            message = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            errors.append(field.invalid(path, context, message))
    windows.options(context.windows_options, path.child("windowsOptions"), errors)
    app_armor_profile(context.app_armor_profile, path.child("appArmorProfile"), errors)


def _seccomp_annotation(value: str, path: Path, errors: list[FieldError]) -> None:
    if value in ("runtime/default", "docker/default", "unconfined"):
        return
    if value.startswith("localhost/"):
        files.local_descending(value.removeprefix("localhost/"), path, errors)
    else:
        errors.append(field.invalid(path, value, "must be a valid seccomp profile"))


def pod_annotations(values: Mapping[str, str], spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """Seccomp and AppArmor annotations by themselves."""
    for key, value in values.items():
        if key == SECCOMP_POD_ANNOTATION or key.startswith(SECCOMP_CONTAINER_PREFIX):
            _seccomp_annotation(value, path.child(key), errors)
        elif key.startswith(APPARMOR_PREFIX):
            name = key.removeprefix(APPARMOR_PREFIX)
            if not any(container.name == name for container, _ in containers_with_path(spec, path)):
                errors.append(field.invalid(path.key(key), name, "container not found"))
            if value not in ("", "runtime/default", "unconfined") and not value.startswith("localhost/"):
                errors.append(field.invalid(path.key(key), value, f'invalid AppArmor profile name: "{value}"'))


def annotations_match(values: Mapping[str, str], spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """Annotations must say what the fields say. `path` is the PodSpec's."""
    if not any("seccomp.security.alpha" in key or "apparmor.security.beta" in key for key in values):
        return
    pod = spec.security_context
    if pod is not None and pod.seccomp_profile is not None and SECCOMP_POD_ANNOTATION in values:
        at = path.child("securityContext").child("seccompProfile")
        _match("seccomp", values[SECCOMP_POD_ANNOTATION], pod.seccomp_profile, at, errors)
    for container, to in containers_with_path(spec, path):
        at = to.child("securityContext")
        own = container.security_context
        annotation = values.get(SECCOMP_CONTAINER_PREFIX + container.name)
        if annotation is not None and own is not None and own.seccomp_profile is not None:
            _match("seccomp", annotation, own.seccomp_profile, at.child("seccompProfile"), errors)
        if spec.os is not None and spec.os.name == "windows":
            continue
        profile = own.app_armor_profile if own is not None else None
        if profile is None and pod is not None:
            profile = pod.app_armor_profile
        annotation = values.get(APPARMOR_PREFIX + container.name)
        if annotation is not None and profile is not None:
            _match("apparmor", annotation, profile, at.child("appArmorProfile"), errors)


def _match(
    kind: str, annotation: str, profile: SeccompProfile | AppArmorProfile, path: Path, errors: list[FieldError]
) -> None:
    default = ("runtime/default", "docker/default") if kind == "seccomp" else ("runtime/default",)
    same_type = {
        "Unconfined": annotation == "unconfined",
        "RuntimeDefault": annotation in default,
        "Localhost": annotation.startswith("localhost/"),
    }.get(profile.type, True)
    if not same_type:
        errors.append(field.forbidden(path.child("type"), f"{kind} type in annotation and field must match"))
    elif profile.type == "Localhost" and annotation.removeprefix("localhost/") != profile.localhost_profile:
        message = f"{kind} profile in annotation and field must match"
        errors.append(field.forbidden(path.child("localhostProfile"), message))
