"""Access reviews. Source: upstream pkg/apis/authorization/validation."""

from __future__ import annotations

from msgspec.structs import replace

from podling.api import field
from podling.api.authorization.v1 import (
    LocalSubjectAccessReview,
    SelfSubjectAccessReview,
    SelfSubjectAccessReviewSpec,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from podling.api.field import FieldError, Path
from podling.api.meta.v1 import ObjectMeta

_SPEC = Path("spec")


def validate_access_review(
    review: SelfSubjectAccessReview | SubjectAccessReview | LocalSubjectAccessReview,
) -> list[FieldError]:
    """What POST of a review of one action carries."""
    errors = _spec(review.spec)
    metadata = replace(review.metadata, managed_fields=[])
    if not isinstance(review, LocalSubjectAccessReview):
        if metadata != ObjectMeta():
            errors.append(field.invalid("metadata", review.metadata, "must be empty"))
        return errors
    if replace(metadata, namespace="") != ObjectMeta():
        errors.append(field.invalid("metadata", review.metadata, "must be empty except for namespace"))
    resource, path = review.spec.resource_attributes, review.spec.non_resource_attributes
    if resource is not None and resource.namespace != metadata.namespace:
        at = _SPEC.child("resourceAttributes", "namespace")
        errors.append(field.invalid(at, resource.namespace, "must match metadata.namespace"))
    if path is not None:
        at = _SPEC.child("nonResourceAttributes")
        errors.append(field.invalid(at, path, "disallowed on this kind of request"))
    return errors


def _spec(spec: SelfSubjectAccessReviewSpec | SubjectAccessReviewSpec) -> list[FieldError]:
    errors: list[FieldError] = []
    resource, path = spec.resource_attributes, spec.non_resource_attributes
    if resource is not None and path is not None:
        text = "cannot be specified in combination with resourceAttributes"
        errors.append(field.invalid(_SPEC.child("nonResourceAttributes"), path, text))
    if resource is None and path is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        errors.append(field.invalid(_SPEC.child("resourceAttributes"), None, text))
    if isinstance(spec, SubjectAccessReviewSpec) and not spec.user and not spec.groups:
        text = "at least one of user or group must be specified"
        errors.append(field.invalid(_SPEC.child("user"), spec.user, text))
    selector = resource.field_selector if resource is not None else None
    if selector is None:
        return errors
    at = _SPEC.child("resourceAttributes", "fieldSelector")
    if selector.raw_selector and selector.requirements:
        text = "may not specified at the same time as requirements"
        errors.append(field.invalid(at.child("rawSelector"), selector.raw_selector, text))
    if not selector.raw_selector and not selector.requirements:
        text = f"when {at} is specified, requirements or rawSelector is required"
        errors.append(field.required(at.child("requirements"), text))
    return errors
