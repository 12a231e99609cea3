"""Resources that show what another resource stores: events.k8s.io/v1 shows the Events of v1 under other names."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import codec, scheme
from podling.api.core.v1 import Event as CoreEvent
from podling.api.events.v1 import Event
from podling.api.scheme import Resource

_EVENTS = scheme.by_type(Event)
_STORED_NAMES = {
    "deprecatedCount": "count",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedSource": "source",
    "note": "message",
    "regarding": "involvedObject",
    "reportingController": "reportingComponent",
}
_SHOWN_NAMES = {stored: shown for shown, stored in _STORED_NAMES.items()}


def stored_resource(resource: Resource) -> Resource:
    """The resource whose objects are stored: the same, but for events."""
    return scheme.by_type(CoreEvent) if resource == _EVENTS else resource


def to_stored(resource: Resource, obj: Any) -> Any:
    """An object as it is stored, from how the resource shows it."""
    if resource != _EVENTS:
        return obj
    document = _renamed(codec.to_builtins(obj), _STORED_NAMES)
    return codec.convert({**document, "apiVersion": "v1"}, CoreEvent)


def shown_event(obj: CoreEvent) -> Event:
    """Return a core Event as events.k8s.io shows it."""
    document = _renamed(codec.to_builtins(obj), _SHOWN_NAMES)
    return codec.convert({**document, "apiVersion": _EVENTS.api_version}, Event)


def from_stored(resource: Resource, value: bytes) -> bytes:
    """The bytes of an object as the resource shows it, from those stored."""
    if resource != _EVENTS:
        return value
    document = _renamed(msgspec.json.decode(value), _SHOWN_NAMES)
    return msgspec.json.encode({**document, "apiVersion": _EVENTS.api_version})


def _renamed(document: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    return {names.get(key, key): value for key, value in document.items()}
