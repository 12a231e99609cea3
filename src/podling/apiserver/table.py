"""Objects as Tables: what `kubectl get` asks for."""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from podling.api import codec, field, printers, status
from podling.api.meta.v1 import ListMeta, ObjectMeta, Table, TableRow
from podling.apiserver.call import Call
from podling.apiserver.partial import partial

_INCLUDES = ("None", "Metadata", "Object")


class _Versioned(msgspec.Struct):
    metadata: ObjectMeta


_versioned = msgspec.json.Decoder(_Versioned)


def of_list(call: Call, values: Sequence[bytes], metadata: ListMeta, api_version: str) -> Table:
    """The table of a list. Raises ApiError (422)."""
    return _table(call, values, metadata, api_version, columns=True)


def of_object(call: Call, value: bytes, api_version: str, *, columns: bool = True) -> Table:
    """The table of one object. Raises ApiError (422)."""
    metadata = ListMeta(resource_version=_versioned.decode(value).metadata.resource_version)
    return _table(call, [value], metadata, api_version, columns=columns)


def of_bookmark(value: bytes, api_version: str) -> Table:
    """A bookmark as a table without rows."""
    return Table(
        api_version=api_version, metadata=ListMeta(resource_version=_versioned.decode(value).metadata.resource_version)
    )


def _table(call: Call, values: Sequence[bytes], metadata: ListMeta, api_version: str, *, columns: bool) -> Table:
    """columns: whether the definitions are told; in a watch only the first event has them."""
    include = call.query.get("includeObject") or "Metadata"
    if include not in _INCLUDES:
        raise status.invalid("TableOptions.meta.k8s.io", "", [field.not_supported("includeObject", include, _INCLUDES)])
    kind = call.resource.type
    printer = printers.of(kind)
    now = time.time()
    rows = [_row(printer.row(codec.decode(kind, value), now), value, include, api_version) for value in values]
    definitions = list(printer.columns) if columns else []
    return Table(api_version=api_version, metadata=metadata, column_definitions=definitions, rows=rows)


def _row(row: TableRow, value: bytes, include: str, api_version: str) -> TableRow:
    if include != "None":
        row.object = msgspec.Raw(value if include == "Object" else partial(value, api_version))
    return row
