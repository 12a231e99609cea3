"""The options of create, update, patch and delete: dryRun, fieldValidation, fieldManager, force.

Source: ValidateCreateOptions and its siblings in k8s.io/apimachinery/pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct
from multidict import MultiMapping

from podling.api import field, status
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import DeleteOptions
from podling.api.validation import meta

IGNORE, WARN, STRICT = "Ignore", "Warn", "Strict"

_KINDS = {"create": "CreateOptions", "update": "UpdateOptions", "patch": "PatchOptions"}
_FIELD_VALIDATIONS = ("", IGNORE, STRICT, WARN)
_POLICIES = ("Foreground", "Background", "Orphan")


class WriteOptions(Struct, frozen=True):
    dry_run: bool = False
    field_validation: str = WARN


_DEFAULT = WriteOptions()


def parse(verb: str, query: MultiMapping[str]) -> WriteOptions:
    """Return the options that a query gives. Raises ApiError (422)."""
    if not query:
        return _DEFAULT
    dry_run, validation = query.getall("dryRun", []), query.get("fieldValidation", "")
    errors: list[FieldError] = []
    if verb == "patch" and "force" in query:
        errors.append(field.forbidden("force", "may not be specified for non-apply patch"))
    meta.field_manager(query.get("fieldManager", ""), Path("fieldManager"), errors)
    errors += _dry_run_errors(dry_run)
    if validation not in _FIELD_VALIDATIONS:
        errors.append(field.not_supported("fieldValidation", validation, _FIELD_VALIDATIONS))
    if errors:
        raise status.invalid(f"{_KINDS.get(verb, 'Options')}.meta.k8s.io", "", errors)
    return WriteOptions(bool(dry_run), validation or WARN)


def check_delete(options: DeleteOptions) -> None:
    """Raises ApiError (422)."""
    policy, errors = options.propagation_policy, []
    if policy is not None and options.orphan_dependents is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(field.invalid("propagationPolicy", policy, text))
    if policy not in (None, *_POLICIES):
        errors.append(field.not_supported("propagationPolicy", policy, (*_POLICIES, "nil")))
    errors += _dry_run_errors(options.dry_run)
    if errors:
        raise status.invalid("DeleteOptions.meta.k8s.io", "", errors)


def _dry_run_errors(values: Iterable[str]) -> list[FieldError]:
    given = list(values)
    return [] if set(given) <= {"All"} else [field.not_supported("dryRun", given, ("All",))]
