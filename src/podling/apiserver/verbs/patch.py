"""PATCH: JSON patches, merge patches and strategic merge patches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp.web import StreamResponse

from podling.api import codec, status
from podling.api.patch import json_patch, merge, strategic
from podling.apiserver import conversion, decoding, negotiation, offload, output
from podling.apiserver.call import Call
from podling.apiserver.verbs.update import check_identity
from podling.store.protocol import Entry

JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
_SERVER_SIDE_APPLY = ("application/apply-patch+yaml", "application/apply-patch+cbor")
SUPPORTED = (JSON_PATCH, MERGE_PATCH, STRATEGIC_PATCH)


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    content_type = call.request.headers.get("Content-Type", "") or "application/octet-stream"
    if content_type.partition(";")[0].strip().lower() in _SERVER_SIDE_APPLY:
        raise status.unsupported_media_type(SUPPORTED, "server-side apply is not implemented by Podling yet")
    media_type = negotiation.content_type(content_type, SUPPORTED)
    body = await call.body()
    # A few operations (copy) make a large object out of a small one.
    call.large = call.large or media_type == JSON_PATCH
    apply = await offload.run(call.large, _patcher, media_type, call, body)
    level, warned = call.options.field_validation, len(call.warnings)
    resource = call.resource

    def change(entry: Entry) -> Any:
        current = msgspec.json.decode(conversion.from_stored(resource, entry.value))
        patched = apply(current)
        del call.warnings[warned:]
        obj = decoding.from_document(call, patched, resource, level)
        check_identity(call, obj)
        return conversion.to_stored(resource, obj)

    result = await call.registry.update(
        call.namespace, call.info.name, change, call.caller(), subresource=call.info.subresource, retry=True
    )
    return await output.send_object(call, result.value, accepted)


def _patcher(media_type: str, call: Call, body: bytes) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """From the current document to the patched one; what that raises is an ApiError. Raises ApiError (400, 413)."""
    try:
        patch = codec.decode_json(negotiation.to_json(body, negotiation.JSON)[0])
    except codec.DecodeError as error:
        raise status.bad_request(f"error decoding patch: {error}") from error
    if media_type == JSON_PATCH and isinstance(patch, list) and len(patch) > json_patch.MAX_OPERATIONS:
        text = f"The allowed maximum operations in a JSON patch is {json_patch.MAX_OPERATIONS}, got {len(patch)}"
        raise status.request_entity_too_large(text)

    def apply(document: dict[str, Any]) -> dict[str, Any]:
        if media_type == JSON_PATCH:
            return json_patch.apply(document, patch)
        if media_type == MERGE_PATCH:
            return merge.apply(document, patch)
        return strategic.apply(document, patch, call.resource.type)

    return apply
