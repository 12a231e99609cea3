"""An OpenAPI v2 document in protobuf, the form in which client-go asks for it.

Source: the messages of package openapi.v2 in gnostic's OpenAPIv2.proto. Only what our documents contain is encoded; a
key that has no place here raises ValueError, so that nothing is lost unseen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

Encoder = Callable[[Any], bytes]

_BYTES = 2
_VARINT = 0


def encode(document: Mapping[str, Any]) -> bytes:
    """A Document message. Definitions may be JSON (msgspec.Raw)."""
    return _document(document)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tagged(number: int, payload: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(payload)) + payload


def _text(value: str) -> bytes:
    return value.encode()


def _any(value: Any) -> bytes:
    # Any.yaml; JSON is YAML.
    return _tagged(2, msgspec.json.encode(value) + b"\n")


def _named(encoder: Encoder, number: int = 1) -> Encoder:
    """A map: repeated NamedX {name, value} under `number`."""

    def encode(values: Mapping[str, Any]) -> bytes:
        return b"".join(
            _tagged(number, _tagged(1, name.encode()) + _tagged(2, encoder(value))) for name, value in values.items()
        )

    return encode


def _wrapped(encoder: Encoder, *numbers: int) -> Encoder:
    """A message inside messages that have only this field each, the outermost first."""

    def encode(value: Any) -> bytes:
        payload = encoder(value)
        for number in reversed(numbers):
            payload = _tagged(number, payload)
        return payload

    return encode


class _Message:
    """Fields by JSON name: (number, encoder), where an encoder of None is a boolean, and lists repeat the field.

    extension: the number of the field for keys that begin with "x-"."""

    def __init__(self, extension: int = 0, **fields: tuple[int, Encoder | None]) -> None:
        self._extension = extension
        self._fields = fields

    def define(self, fields: Mapping[str, tuple[int, Encoder | None]]) -> None:
        self._fields.update(fields)

    def __call__(self, value: Mapping[str, Any]) -> bytes:
        parts = []
        for name, item in value.items():
            if self._extension and name.startswith("x-"):
                parts.append(_tagged(self._extension, _tagged(1, name.encode()) + _tagged(2, _any(item))))
                continue
            if name not in self._fields:
                raise ValueError(f"no place for {name!r} in this message")
            number, encoder = self._fields[name]
            if encoder is None:
                parts.append(_varint(number << 3 | _VARINT) + _varint(bool(item)))
            elif isinstance(item, list):
                parts += (_tagged(number, encoder(element)) for element in item)
            else:
                parts.append(_tagged(number, encoder(item)))
        return b"".join(parts)


_schema = _Message(31)


def _definition(value: Any) -> bytes:
    return _schema(msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value)


_schema.define(
    {
        "$ref": (1, _text),
        "format": (2, _text),
        "description": (4, _text),
        "default": (5, _any),
        "required": (19, _text),
        "enum": (20, _any),
        "additionalProperties": (21, _wrapped(_schema, 1)),
        "type": (22, _wrapped(_text, 1)),
        "items": (23, _wrapped(_schema, 1)),
        "properties": (25, _named(_schema)),
    }
)

_body_parameter = _Message(6, **{"description": (1, _text), "name": (2, _text), "in": (3, _text)})
_body_parameter.define({"required": (4, None), "schema": (5, _schema)})

_query_parameter = _Message(23, **{"required": (1, None), "in": (2, _text), "description": (3, _text)})
_query_parameter.define({"name": (4, _text), "type": (6, _text), "format": (7, _text), "uniqueItems": (20, None)})

_path_parameter = _Message(22, **{"required": (1, None), "in": (2, _text), "description": (3, _text)})
_path_parameter.define({"name": (4, _text), "type": (5, _text), "format": (6, _text), "uniqueItems": (19, None)})

_reference = _Message(0, **{"$ref": (1, _text)})


def _parameter(value: Mapping[str, Any]) -> bytes:
    match value["in"]:
        case "body":
            return _tagged(1, _body_parameter(value))
        case "query":
            return _tagged(2, _tagged(3, _query_parameter(value)))
        case "path":
            return _tagged(2, _tagged(4, _path_parameter(value)))
        case place:
            raise ValueError(f"no place for parameters in {place}")


def _parameter_item(value: Mapping[str, Any]) -> bytes:
    return _tagged(2, _reference(value)) if "$ref" in value else _tagged(1, _parameter(value))


_response = _Message(5, description=(1, _text), schema=(2, _wrapped(_schema, 1)))
_operation = _Message(
    13,
    tags=(1, _text),
    summary=(2, _text),
    description=(3, _text),
    operationId=(5, _text),
    produces=(6, _text),
    consumes=(7, _text),
    parameters=(8, _parameter_item),
    responses=(9, _named(_wrapped(_response, 1))),
)
_path_item = _Message(
    10,
    get=(2, _operation),
    put=(3, _operation),
    post=(4, _operation),
    delete=(5, _operation),
    patch=(8, _operation),
    parameters=(9, _parameter_item),
)
_document = _Message(
    16,
    swagger=(1, _text),
    info=(2, _Message(7, title=(1, _text), version=(2, _text))),
    paths=(8, _named(_path_item, 2)),
    definitions=(9, _named(_definition)),
    parameters=(10, _named(_parameter)),
)
