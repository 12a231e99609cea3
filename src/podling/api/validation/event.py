"""Events, of the core group and of events.k8s.io.

Source: pkg/apis/core/validation/events.go. Errors name the core type's fields for both, as upstream's do; what is
written through events.k8s.io has to meet the stricter rules of that group.
"""

from __future__ import annotations

from podling.api import field, names
from podling.api.core.v1 import Event, ObjectReference
from podling.api.events.v1 import Event as NewEvent
from podling.api.field import FieldError, Path
from podling.api.validation import meta

_MAX_NAME = 128
_MAX_NOTE = 1024
_UNSET = "needs to be unset"
_OTHER_NAMESPACE = "does not match event.namespace"


def validate_core(event: Event) -> list[FieldError]:
    """Creation and update through the core group."""
    errors: list[FieldError] = []
    _common(
        errors,
        namespace=event.metadata.namespace,
        involved=event.involved_object,
        event_time=event.event_time,
        controller=event.reporting_component,
        instance=event.reporting_instance,
        action=event.action,
        reason=event.reason,
        message=event.message,
    )
    return errors


def _common_new(event: NewEvent, errors: list[FieldError]) -> None:
    _common(
        errors,
        namespace=event.metadata.namespace,
        involved=event.regarding,
        event_time=event.event_time,
        controller=event.reporting_controller,
        instance=event.reporting_instance,
        action=event.action,
        reason=event.reason,
        message=event.note,
    )


def validate_new(event: NewEvent) -> list[FieldError]:
    """Creation through events.k8s.io."""
    errors: list[FieldError] = []
    _common_new(event, errors)
    meta.object_meta(event.metadata, errors)
    _series(event, errors)
    if not event.event_time:
        errors.append(field.required(Path("eventTime"), ""))
    if event.type not in ("Normal", "Warning"):
        errors.append(field.invalid(Path("type"), "", f"has invalid value: {event.type}"))
    for wire, value in (
        ("firstTimestamp", event.deprecated_first_timestamp),
        ("lastTimestamp", event.deprecated_last_timestamp),
        ("count", event.deprecated_count),
        ("source", event.deprecated_source.component or event.deprecated_source.host),
    ):
        if value:
            errors.append(field.invalid(Path(wire), "", _UNSET))
    return errors


def validate_new_update(new: NewEvent, old: NewEvent) -> list[FieldError]:
    """Update through events.k8s.io: only the series changes."""
    errors: list[FieldError] = []
    _common_new(new, errors)
    meta.object_meta_update(new.metadata, old.metadata, errors)
    if new.series != old.series:
        _series(new, errors)
    for wire, after, before in (
        ("involvedObject", new.regarding, old.regarding),
        ("reason", new.reason, old.reason),
        ("message", new.note, old.note),
        ("source", new.deprecated_source, old.deprecated_source),
        ("firstTimestamp", new.deprecated_first_timestamp, old.deprecated_first_timestamp),
        ("lastTimestamp", new.deprecated_last_timestamp, old.deprecated_last_timestamp),
        ("count", new.deprecated_count or 0, old.deprecated_count or 0),
        ("type", new.type, old.type),
        ("eventTime", new.event_time, old.event_time),
        ("action", new.action, old.action),
        ("related", new.related, old.related),
        ("reportingController", new.reporting_controller, old.reporting_controller),
        ("reportingInstance", new.reporting_instance, old.reporting_instance),
    ):
        meta.immutable(after, before, Path(wire), errors)
    return errors


def _series(event: NewEvent, errors: list[FieldError]) -> None:
    if event.series is None:
        return
    at = Path("series")
    if event.series.count < 2:
        errors.append(field.invalid(at.child("count"), "", "should be at least 2"))
    if not event.series.last_observed_time:
        errors.append(field.required(at.child("lastObservedTime"), ""))


def _common(
    errors: list[FieldError],
    *,
    namespace: str,
    involved: ObjectReference,
    event_time: str | None,
    controller: str,
    instance: str,
    action: str,
    reason: str,
    message: str,
) -> None:
    at = Path("involvedObject").child("namespace")
    if not event_time:
        # An old-style event.
        agree = namespace == involved.namespace if involved.namespace else namespace in ("", "default")
        if not agree:
            errors.append(field.invalid(at, involved.namespace, _OTHER_NAMESPACE))
    else:
        if not involved.namespace and namespace not in ("default", "kube-system"):
            errors.append(field.invalid(at, involved.namespace, _OTHER_NAMESPACE))
        if not controller:
            errors.append(field.required(Path("reportingController"), ""))
        meta.qualified_name(controller, Path("reportingController"), errors)
        for wire, value in (("reportingInstance", instance), ("action", action), ("reason", reason)):
            if not value:
                errors.append(field.required(Path(wire), ""))
            if len(value.encode()) > _MAX_NAME:
                errors.append(field.invalid(Path(wire), "", f"can have at most {_MAX_NAME} characters"))
        if len(message.encode()) > _MAX_NOTE:
            errors.append(field.invalid(Path("message"), "", f"can have at most {_MAX_NOTE} characters"))
    errors.extend(field.invalid(Path("namespace"), namespace, text) for text in names.dns1123_subdomain(namespace))
