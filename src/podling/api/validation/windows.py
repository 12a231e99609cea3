"""What Pods for Windows may and may not say. No node here runs them, but their manifests are judged as upstream."""

from __future__ import annotations

import re

from podling.api import field
from podling.api.core.v1 import PodSpec, WindowsSecurityContextOptions
from podling.api.field import FieldError, Path
from podling.api.validation import meta
from podling.api.validation.visit import containers_with_path

_NOT_FOR_WINDOWS = "cannot be set for a windows pod"
_POD_FIELDS = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_POD_CONTEXT_FIELDS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "fsGroup",
    "fsGroupChangePolicy",
    "sysctls",
    "runAsUser",
    "runAsGroup",
    "supplementalGroups",
    "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)
_CONTEXT_FIELDS = (
    "appArmorProfile",
    "seLinuxOptions",
    "seccompProfile",
    "capabilities",
    "readOnlyRootFilesystem",
    "privileged",
    "allowPrivilegeEscalation",
    "procMount",
    "runAsUser",
    "runAsGroup",
)
_OS = ("linux", "windows")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NETBIOS = re.compile(r"""[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}\Z""")
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\Z")
_USER_CHARACTERS = re.compile(r'["/\\:;|=,+*?<>@\[\]]')
_USER_DOTS = re.compile(r"[. ]+\Z")
_SPEC_KIB = 64


def options(value: WindowsSecurityContextOptions | None, path: Path, errors: list[FieldError]) -> None:
    if value is None:
        return
    if value.gmsa_credential_spec_name is not None:
        meta.dns1123_subdomain(value.gmsa_credential_spec_name, path.child("gmsaCredentialSpecName"), errors)
    spec = value.gmsa_credential_spec
    if spec is not None:
        at = path.child("gmsaCredentialSpec")
        if not spec:
            errors.append(field.invalid(at, spec, "gmsaCredentialSpec cannot be an empty string"))
        elif len(spec.encode()) > _SPEC_KIB * 1024:
            errors.append(field.invalid(at, spec, f"gmsaCredentialSpec size must be under {_SPEC_KIB} KiB"))
    if value.run_as_user_name is not None:
        at = path.child("runAsUserName")
        errors.extend(
            field.invalid(at, value.run_as_user_name, f"runAsUserName{message}")
            for message in _user_name(value.run_as_user_name)
        )


def _user_name(name: str) -> list[str]:
    if not name:
        return [" cannot be an empty string"]
    if _CONTROL.search(name):
        return [" cannot contain control characters"]
    parts = name.split("\\")
    if len(parts) > 2:
        return [" cannot contain more than one backslash"]
    messages = []
    user = parts[-1]
    if len(parts) == 2:
        domain = parts[0]
        if len(domain) >= 256:
            messages.append("'s Domain length must be under 256 characters")
        if not (_NETBIOS.match(domain) or _DNS.match(domain)):
            messages.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        messages.append("'s User cannot be empty")
    elif len(user) > 104:
        messages.append("'s User length must not be longer than 104 characters")
    if _USER_DOTS.match(user):
        messages.append("'s User cannot contain only periods or spaces")
    if _USER_CHARACTERS.search(user):
        messages.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return messages


def host_process(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """All containers of a Pod are host processes or none is. `path` is the PodSpec's."""
    pod_options = spec.security_context.windows_options if spec.security_context is not None else None
    pod = pod_options.host_process if pod_options is not None else None
    total = count = 0
    for container, at in containers_with_path(spec, path):
        total += 1
        context = container.security_context
        own = None
        if context is not None and context.windows_options is not None:
            own = context.windows_options.host_process
        if pod is not None and own is not None and pod != own:
            message = f"pod hostProcess value must be identical if both are specified, was {str(pod).lower()}"
            to = at.child("securityContext").child("windowsOptions").child("hostProcess")
            errors.append(field.invalid(to, own, message))
        if own or (own is None and pod):
            count += 1
    if not count:
        return
    if count != total:
        message = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        errors.append(field.invalid(path, "", message))
    if not spec.host_network:
        message = "hostNetwork must be true if pod contains any hostProcess containers"
        errors.append(field.invalid(path.child("hostNetwork"), False, message))


def operating_system(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """spec.os, and the fields that the other system does not know. `path` is the PodSpec's."""
    if spec.os is None:
        return
    if not spec.os.name:
        errors.append(field.required(path.child("os").child("name"), ""))
    elif spec.os.name not in _OS:
        errors.append(field.not_supported(path.child("os"), spec.os.name, _OS))
    elif spec.os.name == "linux":
        _linux(spec, path, errors)
    else:
        _windows(spec, path, errors)


def _linux(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    message = "windows options cannot be set for a linux pod"
    if spec.security_context is not None and spec.security_context.windows_options is not None:
        errors.append(field.forbidden(path.child("securityContext").child("windowsOptions"), message))
    for container, at in containers_with_path(spec, path):
        if container.security_context is not None and container.security_context.windows_options is not None:
            errors.append(field.forbidden(at.child("securityContext").child("windowsOptions"), message))


def _windows(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    _forbid(spec, _POD_FIELDS, path, errors)
    _forbid(spec.security_context, _POD_CONTEXT_FIELDS, path.child("securityContext"), errors)
    for container, at in containers_with_path(spec, path):
        _forbid(container.security_context, _CONTEXT_FIELDS, at.child("securityContext"), errors)


def _forbid(value: object, wire_names: tuple[str, ...], path: Path, errors: list[FieldError]) -> None:
    if value is None:
        return
    attributes = _attributes(type(value))
    for wire in wire_names:
        given = getattr(value, attributes[wire])
        unset = given is None or given == [] or (wire in ("hostPID", "hostIPC") and not given)
        if not unset:
            errors.append(field.forbidden(path.child(wire), _NOT_FOR_WINDOWS))


def _attributes(kind: type) -> dict[str, str]:
    return dict(zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True))  # type: ignore[attr-defined]
