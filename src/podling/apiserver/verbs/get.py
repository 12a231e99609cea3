"""GET of one object."""

from __future__ import annotations

from aiohttp.web import StreamResponse

from podling.apiserver import freshness, output
from podling.apiserver.call import Call
from podling.apiserver.list_options import parse_revision


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    await freshness.wait(call.state.store, parse_revision(call.query.get("resourceVersion", "")))
    entry = call.registry.entry(call.namespace, call.info.name)
    return await output.send_object(call, entry.value, accepted)
