"""Namespaces."""

from __future__ import annotations

from podling.api import field
from podling.api.core.v1 import Namespace
from podling.api.field import FieldError, Path
from podling.api.validation import meta

_FINALIZERS = Path("spec").child("finalizers")
_PHASE = Path("status").child("Phase")


def _finalizer(finalizer: str, path: Path, errors: list[FieldError]) -> None:
    meta.qualified_name(finalizer, path, errors)
    meta.standard_finalizer(finalizer, path, errors)


def validate_create(namespace: Namespace) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(namespace.metadata, errors, namespaced=False, name_check=meta.dns_label_name)
    for finalizer in namespace.spec.finalizers:
        _finalizer(finalizer, _FINALIZERS, errors)
    return errors


def validate_update(new: Namespace, old: Namespace) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    return errors


def validate_status_update(new: Namespace, old: Namespace) -> list[FieldError]:
    errors = validate_update(new, old)
    deleted = bool(new.metadata.deletion_timestamp)
    expected = "Terminating" if deleted else "Active"
    if new.status.phase != expected:
        condition = "is not empty" if deleted else "is empty"
        message = f"may only be '{expected}' if `deletionTimestamp` {condition}"
        errors.append(field.invalid(_PHASE, new.status.phase, message))
    return errors


def validate_finalize(new: Namespace, old: Namespace) -> list[FieldError]:
    """PUT namespaces/<name>/finalize."""
    errors = validate_update(new, old)
    for i, finalizer in enumerate(new.spec.finalizers):
        _finalizer(finalizer, _FINALIZERS.index(i), errors)
    return errors
