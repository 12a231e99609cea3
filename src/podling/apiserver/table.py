"""Objects as Tables: what `kubectl get` asks for."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from podling.api import codec, field, printers, status
from podling.api.meta.v1 import ListMeta, Table, TableRow
from podling.apiserver.call import Call
from podling.apiserver.partial import metadata_of, partial

_INCLUDES = ("None", "Metadata", "Object")


def frame(call: Call, metadata: ListMeta, api_version: str) -> Table:
    """The table of a list without its rows. Raises ApiError (400)."""
    included(call)
    columns = list(printers.of(call.resource.type).columns)
    return Table(api_version=api_version, metadata=metadata, column_definitions=columns)


def row_encoder(call: Call, api_version: str) -> Callable[[bytes], bytes]:
    """From a stored object to its row. Raises ApiError (400)."""
    row = _rows(call, api_version)
    return lambda value: codec.encode(row(value))


def of_object(call: Call, value: bytes, api_version: str, *, columns: bool = True) -> Table:
    """The table of one object. Raises ApiError (400).

    columns: whether the definitions are told; in a watch only the first event has them."""
    metadata = ListMeta(resource_version=metadata_of(value).resource_version)
    definitions = list(printers.of(call.resource.type).columns) if columns else []
    row = _rows(call, api_version)(value)
    return Table(api_version=api_version, metadata=metadata, column_definitions=definitions, rows=[row])


def of_bookmark(value: bytes, api_version: str) -> Table:
    """A bookmark as a table without rows."""
    return Table(api_version=api_version, metadata=ListMeta(resource_version=metadata_of(value).resource_version))


def _rows(call: Call, api_version: str) -> Callable[[bytes], TableRow]:
    include, kind, now = included(call), call.resource.type, time.time()
    printer = printers.of(kind)

    def row(value: bytes) -> TableRow:
        made = printer.row(codec.decode(kind, value), now)
        if include != "None":
            made.object = msgspec.Raw(value if include == "Object" else partial(value, api_version))
        return made

    return row


def included(call: Call) -> str:
    """How much of an object stands in its row. Raises ApiError (400)."""
    include = call.query.get("includeObject") or "Metadata"
    if include not in _INCLUDES:
        problem = field.invalid("includeObject", include, "must be 'Metadata', 'Object', 'None', or empty")
        raise status.bad_request(f"Unable to convert to Table as requested: {problem}")
    return include
