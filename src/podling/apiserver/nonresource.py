"""Paths that are not about objects: health, version, metrics, discovery, OpenAPI, keys."""

from __future__ import annotations

import asyncio

import msgspec
from aiohttp.web import StreamResponse

from podling.api import status
from podling.apiserver import discovery, health, responses, storage_report, version
from podling.apiserver.call import Call
from podling.apiserver.document import Document

_PATHS = ("/api", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz", "/version")


async def handle(call: Call) -> StreamResponse:
    """Raises ApiError (404, 405)."""
    path = call.info.path.rstrip("/") or "/"
    if call.request.method not in ("GET", "HEAD"):
        raise status.method_not_supported("", call.info.verb)
    parts = path.strip("/").split("/")
    if parts[0] in health.ENDPOINTS:
        return health.handle(parts[0], "/".join(parts[1:]), call.query, call.state.checks(parts[0]))
    if path == "/":
        return await responses.send(call, msgspec.json.encode({"paths": list(_PATHS)}))
    if path == "/version":
        return await responses.send(call, msgspec.json.encode(version.document()))
    if path == "/metrics":
        return responses.text(call.state.metrics.render() + storage_report.metrics(call.state.store))
    document = await _document(call, path, parts[0])
    if document is None:
        return responses.text("404 page not found\n", code=404)
    return await responses.document(call, document)


async def _document(call: Call, path: str, root: str) -> Document | None:
    accept = call.request.headers.get("Accept", "")
    if root in ("api", "apis"):
        return discovery.handle(path, accept, call.request.host)
    if root == "openapi":
        from podling.apiserver import openapi  # rarely asked for

        etag = call.request.headers.get("If-None-Match", "")
        return await asyncio.to_thread(openapi.handle, path, call.query, accept, etag)
    return None
