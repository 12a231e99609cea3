"""Kubernetes' protobuf encoding of request bodies: kubectl's typed commands and client-go send it.

A body is "k8s\\0" and a runtime.Unknown with apiVersion, kind and the object's message. Messages become plain documents,
as JSON would give them. The numbers of the fields are in protobuf_fields.json (from the generated.proto files of
k8s.io/api): for each struct the JSON names by number from 1 on, "~<struct>" for one that JSON has inline. Answers are
never protobuf: clients that send it accept JSON as well.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Hashable, Iterator
from functools import cache
from importlib.resources import files
from typing import Any, cast

from podling.api import shape, time
from podling.api.shape import Field, Shape
from podling.kit import document_error

MAGIC = b"k8s\x00"

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_DEPTH = 64


class ProtobufError(ValueError):
    """Not a message of that type."""


def decode(body: bytes, kind: type[Any]) -> tuple[dict[str, Any], list[str]]:
    """The document (with apiVersion and kind, as far as the body names them) and what was not understood in it.

    Raises ProtobufError; KeyError for types that cannot be decoded (see `decodes`)."""
    if not body.startswith(MAGIC):
        raise ProtobufError("provided data does not appear to be a protobuf message, expected prefix 6b 38 73 00")
    type_meta, raw = b"", b""
    for number, _, value in _fields(memoryview(body)[len(MAGIC) :]):
        if number == 1 and not isinstance(value, int):
            type_meta = bytes(value)
        elif number == 2 and not isinstance(value, int):
            raw = bytes(value)
    document: dict[str, Any] = {}
    for number, _, value in _fields(memoryview(type_meta)):
        if number in (1, 2):
            document["apiVersion" if number == 1 else "kind"] = _text(value)
    unknown: list[str] = []
    document.update(_message(memoryview(raw), kind, _name(kind), unknown, 0))
    return document, unknown


def decodes(kind: type[Any]) -> bool:
    """Whether bodies of this type are understood."""
    return _name(kind) in _table()


@cache
def _table() -> dict[str, list[str]]:
    text = files("podling.apiserver").joinpath("protobuf_fields.json").read_text()
    table: dict[str, list[str]] = json.loads(text)
    return table


def _name(kind: type[Any]) -> str:
    return f"{kind.__module__.removeprefix('podling.api.')}.{kind.__name__}"


def _message(data: memoryview, kind: type[Any], table_name: str, unknown: list[str], depth: int) -> dict[str, Any]:
    """A message as the JSON object of `kind`. table_name: whose numbers count (another's for inlined structs)."""
    if depth > _MAX_DEPTH:
        raise ProtobufError("nested too deeply")
    names, known = _table()[table_name], shape.fields(cast(Hashable, kind))
    document: dict[str, Any] = {}
    for number, wire, value in _fields(data):
        name = names[number - 1] if number <= len(names) else ""
        if not name:
            unknown.append(f"unknown field {number} of {table_name}")
        elif name.startswith("~"):
            document.update(_message(_view(value), kind, name[1:], unknown, depth + 1))
        else:
            _set(document, known[name], wire, value, unknown, depth)
    return document


def _set(
    document: dict[str, Any], field: Field, wire: int, value: int | memoryview, unknown: list[str], depth: int
) -> None:
    name, kind = field.name, field.shape
    if kind.kind == shape.LIST:
        assert kind.item is not None
        items = document.setdefault(name, [])
        if wire == _BYTES and kind.item.kind in (shape.INT32, shape.INT64, shape.BOOLEAN):
            items += [_scalar(kind.item, number) for number in _packed(_view(value))]
        else:
            items.append(_value(kind.item, value, unknown, depth))
    elif kind.kind == shape.MAP:
        assert kind.item is not None
        key, item = _entry(kind.item, _view(value), unknown, depth)
        document.setdefault(name, {})[key] = item
    else:
        decoded = _value(kind, value, unknown, depth)
        if not _is_absent(field, decoded):
            document[name] = decoded


def _is_absent(field: Field, value: object) -> bool:
    """What is no pointer in Go is always sent, and its zero means that it is not set."""
    match field.shape.kind:
        case shape.INT_OR_STRING:
            return value == 0
        case shape.INT32 | shape.INT64 | shape.BOOLEAN:
            return not value and not field.pointer and not field.required
    return value == "" and not field.pointer


def _entry(item: Shape, data: memoryview, unknown: list[str], depth: int) -> tuple[str, Any]:
    """One entry of a map; lists as values are wrapped in a message of their own."""
    key, value = "", None
    for number, _, content in _fields(data):
        if number == 1:
            key = _text(content)
        elif item.kind == shape.LIST:
            value = [_text(part) for inner, _, part in _fields(_view(content)) if inner == 1]
        else:
            value = _value(item, content, unknown, depth)
    if value is None:  # an empty value is left out of its entry
        value = [] if item.kind == shape.LIST else _value(item, memoryview(b""), unknown, depth)
    return key, value


def _value(kind: Shape, value: int | memoryview, unknown: list[str], depth: int) -> Any:
    match kind.kind:
        case shape.STRUCT:
            assert kind.struct is not None
            return _message(_view(value), kind.struct, _name(kind.struct), unknown, depth + 1)
        case shape.STRING:
            return _text(value)
        case shape.BYTES:
            return bytes(_view(value))
        case shape.QUANTITY:
            return _only(value)
        case shape.TIME | shape.MICRO_TIME:
            return _time(_view(value), micro=kind.kind == shape.MICRO_TIME)
        case shape.INT_OR_STRING:
            return _int_or_string(_view(value))
        case shape.ANY:
            content = {number: part for number, _, part in _fields(_view(value))}.get(1, memoryview(b"null"))
            return _json(bytes(_view(content)) or b"null")
        case shape.FLOAT:
            return struct.unpack("<d", _view(value))[0]
    return _scalar(kind, value)


def _scalar(kind: Shape, value: int | memoryview) -> int | bool:
    if not isinstance(value, int):
        if len(value):
            raise ProtobufError("a number is expected")
        value = 0
    if kind.kind == shape.BOOLEAN:
        return bool(value)
    return value - (1 << 64) if value >= 1 << 63 else value


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ProtobufError(f"a field with JSON holds none: {document_error.reason(error)}") from error


def _only(value: int | memoryview) -> str:
    """The text in a message whose one field it is (a quantity)."""
    return next((_text(part) for number, _, part in _fields(_view(value)) if number == 1), "")


def _time(data: memoryview, *, micro: bool) -> str:
    parts = {number: value for number, _, value in _fields(data)}
    seconds, nanoseconds = _scalar(Shape(shape.INT64), parts.get(1, 0)), _scalar(Shape(shape.INT64), parts.get(2, 0))
    if not parts:
        return ""
    if not time.EARLIEST <= seconds <= time.LATEST:
        raise ProtobufError(f"a time out of range: {seconds}")
    text = time.from_seconds(seconds)
    return f"{text[:-1]}.{nanoseconds // 1000:06}Z" if micro else text


def _int_or_string(data: memoryview) -> int | str:
    parts = {number: value for number, _, value in _fields(data)}
    if parts.get(1):
        return _text(parts.get(3, memoryview(b"")))
    return int(_scalar(Shape(shape.INT32), parts.get(2, 0)))


def _text(value: int | memoryview) -> str:
    try:
        return bytes(_view(value)).decode()
    except UnicodeDecodeError as error:
        raise ProtobufError("string field contains invalid UTF-8") from error


def _view(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ProtobufError("a number where text or a message is expected")
    return value


def _packed(data: memoryview) -> Iterator[int]:
    position = 0
    while position < len(data):
        number, position = _varint(data, position)
        yield number


def _fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Number, wire type and value of every field of a message, in order."""
    position = 0
    while position < len(data):
        key, position = _varint(data, position)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise ProtobufError("illegal field number 0")
        if wire == _VARINT:
            value: int | memoryview
            value, position = _varint(data, position)
        elif wire in (_BYTES, _FIXED64, _FIXED32):
            size = 8 if wire == _FIXED64 else 4
            if wire == _BYTES:
                size, position = _varint(data, position)
            if position + size > len(data):
                raise ProtobufError("unexpected EOF")
            value = data[position : position + size]
            position += size
        else:
            raise ProtobufError(f"illegal wire type {wire}")
        yield number, wire, value


def _varint(data: memoryview, position: int) -> tuple[int, int]:
    result = shift = 0
    while True:
        if position >= len(data):
            raise ProtobufError("unexpected EOF")
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result & 0xFFFF_FFFF_FFFF_FFFF, position
        shift += 7
        if shift > 63:
            raise ProtobufError("integer overflow")
