"""Objects as a client wants to see them: whole, as a Table, or only their metadata."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aiohttp.web import Response, StreamResponse

from podling.api import codec, status
from podling.api.meta.v1 import ListMeta
from podling.apiserver import conversion, list_body, offload, responses, table
from podling.apiserver.call import Call
from podling.apiserver.negotiation import JSON, Accepted, Shape
from podling.apiserver.partial import partial

_BOOKMARK = "BOOKMARK"


async def send_object(call: Call, value: bytes, accepted: Accepted, *, code: int = 200) -> Response:
    """Answers with one stored object."""
    value = await offload.run(offload.is_large(value), _shown, call, value, accepted)
    return await responses.send(call, value, code=code, media_type=accepted.media_type)


def _shown(call: Call, value: bytes, accepted: Accepted) -> bytes:
    """Return a stored object in the form that the client wants. Raises ApiError (400)."""
    value = conversion.from_stored(call.resource, value)
    if accepted.shape is Shape.TABLE:
        value = codec.encode(table.of_object(call, value, accepted.api_version))
    elif accepted.shape is not Shape.OBJECT:
        value = partial(value, accepted.api_version)
    return value


async def send_list(call: Call, values: Sequence[bytes], metadata: ListMeta, accepted: Accepted) -> StreamResponse:
    """Answers with stored objects as a list."""
    return await responses.send_pieces(call, list_body.pieces(call, values, metadata, accepted), accepted.media_type)


def event_renderer(call: Call, accepted: Accepted) -> Callable[[str, bytes], bytes]:
    """From type and stored object to the line of a watch. Raises ApiError: 406 for what cannot be streamed, 400."""
    if accepted.media_type != JSON:
        raise status.not_acceptable((f"{JSON};stream=watch",))
    if accepted.shape is Shape.TABLE:
        table.included(call)
    converted = call.resource != call.registry.resource
    first = True

    def render(type_: str, value: bytes) -> bytes:
        nonlocal first
        if converted and type_ != _BOOKMARK:
            value = conversion.from_stored(call.resource, value)
        if accepted.shape is Shape.TABLE:
            if type_ == _BOOKMARK:
                value = codec.encode(table.of_bookmark(value, accepted.api_version))
            else:
                value = codec.encode(table.of_object(call, value, accepted.api_version, columns=first))
                first = False
        elif accepted.shape is not Shape.OBJECT:
            value = partial(value, accepted.api_version)
        return b'{"type":"' + type_.encode() + b'","object":' + value + b"}\n"

    return render
