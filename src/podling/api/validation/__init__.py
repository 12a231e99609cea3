"""Validation of API objects as upstream Kubernetes 1.36: every mistake at once, with its texts and field paths."""

from podling.api.validation.access_review import validate_access_review
from podling.api.validation.dispatch import validate_create, validate_status_update, validate_update
from podling.api.validation.pod import validate_binding, validate_template
from podling.api.validation.pod_update import validate_ephemeral_containers_update, validate_resize
from podling.api.validation.warnings import warnings

__all__ = [
    "validate_access_review",
    "validate_binding",
    "validate_create",
    "validate_ephemeral_containers_update",
    "validate_resize",
    "validate_status_update",
    "validate_template",
    "validate_update",
    "warnings",
]
