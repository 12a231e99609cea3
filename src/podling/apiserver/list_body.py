"""The body of a list, in pieces made from the stored bytes while they are sent.

A list may be larger than the memory that is left, and a client may read it slowly or not at all. So at any time there is
one piece of it beside the store; making it takes turns with all other work of the event loop.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence

from msgspec import Struct

from podling.api import codec
from podling.api.meta.v1 import ListMeta
from podling.apiserver import conversion, negotiation, offload, table
from podling.apiserver.call import Call
from podling.apiserver.negotiation import YAML, Accepted, Shape
from podling.apiserver.partial import partial
from podling.kit.time_slice import TimeSlice

PIECE = 128 << 10
"""Bytes from which on a piece is sent. Larger are those that end with a large object."""


class Frame(Struct, frozen=True):
    """What stands around and between the items."""

    head: bytes
    separator: bytes
    tail: bytes


async def pieces(
    call: Call, values: Sequence[bytes], metadata: ListMeta, accepted: Accepted
) -> AsyncGenerator[bytes, None]:
    """The list of these stored objects as the client wants to see it. Raises ApiError (422) before the first piece."""
    frame = _frame(call, metadata, accepted)
    item = _item(call, accepted)
    if accepted.media_type == YAML:
        frame, item = _yaml_frame(frame, empty=not values), _yaml_item(item)
    elif call.for_people:
        frame, item = _indented_frame(frame, empty=not values), _indented_item(item)
    parts, size, time_slice = [frame.head], len(frame.head), TimeSlice()
    for number, value in enumerate(values):
        if number:
            parts.append(frame.separator)
        parts.append(await offload.run(accepted.media_type == YAML or len(value) > offload.LARGE, item, value))
        size += len(parts[-1])
        if size >= PIECE:
            yield b"".join(parts)
            parts, size = [], 0
        if time_slice.over:
            await time_slice.next()
    parts.append(frame.tail)
    yield b"".join(parts)


def _frame(call: Call, metadata: ListMeta, accepted: Accepted) -> Frame:
    if accepted.shape is Shape.TABLE:
        whole = codec.encode(table.frame(call, metadata, accepted.api_version))
    else:
        kind, api_version = f"{call.resource.kind}List", call.resource.api_version
        if accepted.shape is not Shape.OBJECT:
            kind, api_version = "PartialObjectMetadataList", accepted.api_version
        whole = empty(kind, api_version, metadata)
    return Frame(whole.removesuffix(b"]}"), b",", b"]}\n")


def empty(kind: str, api_version: str, metadata: ListMeta) -> bytes:
    """The JSON of a list without items."""
    return (
        f'{{"kind":"{kind}","apiVersion":"{api_version}","metadata":'.encode()
        + codec.encode(metadata)
        + b',"items":[]}'
    )


def _item(call: Call, accepted: Accepted) -> Callable[[bytes], bytes]:
    """From a stored object to the item of the list."""
    if accepted.shape is Shape.TABLE:
        shown: Callable[[bytes], bytes] = table.row_encoder(call, accepted.api_version)
    elif accepted.shape is Shape.OBJECT:
        shown = _same
    else:

        def shown(value: bytes) -> bytes:
            return partial(value, accepted.api_version)

    if call.resource == call.registry.resource:
        return shown
    return lambda value: shown(conversion.from_stored(call.resource, value))


def _same(value: bytes) -> bytes:
    return value


_MARK = b"podling.items"
_INDENT = b"\n    "


def _indented_frame(frame: Frame, *, empty: bool) -> Frame:
    """The same frame with a line for each field, as the items have it."""
    if empty:
        return Frame(negotiation.indented(frame.head + frame.tail), b"", b"")
    mark = b'"' + _MARK + b'"'
    head, tail = negotiation.indented(frame.head + mark + frame.tail).split(mark)
    return Frame(head, b"," + _INDENT, tail)


def _indented_item(item: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda value: negotiation.indented(item(value)).rstrip().replace(b"\n", _INDENT)


def _yaml_frame(frame: Frame, *, empty: bool) -> Frame:
    """The same frame in YAML, whose items stand below one another."""
    whole = frame.head + frame.tail
    if empty:
        return Frame(negotiation.to_yaml(whole), b"", b"")
    head, tail = negotiation.to_yaml(frame.head + b'"' + _MARK + b'"' + frame.tail).split(b"- " + _MARK + b"\n")
    return Frame(head, b"", tail)


def _yaml_item(item: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    return lambda value: negotiation.to_yaml(b"[" + item(value) + b"]")
