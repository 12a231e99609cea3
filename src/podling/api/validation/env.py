"""Environment variables: names, sources, and the downward API fields that they (and volumes) may refer to."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from podling.api import field, names
from podling.api.core.v1 import (
    EnvFromSource,
    EnvVar,
    FileKeySelector,
    ObjectFieldSelector,
    PodSpec,
    ResourceFieldSelector,
)
from podling.api.field import FieldError, Path
from podling.api.validation import files, meta
from podling.api.validation.resource import ZERO
from podling.api.validation.visit import containers_with_path

ENV_FIELDS = (
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
)
VOLUME_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
_KNOWN_FIELDS = frozenset({*ENV_FIELDS, *VOLUME_FIELDS, "spec.restartPolicy", "spec.schedulerName", "status.phase"})
_RESOURCES = (
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
)
_HUGE_PAGES = ("limits.hugepages-", "requests.hugepages-")
_CPU_DIVISORS = ("1m", "1")
_BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
_DIVISOR_KINDS = {"cpu": "cpu", "memory": "memory", "ephemeral-storage": "local ephemeral storage"}
_SUBSCRIPTED = re.compile(r"(.*)\['(.+)'\]\Z", re.DOTALL)


def field_selector(
    selector: ObjectFieldSelector, supported: Collection[str], path: Path, errors: list[FieldError]
) -> None:
    """A fieldRef; `supported` are the fields allowed at this place, sorted."""
    if not selector.api_version:
        errors.append(field.required(path.child("apiVersion"), ""))
        return
    if not selector.field_path:
        errors.append(field.required(path.child("fieldPath"), ""))
        return
    subscripted = _SUBSCRIPTED.match(selector.field_path)
    if selector.api_version != "v1":
        problem = f"unsupported pod version: {selector.api_version}"
    elif subscripted and subscripted[1] not in ("metadata.annotations", "metadata.labels"):
        problem = f"field label does not support subscript: {selector.field_path}"
    elif not subscripted and selector.field_path not in _KNOWN_FIELDS and selector.field_path != "spec.host":
        problem = f"field label not supported: {selector.field_path}"
    else:
        problem = ""
    if problem:
        message = f"error converting fieldPath: {problem}"
        errors.append(field.invalid(path.child("fieldPath"), selector.field_path, message))
    elif subscripted:
        key = subscripted[2]
        meta.qualified_name(key.lower() if subscripted[1] == "metadata.annotations" else key, path, errors)
    else:
        name = "spec.nodeName" if selector.field_path == "spec.host" else selector.field_path
        if name not in supported:
            errors.append(field.not_supported(path.child("fieldPath"), name, supported))


def resource_selector(selector: ResourceFieldSelector, path: Path, errors: list[FieldError], *, volume: bool) -> None:
    """A resourceFieldRef; a volume must name the container, an environment variable means its own."""
    name = selector.resource
    if volume and not selector.container_name:
        errors.append(field.required(path.child("containerName"), ""))
    elif not name:
        errors.append(field.required(path.child("resource"), ""))
    elif name not in _RESOURCES and not name.startswith(_HUGE_PAGES):
        errors.append(field.not_supported(path.child("resource"), name, _RESOURCES))
    if selector.divisor == ZERO:
        return
    divisor = str(selector.divisor)
    part = name.partition(".")[2]
    if name.startswith(_HUGE_PAGES):
        kind = "hugepages"
    elif name in _RESOURCES:
        kind = _DIVISOR_KINDS[part]
    else:
        return
    if divisor not in (_CPU_DIVISORS if kind == "cpu" else _BYTE_DIVISORS):
        listed = "1m and 1" if kind == "cpu" else ", ".join(_BYTE_DIVISORS)
        message = f"only divisor's values {listed} are supported with the {kind} resource"
        errors.append(field.invalid(path.child("divisor"), name, message))


def _key_selector(name: str, key: str, path: Path, errors: list[FieldError]) -> None:
    meta.dns1123_subdomain(name, path.child("name"), errors)
    if not key:
        errors.append(field.required(path.child("key"), ""))
    else:
        errors.extend(field.invalid(path.child("key"), key, message) for message in names.config_map_key(key))


def _file_key_selector(selector: FileKeySelector, path: Path, errors: list[FieldError]) -> None:
    if not selector.key:
        errors.append(field.required(path.child("key"), ""))
    else:
        errors.extend(
            field.invalid(path.child("key"), selector.key, message)
            for message in names.relaxed_env_var_name(selector.key)
        )
    if not selector.volume_name:
        errors.append(field.required(path.child("volumeName"), ""))
    else:
        meta.dns1123_label(selector.volume_name, path.child("volumeName"), errors)
    if not selector.path:
        errors.append(field.required(path.child("path"), ""))
    else:
        files.no_backsteps(selector.path, path.child("path"), errors)


def env(variables: Sequence[EnvVar], path: Path, errors: list[FieldError]) -> None:
    for i, variable in enumerate(variables):
        at = path.index(i)
        if not variable.name:
            errors.append(field.required(at.child("name"), ""))
        else:
            errors.extend(
                field.invalid(at.child("name"), variable.name, message)
                for message in names.relaxed_env_var_name(variable.name)
            )
        if variable.value_from is not None:
            _value_from(variable, at.child("valueFrom"), errors)


def _value_from(variable: EnvVar, path: Path, errors: list[FieldError]) -> None:
    source = variable.value_from
    assert source is not None
    count = 0
    if source.field_ref is not None:
        count += 1
        field_selector(source.field_ref, ENV_FIELDS, path.child("fieldRef"), errors)
    if source.resource_field_ref is not None:
        count += 1
        resource_selector(source.resource_field_ref, path.child("resourceFieldRef"), errors, volume=False)
    if (config_map := source.config_map_key_ref) is not None:
        count += 1
        _key_selector(config_map.name, config_map.key, path.child("configMapKeyRef"), errors)
    if (secret := source.secret_key_ref) is not None:
        count += 1
        _key_selector(secret.name, secret.key, path.child("secretKeyRef"), errors)
    if source.file_key_ref is not None:
        count += 1
        _file_key_selector(source.file_key_ref, path.child("fileKeyRef"), errors)
    if count == 0:
        message = (
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
        )
        errors.append(field.invalid(path, "", message))
    elif variable.value:
        errors.append(field.invalid(path, "", "may not be specified when `value` is not empty"))
    elif count > 1:
        errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))


def env_from(sources: Sequence[EnvFromSource], path: Path, errors: list[FieldError]) -> None:
    for i, source in enumerate(sources):
        at = path.index(i)
        if source.prefix:
            errors.extend(
                field.invalid(at.child("prefix"), source.prefix, message)
                for message in names.relaxed_env_var_name(source.prefix)
            )
        count = 0
        for name, reference in (("configMapRef", source.config_map_ref), ("secretRef", source.secret_ref)):
            if reference is None:
                continue
            count += 1
            to = at.child(name).child("name")
            if not reference.name:
                errors.append(field.required(to, ""))
            else:
                errors.extend(
                    field.invalid(to, reference.name, message)
                    for message in meta.dns_subdomain_name(reference.name, True)
                )
        if count == 0:
            errors.append(field.invalid(path, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif count > 1:
            errors.append(field.invalid(path, "", "may not have more than one field specified at a time"))


def file_key_volumes(spec: PodSpec, path: Path, errors: list[FieldError]) -> None:
    """A fileKeyRef reads from an emptyDir of the Pod."""
    volumes = {volume.name: volume for volume in spec.volumes}
    for container, at in containers_with_path(spec, path):
        for i, variable in enumerate(container.env):
            if variable.value_from is None or variable.value_from.file_key_ref is None:
                continue
            name = variable.value_from.file_key_ref.volume_name
            to = at.child("env").index(i).child("valueFrom").child("fileKeyRef").child("volumeName")
            if name not in volumes:
                errors.append(field.not_found(to, name))
            elif volumes[name].empty_dir is None:
                errors.append(field.invalid(to, name, "referenced volume must be of type emptyDir"))
