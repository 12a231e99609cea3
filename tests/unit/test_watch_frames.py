"""What a watch carries besides changes, as kube-apiserver writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from podling.api.core.v1 import Namespace
from podling.api.status import ApiError
from podling.client.client import Client, ClientConfig, EventType

BOOKMARK = (
    b'{"type":"BOOKMARK","object":{"kind":"Namespace","metadata":{"resourceVersion":"12","creationTimestamp":null}}}\n'
)
ERROR = (
    b'{"type":"ERROR","object":{"kind":"Status","metadata":{},"status":"Failure","message":"too old","reason":"Expired",'
    b'"code":410}}\n'
)


def test_a_bookmark_with_nulls_is_read_and_an_error_raised(tmp_path: Path) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(BOOKMARK + ERROR)
        return response

    async def check() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "socket")).start()
        try:
            async with Client(ClientConfig(socket=str(tmp_path / "socket"))) as client:
                watch = client.watch(Namespace)
                event = await anext(watch)
                assert (event.type, event.object.metadata.resource_version) == (EventType.BOOKMARK, "12")
                with pytest.raises(ApiError) as raised:
                    await anext(watch)
                assert raised.value.code == 410
        finally:
            await runner.cleanup()

    asyncio.run(check())
