"""What a watch carries besides changes, as kube-apiserver writes it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import web

from podling.api.core.v1 import Namespace
from podling.api.status import ApiError
from podling.client.client import Client, ClientConfig, EventType
from podling.client.informer import Informer

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


@pytest.mark.parametrize("garbled", [b"<html>", b'{"type":"NEWS","object":{}}'])
def test_an_informer_outlasts_answers_that_are_none(tmp_path: Path, garbled: bytes) -> None:
    item = b'{"metadata":{"name":"a","resourceVersion":"2"}}'
    lists = [garbled, b'{"metadata":{"resourceVersion":"1"},"items":null}', b'{"items":[' + item + b"]}"]
    seen = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(body=garbled + b"\n" if "watch" in request.query else lists.pop(0))

    async def check() -> None:
        app = web.Application()
        app.router.add_get("/api/v1/namespaces", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(tmp_path / "socket")).start()
        try:
            async with Client(ClientConfig(socket=str(tmp_path / "socket"))) as client:
                informer = Informer(client, Namespace)
                informer.add_handler(lambda type, obj, old: seen.set())
                running = asyncio.create_task(informer.run())
                found = asyncio.create_task(seen.wait())
                async with asyncio.timeout(20):
                    await asyncio.wait((running, found), return_when=asyncio.FIRST_COMPLETED)
                assert not running.done()
                assert informer.get("", "a") is not None
                running.cancel()
        finally:
            await runner.cleanup()

    asyncio.run(check())
