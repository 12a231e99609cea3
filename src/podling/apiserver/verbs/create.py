"""POST to a collection."""

from __future__ import annotations

from typing import Any

from aiohttp.web import StreamResponse

from podling.api import status
from podling.apiserver import conversion, decoding, output
from podling.apiserver.call import Call


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    obj = conversion.to_stored(call.resource, await decoding.read_object(call, call.resource))
    check_namespace(call, obj)
    result = await call.registry.create(obj, call.namespace, call.caller())
    return await output.send_object(call, result.value, accepted, code=201)


def check_namespace(call: Call, obj: Any) -> None:
    """An object may name no other namespace than the path, and none where it has none. Raises ApiError (400)."""
    if not call.resource.namespaced:
        obj.metadata.namespace = ""
    elif obj.metadata.namespace and obj.metadata.namespace != call.namespace:
        raise status.bad_request(
            "the namespace of the provided object does not match the namespace sent on the request"
        )
