"""Values as Go's encoding/json prints upstream's internal types: for errors that show a whole struct.

Internal types have no JSON names: their fields are printed under Go's names, all of them, empty or not, in their order.
The types of the meta group are internal and external at once, and print as they do in every answer.
"""

from __future__ import annotations

import base64
from typing import Any

import msgspec

from podling.api import shape
from podling.api.meta import v1 as meta
from podling.api.quantity import Quantity
from podling.api.types import Object

_INITIALISMS = {"ip": "IP", "se": "SE", "uid": "UID", "tls": "TLS", "http": "HTTP", "tcp": "TCP", "grpc": "GRPC"}
_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def dump(value: object) -> str:
    """Return the JSON text."""
    text = msgspec.json.encode(_plain(value)).decode()
    return "".join(_HTML.get(char, char) for char in text)


def _plain(value: object) -> Any:
    if isinstance(value, Object):
        if type(value).__module__ == meta.__name__:
            return msgspec.to_builtins(value)
        fields = shape.fields(type(value)).values()
        return {_name(field.name): _plain(_value(value, field)) for field in fields}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value] or None
    if isinstance(value, dict):
        return {key: _plain(value[key]) for key in sorted(value)} or None
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    return str(value) if isinstance(value, Quantity) else value


def _value(owner: Object, field: shape.Field) -> object:
    value = getattr(owner, field.attribute)
    return None if value == "" and field.shape.kind in (shape.TIME, shape.MICRO_TIME) else value


def _name(wire: str) -> str:
    """The name of a field in Go: targetPort -> TargetPort, seLinuxOptions -> SELinuxOptions, uid -> UID."""
    head = "".join(char if char.islower() else " " for char in wire).split(" ")[0]
    return _INITIALISMS.get(head, head.capitalize()) + wire[len(head) :]
