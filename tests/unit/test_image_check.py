"""The question whether a tag has moved, put to a small registry with token authentication."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from podling.api import image_name
from podling.runtime.native.image_check import RegistryCheck
from podling.runtime.protocol import AuthConfig

DIGEST = "sha256:" + "1" * 64
ALICE = AuthConfig(username="alice", password="wonderland")


class TokenRegistry:
    """Gives tokens to alice, or to everybody if `public`; answers HEAD of team/app:1 to those who have one."""

    def __init__(self, *, public: bool) -> None:
        self._public = public
        self.token_answer: bytes | None = None
        self.seen: list[str] = []
        self.address = ""

    async def token(self, request: web.Request) -> web.Response:
        self.seen.append(f"token {request.query['scope']}")
        if self.token_answer is not None:
            return web.Response(body=self.token_answer)
        alice = "Basic " + base64.b64encode(b"alice:wonderland").decode()
        if self._public or request.headers.get("Authorization") == alice:
            return web.json_response({"token": f"for-{request.query['service']}"})
        return web.Response(status=401)

    async def manifest(self, request: web.Request) -> web.Response:
        self.seen.append("manifest")
        if request.headers.get("Authorization") != "Bearer for-test":
            challenge = f'Bearer realm="http://{self.address}/token",service="test",scope="ignored"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})
        return web.Response(headers={"Docker-Content-Digest": DIGEST})

    async def run(self, test: Callable[[], Coroutine[Any, Any, None]]) -> None:
        app = web.Application()
        app.add_routes(
            [
                web.get("/token", self.token),
                web.head("/v2/team/app/manifests/1", self.manifest),
                web.get("/v2/team/app/tags/list", self.manifest),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        self.address = f"{host}:{port}"
        try:
            await test()
        finally:
            await runner.cleanup()


@pytest.mark.parametrize(
    ("public", "auth", "reference", "digests", "unchanged"),
    [
        (True, None, "team/app:1", [DIGEST], True),
        (True, None, "team/app:1", ["sha256:" + "2" * 64], False),
        (True, None, "team/app:2", [DIGEST], False),
        (False, None, "team/app:1", [DIGEST], False),
        (False, ALICE, "team/app:1", ["sha256:" + "2" * 64, DIGEST], True),
        (False, AuthConfig(username="alice", password="wrong"), "team/app:1", [DIGEST], False),
    ],
)
def test_only_a_plain_yes_counts(
    tmp_path: Path, public: bool, auth: AuthConfig | None, reference: str, digests: list[str], unchanged: bool
) -> None:
    registry = TokenRegistry(public=public)

    async def test() -> None:
        check = RegistryCheck(tmp_path / "absent.conf")
        name = image_name.parse(f"{registry.address}/{reference}")
        try:
            assert await check.unchanged(name, digests, auth) is unchanged
        finally:
            await check.close()

    asyncio.run(registry.run(test))
    if unchanged:
        assert registry.seen == ["manifest", "token repository:team/app:pull", "manifest"]


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"null",
        b'"token"',
        b'{"token": 5}',
        b"[" * 100_000,
        b'{"token": "a\\nb: c"}',
        b" " * (2 << 20) + b"{}",
    ],
    ids=lambda answer: answer[:20].decode(),
)
def test_token_that_is_none_is_no_yes(tmp_path: Path, answer: bytes) -> None:
    registry = TokenRegistry(public=True)
    registry.token_answer = answer

    async def test() -> None:
        check = RegistryCheck(tmp_path / "absent.conf")
        try:
            assert not await check.unchanged(image_name.parse(f"{registry.address}/team/app:1"), [DIGEST], None)
        finally:
            await check.close()

    asyncio.run(registry.run(test))


@pytest.mark.parametrize(
    ("public", "auth", "reference", "known"),
    [
        (True, None, "team/app:2", True),
        (True, None, "team/other:1", False),
        (False, None, "team/app:2", None),
        (False, ALICE, "team/app:2", True),
    ],
)
def test_the_registry_is_asked_whether_it_has_the_repository(
    tmp_path: Path, public: bool, auth: AuthConfig | None, reference: str, known: bool | None
) -> None:
    registry = TokenRegistry(public=public)

    async def test() -> None:
        check = RegistryCheck(tmp_path / "absent.conf")
        try:
            name = image_name.parse(f"{registry.address}/{reference}")
            assert await check.knows_repository(name, auth) is known
        finally:
            await check.close()

    asyncio.run(registry.run(test))


@pytest.mark.parametrize(
    "conf",
    [
        "blocked = true",
        'mirror-by-digest-only = true\n[[registry.mirror]]\nlocation = "127.0.0.1:1"',
        '[[registry.mirror]]\nlocation = "127.0.0.1:1"\ninsecure = true',
    ],
)
def test_what_skopeo_would_ask_elsewhere_is_left_to_it(tmp_path: Path, conf: str) -> None:
    registry = TokenRegistry(public=True)

    async def test() -> None:
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nprefix = "quay.io"\nlocation = "{registry.address}"\ninsecure = true\n{conf}\n'
        )
        check = RegistryCheck(tmp_path / "registries.conf")
        try:
            assert not await check.unchanged(image_name.parse("quay.io/team/app:1"), [DIGEST], None)
        finally:
            await check.close()

    asyncio.run(registry.run(test))
    assert registry.seen == []
