"""Which checks belong to which kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from podling.api import scheme
from podling.api.coordination.v1 import Lease
from podling.api.core import v1 as core
from podling.api.events.v1 import Event as NewEvent
from podling.api.field import FieldError
from podling.api.validation import (
    config,
    endpoints,
    event,
    lease,
    meta,
    namespace,
    node,
    pod,
    pod_status,
    pod_update,
    service,
)


class _Checks(NamedTuple):
    create: Callable[[Any], list[FieldError]]
    update: Callable[[Any, Any], list[FieldError]]
    status: Callable[[Any, Any], list[FieldError]]


def _metadata_create(obj: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(obj.metadata, errors, namespaced=scheme.by_type(type(obj)).namespaced)
    return errors


def _metadata_update(new: Any, old: Any) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    return errors


def _core_event_create(obj: core.Event) -> list[FieldError]:
    errors = event.validate_core(obj)
    if not errors:
        # Events of the core group may have names that no other kind may have.
        meta.object_meta(obj.metadata, errors, name_check=meta.path_segment_name)
    return errors


def _core_event_update(new: core.Event, old: core.Event) -> list[FieldError]:
    return [*_metadata_update(new, old), *event.validate_core(new)]


_METADATA_ONLY = _Checks(_metadata_create, _metadata_update, _metadata_update)

_CHECKS: dict[type, _Checks] = {
    core.Pod: _Checks(pod.validate_create, pod_update.validate_update, pod_status.validate_status_update),
    core.ConfigMap: _Checks(config.validate_config_map, config.validate_config_map_update, _metadata_update),
    core.Secret: _Checks(config.validate_secret, config.validate_secret_update, _metadata_update),
    core.Namespace: _Checks(namespace.validate_create, namespace.validate_update, namespace.validate_status_update),
    core.Node: _Checks(node.validate_create, node.validate_update, node.validate_update),
    core.Service: _Checks(service.validate_create, service.validate_update, service.validate_status_update),
    core.Endpoints: _Checks(endpoints.validate_create, endpoints.validate_update, _metadata_update),
    core.Event: _Checks(_core_event_create, _core_event_update, _core_event_update),
    NewEvent: _Checks(event.validate_new, event.validate_new_update, event.validate_new_update),
    Lease: _Checks(lease.validate_create, lease.validate_update, _metadata_update),
}


def validate_create(obj: Any) -> list[FieldError]:
    """What is wrong with a new object, after name generation, defaulting and admission; empty if nothing is.

    Kinds without rules of their own have their metadata checked.
    """
    return _CHECKS.get(type(obj), _METADATA_ONLY).create(obj)


def validate_update(new: Any, old: Any) -> list[FieldError]:
    """What is wrong with replacing `old` by `new`, both of one type; status is not looked at."""
    return _CHECKS.get(type(new), _METADATA_ONLY).update(new, old)


def validate_status_update(new: Any, old: Any) -> list[FieldError]:
    """What is wrong with an update through the subresource status."""
    return _CHECKS.get(type(new), _METADATA_ONLY).status(new, old)
