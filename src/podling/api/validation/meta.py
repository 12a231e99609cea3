"""ObjectMeta, labels, annotations and label selectors.

Source: k8s.io/apimachinery pkg/api/validation (objectmeta.go, generic.go) and pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from podling.api import field, names, utf8
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import LabelSelector, ManagedFieldsEntry, ObjectMeta, OwnerReference

NameCheck = Callable[[str, bool], list[str]]
"""Messages about a name; the flag says that something will be appended to it (generateName)."""

MAX_ANNOTATIONS_BYTES = 256 * 1024
IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"

_FINALIZER_ORPHAN = "orphan"
_FINALIZER_FOREGROUND = "foregroundDeletion"
_STANDARD_FINALIZERS = frozenset({"kubernetes", _FINALIZER_ORPHAN, _FINALIZER_FOREGROUND})
_MAX_MANAGER_BYTES = 128
_MAX_SUBRESOURCE_BYTES = 256


def _without_trailing_dash(name: str) -> str:
    # Upstream replaces the last two characters, so that "a-" and "a.-" are both judged by what precedes them.
    return name[:-2] + "a" if name.endswith("-") else name


def dns_subdomain_name(name: str, prefix: bool) -> list[str]:
    """The rule of most kinds: an RFC 1123 subdomain."""
    return names.dns1123_subdomain(_without_trailing_dash(name) if prefix else name)


def dns_label_name(name: str, prefix: bool) -> list[str]:
    """The rule of Namespaces and Services: an RFC 1123 label."""
    return names.dns1123_label(_without_trailing_dash(name) if prefix else name)


def path_segment_name(name: str, prefix: bool) -> list[str]:
    """The rule of kinds whose names may be anything that a URL's path can hold: Events."""
    if name in (".", "..") and not prefix:
        return [f"may not be '{name}'"]
    return [f"may not contain '{char}'" for char in "/%" if char in name]


def dns1035_label_name(name: str, prefix: bool) -> list[str]:
    """The rule of Service names before 1.36."""
    return names.dns1035_label(_without_trailing_dash(name) if prefix else name)


def nonnegative(value: int | None, path: Path, errors: list[FieldError]) -> None:
    if value is not None and value < 0:
        errors.append(field.invalid(path, value, NOT_NEGATIVE))


def immutable(new: object, old: object, path: Path, errors: list[FieldError]) -> None:
    if new != old:
        errors.append(field.invalid(path, new, IMMUTABLE))


def dns1123_label(value: str, path: Path, errors: list[FieldError]) -> None:
    errors.extend(field.invalid(path, value, message) for message in names.dns1123_label(value))


def dns1123_subdomain(value: str, path: Path, errors: list[FieldError]) -> None:
    errors.extend(field.invalid(path, value, message) for message in names.dns1123_subdomain(value))


def qualified_name(value: str, path: Path, errors: list[FieldError]) -> None:
    errors.extend(field.invalid(path, value, message) for message in names.qualified_name(value))


def labels(values: Mapping[str, str], path: Path, errors: list[FieldError]) -> None:
    for key, value in values.items():
        qualified_name(key, path, errors)
        errors.extend(field.invalid(path, value, message) for message in names.label_value(value))


def annotation_map(values: Mapping[str, str], path: Path, errors: list[FieldError]) -> None:
    size = 0
    for key, value in values.items():
        # Case does not matter in annotation keys.
        errors.extend(field.invalid(path, key, message) for message in names.qualified_name(key.lower()))
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS_BYTES:
        errors.append(field.too_long(path, MAX_ANNOTATIONS_BYTES))


def label_selector(
    selector: LabelSelector | None, path: Path, errors: list[FieldError], *, any_value: bool = False
) -> None:
    """`any_value` skips the format of values, for objects stored before it was checked."""
    if selector is None:
        return
    labels(selector.match_labels, path.child("matchLabels"), errors)
    for i, requirement in enumerate(selector.match_expressions):
        at = path.child("matchExpressions").index(i)
        match requirement.operator:
            case "In" | "NotIn":
                if not requirement.values:
                    message = "must be specified when `operator` is 'In' or 'NotIn'"
                    errors.append(field.required(at.child("values"), message))
            case "Exists" | "DoesNotExist":
                if requirement.values:
                    message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
                    errors.append(field.forbidden(at.child("values"), message))
            case operator:
                errors.append(field.invalid(at.child("operator"), operator, "not a valid selector operator"))
        qualified_name(requirement.key, at.child("key"), errors)
        if not any_value:
            label_values(requirement.values, at.child("values"), errors)


def label_values(values: Sequence[str], path: Path, errors: list[FieldError]) -> None:
    for i, value in enumerate(values):
        errors.extend(field.invalid(path.index(i), value, message) for message in names.label_value(value))


def _owner_references(references: Sequence[OwnerReference], path: Path, errors: list[FieldError]) -> None:
    controller = ""
    for reference in references:
        group, _, version = reference.api_version.rpartition("/")
        if not version or "/" in group:  # Go finds no version in "a/b/c"
            errors.append(field.invalid(path.child("apiVersion"), reference.api_version, "version must not be empty"))
        for name, value in (("kind", reference.kind), ("name", reference.name), ("uid", reference.uid)):
            if not value:
                errors.append(field.invalid(path.child(name), value, "must not be empty"))
        if (group, version, reference.kind) == ("", "v1", "Event"):
            errors.append(field.invalid(path, reference, "/v1, Kind=Event is disallowed from being an owner"))
        if reference.controller:
            this = f"{reference.kind}/{reference.name}"
            if controller:
                message = (
                    'Only one reference can have Controller set to true. Found "true" in references for '
                    f"{controller} and {this}"
                )
                errors.append(field.invalid(path, list(references), message))
            else:
                controller = this


def _finalizers(finalizers: Sequence[str], path: Path, errors: list[FieldError]) -> None:
    for finalizer in finalizers:
        qualified_name(finalizer, path, errors)
    if _FINALIZER_ORPHAN in finalizers and _FINALIZER_FOREGROUND in finalizers:
        message = f"finalizer {_FINALIZER_ORPHAN} and {_FINALIZER_FOREGROUND} cannot be both set"
        errors.append(field.invalid(path, list(finalizers), message))


def standard_finalizer(finalizer: str, path: Path, errors: list[FieldError]) -> None:
    """A finalizer without a domain must be one of Kubernetes' own."""
    if "/" not in finalizer and finalizer not in _STANDARD_FINALIZERS:
        message = "name is neither a standard finalizer name nor is it fully qualified"
        errors.append(field.invalid(path, finalizer, message))


def field_manager(manager: str, path: Path, errors: list[FieldError]) -> None:
    """The fieldManager of a request or of a managedFields entry."""
    if manager.isascii() and manager.isprintable() and len(manager) <= _MAX_MANAGER_BYTES:
        return
    if len(utf8.encoded(manager)) > _MAX_MANAGER_BYTES:
        errors.append(field.too_long(path, _MAX_MANAGER_BYTES))
    for i, character in enumerate(manager):
        # A byte that is not UTF-8 is U+FFFD to Go, which can be printed.
        if not character.isprintable() and not "\udc80" <= character <= "\udcff":
            message = f"invalid character U+{ord(character):04X} (at position {len(utf8.encoded(manager[:i]))})"
            errors.append(field.invalid(path, manager, message))


def _managed_fields(entries: Sequence[ManagedFieldsEntry], path: Path, errors: list[FieldError]) -> None:
    for i, entry in enumerate(entries):
        at = path.index(i)
        if entry.operation not in ("Apply", "Update"):
            errors.append(field.invalid(at.child("operation"), entry.operation, "must be `Apply` or `Update`"))
        if entry.fields_type and entry.fields_type != "FieldsV1":
            errors.append(field.invalid(at.child("fieldsType"), entry.fields_type, "must be `FieldsV1`"))
        field_manager(entry.manager, at.child("manager"), errors)
        if len(entry.subresource.encode()) > _MAX_SUBRESOURCE_BYTES:
            errors.append(field.too_long(at.child("subresource"), _MAX_SUBRESOURCE_BYTES))


def object_meta(
    meta: ObjectMeta,
    errors: list[FieldError],
    *,
    namespaced: bool = True,
    name_check: NameCheck = dns_subdomain_name,
    path: Path | None = None,
) -> None:
    """The metadata of an object to be created, after its name was generated."""
    at = path or Path("metadata")
    if meta.generate_name:
        errors.extend(
            field.invalid(at.child("generateName"), meta.generate_name, message)
            for message in name_check(meta.generate_name, True)
        )
    if not meta.name:
        errors.append(field.required(at.child("name"), "name or generateName is required"))
    else:
        errors.extend(field.invalid(at.child("name"), meta.name, message) for message in name_check(meta.name, False))
    if namespaced:
        if not meta.namespace:
            errors.append(field.required(at.child("namespace"), ""))
        else:
            dns1123_label(meta.namespace, at.child("namespace"), errors)
    elif meta.namespace:
        errors.append(field.forbidden(at.child("namespace"), "not allowed on this type"))
    if meta.generation:
        nonnegative(meta.generation, at.child("generation"), errors)
    if meta.labels:
        labels(meta.labels, at.child("labels"), errors)
    if meta.annotations:
        annotation_map(meta.annotations, at.child("annotations"), errors)
    if meta.owner_references:
        _owner_references(meta.owner_references, at.child("ownerReferences"), errors)
    if meta.finalizers:
        _finalizers(meta.finalizers, at.child("finalizers"), errors)
    if meta.managed_fields:
        _managed_fields(meta.managed_fields, at.child("managedFields"), errors)
    for i, finalizer in enumerate(meta.finalizers):
        standard_finalizer(finalizer, at.child("finalizers").index(i), errors)


def object_meta_update(new: ObjectMeta, old: ObjectMeta, errors: list[FieldError], *, path: Path | None = None) -> None:
    """What an update must leave alone. System fields that a client left out were restored before."""
    at = path or Path("metadata")
    if old.deletion_timestamp:
        added = sorted(set(new.finalizers) - set(old.finalizers))
        if added:
            quoted = ", ".join(f'"{name}"' for name in added)
            message = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{quoted}}}"
            )
            errors.append(field.forbidden(at.child("finalizers"), message))
    if not new.resource_version:
        message = "must be specified for an update"
        errors.append(field.invalid(at.child("resourceVersion"), new.resource_version, message))
    if new.generation < old.generation:
        errors.append(field.invalid(at.child("generation"), new.generation, "must not be decremented"))
    immutable(new.name, old.name, at.child("name"), errors)
    immutable(new.namespace, old.namespace, at.child("namespace"), errors)
    immutable(new.uid, old.uid, at.child("uid"), errors)
    immutable(new.creation_timestamp or None, old.creation_timestamp or None, at.child("creationTimestamp"), errors)
    immutable(new.deletion_timestamp or None, old.deletion_timestamp or None, at.child("deletionTimestamp"), errors)
    immutable(
        new.deletion_grace_period_seconds,
        old.deletion_grace_period_seconds,
        at.child("deletionGracePeriodSeconds"),
        errors,
    )
    labels(new.labels, at.child("labels"), errors)
    annotation_map(new.annotations, at.child("annotations"), errors)
    _owner_references(new.owner_references, at.child("ownerReferences"), errors)
    _managed_fields(new.managed_fields, at.child("managedFields"), errors)
    for i, finalizer in enumerate(new.finalizers):
        standard_finalizer(finalizer, at.child("finalizers").index(i), errors)
