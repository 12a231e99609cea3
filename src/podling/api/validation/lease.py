"""Leases."""

from __future__ import annotations

from podling.api import field
from podling.api.coordination.v1 import Lease, LeaseSpec
from podling.api.field import FieldError, Path
from podling.api.validation import meta

_SPEC = Path("spec")
_STRATEGIES = ("OldestEmulationVersion",)


def validate_create(lease: Lease) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(lease.metadata, errors)
    _spec(lease.spec, errors)
    return errors


def validate_update(new: Lease, old: Lease) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    _spec(new.spec, errors)
    return errors


def _spec(spec: LeaseSpec, errors: list[FieldError]) -> None:
    duration, transitions = spec.lease_duration_seconds, spec.lease_transitions
    if duration is not None and duration <= 0:
        errors.append(field.invalid(_SPEC.child("leaseDurationSeconds"), duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        message = "must be greater than or equal to 0"
        errors.append(field.invalid(_SPEC.child("leaseTransitions"), transitions, message))
    if spec.strategy is not None:
        # Upstream names the field twice.
        at = _SPEC.child("strategy").child("strategy")
        if "/" in spec.strategy:
            meta.qualified_name(spec.strategy, at, errors)
        elif spec.strategy not in _STRATEGIES:
            errors.append(field.not_supported(at, spec.strategy, _STRATEGIES))
    if spec.preferred_holder and not spec.strategy:
        message = "may only be specified if `strategy` is defined"
        errors.append(field.forbidden(_SPEC.child("preferredHolder"), message))
