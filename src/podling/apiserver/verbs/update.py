"""PUT of an object or of its status."""

from __future__ import annotations

from typing import Any

from aiohttp.web import StreamResponse

from podling.api import codec, status
from podling.apiserver import conversion, decoding, output
from podling.apiserver.call import Call
from podling.store.protocol import Entry


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    obj = conversion.to_stored(call.resource, await decoding.read_object(call, call.resource))
    check_identity(call, obj)
    # Preparing an update changes the object, so a second attempt needs it as it came.
    original = None if obj.metadata.resource_version else codec.encode(obj)
    attempts = 0

    def wanted(entry: Entry | None = None) -> Any:
        nonlocal attempts
        attempts += 1
        return obj if attempts == 1 or original is None else call.registry.decode(original)

    result = await call.registry.update(
        call.namespace, call.info.name, wanted, call.caller(), subresource=call.info.subresource, create=wanted
    )
    return await output.send_object(call, result.value, accepted, code=201 if result.created else 200)


def check_identity(call: Call, obj: Any) -> None:
    """The object must be the one that the path names. Raises ApiError (400)."""
    metadata, name = obj.metadata, call.info.name
    metadata.name = metadata.name or name
    if metadata.name != name:
        raise status.bad_request(
            f"the name of the object ({metadata.name}) does not match the name on the URL ({name})"
        )
    if not call.resource.namespaced:
        metadata.namespace = ""
        return
    metadata.namespace = metadata.namespace or call.namespace
    if metadata.namespace != call.namespace:
        raise status.bad_request(
            f"the namespace of the object ({metadata.namespace}) does not match the namespace on the request "
            f"({call.namespace})"
        )
