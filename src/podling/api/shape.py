"""What the API structs look like from outside: wire names, types and merge metadata of their fields.

Read by decode errors, strict decoding, patches and OpenAPI. Shapes are made when first asked for and kept.
"""

from __future__ import annotations

import sys
import types
from dataclasses import dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin

import msgspec

from podling.api.quantity import Quantity
from podling.api.types import Int32, Int64, Merge, MicroTime, Object, Time

STRING = "string"
BYTES = "bytes"
BOOLEAN = "boolean"
INT32 = "int32"
INT64 = "int64"
FLOAT = "float64"
QUANTITY = "quantity"
TIME = "time"
MICRO_TIME = "micro-time"
INT_OR_STRING = "int-or-string"
ANY = "any"
STRUCT = "struct"
LIST = "list"
MAP = "map"

_NO_MERGE = Merge()


@dataclass(frozen=True, slots=True)
class Shape:
    """A type. `kind` is one of the constants above; `struct` is set for structs, `item` for lists and maps."""

    kind: str
    struct: type[Object] | None = None
    item: Shape | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its wire name, attribute, shape, how it merges, and whether it is always encoded."""

    name: str
    attribute: str
    shape: Shape
    merge: Merge
    required: bool
    pointer: bool


_SCALARS: dict[Any, Shape] = {
    str: Shape(STRING),
    bytes: Shape(BYTES),
    bool: Shape(BOOLEAN),
    int: Shape(INT64),
    float: Shape(FLOAT),
    Any: Shape(ANY),
    Quantity: Shape(QUANTITY),
    Int32: Shape(INT32),
    Int64: Shape(INT64),
    Time: Shape(TIME),
    MicroTime: Shape(MICRO_TIME),
}


@cache
def of(type_: Any) -> Shape:
    """The shape of an annotation. Raises TypeError for what no API struct holds."""
    if type_ in _SCALARS:
        return _SCALARS[type_]
    origin, arguments = get_origin(type_), get_args(type_)
    if origin in (Union, types.UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return of(inner[0]) if len(inner) == 1 else Shape(INT_OR_STRING)
    if origin is list:
        return Shape(LIST, item=of(arguments[0]))
    if origin is dict:
        return Shape(MAP, item=of(arguments[1]))
    if isinstance(type_, type) and issubclass(type_, Object):
        return Shape(STRUCT, struct=type_)
    raise TypeError(f"no API type: {type_!r}")


@cache
def fields(struct: type[Object]) -> dict[str, Field]:
    """The fields of a struct by wire name."""
    module = sys.modules[struct.__module__]
    merges: dict[str, Merge] = getattr(module, "MERGE", {}).get(struct, {})
    found = {}
    for info in msgspec.structs.fields(struct):
        found[info.encode_name] = Field(
            info.encode_name,
            info.name,
            of(info.type),
            merges.get(info.name, _NO_MERGE),
            info.default is msgspec.NODEFAULT and info.default_factory not in (list, dict),
            type(None) in get_args(info.type),
        )
    return found


def is_atomic(struct: type[Object]) -> bool:
    """Whether server-side apply replaces the struct as a whole."""
    return struct in getattr(sys.modules[struct.__module__], "ATOMIC", ())
