"""Tokens of service accounts that volumes show: when they are asked for, and who may read them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from podling.api import codec, status
from podling.api import time as times
from podling.api.authentication.v1 import TokenRequest, TokenRequestStatus
from podling.api.core.v1 import Pod, ServiceAccountTokenProjection
from podling.client.client import ConnectionFailed
from podling.kubelet.service_account_tokens import ServiceAccountTokens, TokenError
from podling.kubelet.volumes import atomic_writer
from podling.kubelet.volumes.content import Space, payload

DAY = 24 * 3600


class Server:
    """Grants what is asked for and numbers it, or fails."""

    def __init__(self) -> None:
        self.now = 1_000_000_000.0
        self.requests: list[TokenRequest] = []
        self.failure: Exception | None = None

    async def create_subresource(
        self, type: Any, name: str, namespace: str, subresource: str, request: TokenRequest
    ) -> TokenRequest:
        if self.failure is not None:
            raise self.failure
        self.requests.append(request)
        assert (name, namespace, subresource) == ("builder", "ns", "token")
        expires = times.from_seconds(self.now + (request.spec.expiration_seconds or 3600))
        request.status = TokenRequestStatus(token=f"token{len(self.requests)}", expiration_timestamp=expires)
        return request


def make(**spec: Any) -> Pod:
    spec = {"serviceAccountName": "builder", "containers": [{"name": "a"}, {"name": "b"}], **spec}
    return codec.convert({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": spec}, Pod)


def projection(**fields: Any) -> ServiceAccountTokenProjection:
    return ServiceAccountTokenProjection(**{"path": "token", "expiration_seconds": 3600, **fields})


def tokens_of(server: Server) -> ServiceAccountTokens:
    return ServiceAccountTokens(server, lambda: server.now)  # type: ignore[arg-type]


def test_a_token_is_bound_to_its_pod_and_asked_for_once() -> None:
    server = Server()
    tokens = tokens_of(server)

    async def twice() -> list[str]:
        return [await tokens.get(make(), projection(audience="vault")) for _ in range(2)]

    assert asyncio.run(twice()) == ["token1", "token1"]
    spec = server.requests[0].spec
    assert (spec.audiences, spec.expiration_seconds) == (["vault"], 3600)
    bound = spec.bound_object_ref
    assert bound is not None
    assert (bound.api_version, bound.kind, bound.name, bound.uid) == ("v1", "Pod", "web", "u")


@pytest.mark.parametrize(("life", "due"), [(600, 480), (3600, 2880), (DAY, 0.8 * DAY), (10 * DAY, DAY)])
def test_a_token_is_refreshed_at_80_percent_of_its_life_or_after_a_day(life: int, due: float) -> None:
    server = Server()
    tokens = tokens_of(server)
    wanted = projection(expiration_seconds=life)

    async def test() -> None:
        start = server.now
        await tokens.get(make(), wanted)
        at = tokens.refresh_at("u")
        assert at is not None
        assert start + due - 11 <= at <= start + due
        server.now = at - 1
        assert await tokens.get(make(), wanted) == "token1"
        server.now = at
        assert await tokens.get(make(), wanted) == "token2"
        tokens.forget("u")
        assert tokens.refresh_at("u") is None

    asyncio.run(test())


@pytest.mark.parametrize("failure", [ConnectionFailed("refused"), status.forbidden("serviceaccounts", "builder", "no")])
def test_a_token_that_cannot_be_refreshed_serves_until_it_expires(failure: Exception) -> None:
    server = Server()
    tokens = tokens_of(server)

    async def test() -> None:
        await tokens.get(make(), projection())
        server.now, server.failure = server.now + 3000, failure
        assert await tokens.get(make(), projection()) == "token1"
        again = tokens.refresh_at("u")
        assert again is not None
        assert server.now < again <= server.now + 60
        server.now += 601
        with pytest.raises(TokenError, match="token expired and refresh failed"):
            await tokens.get(make(), projection())
        server.now, server.failure = server.now + 60, None
        assert await tokens.get(make(), projection()) == "token2"

    asyncio.run(test())


@pytest.mark.parametrize(
    ("spec", "mode", "owner"),
    [
        ({}, 0o644, 0),
        ({"securityContext": {"runAsUser": 1000}}, 0o600, 1000),
        ({"securityContext": {"fsGroup": 2000}}, 0o640, 0),
        ({"securityContext": {"runAsUser": 1000, "fsGroup": 2000}}, 0o640, 1000),
        ({"containers": [{"name": "a", "securityContext": {"runAsUser": 7}}, {"name": "b"}]}, 0o644, 0),
        (
            {
                "securityContext": {"runAsUser": 7},
                "containers": [{"name": "a", "securityContext": {"runAsUser": 8}}, {"name": "b"}],
            },
            0o644,
            0,
        ),
    ],
)
def test_whom_the_file_of_a_token_belongs_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], mode: int, owner: int
) -> None:
    sources = [{"serviceAccountToken": {"path": "dir/token", "expirationSeconds": 3600}}]
    pod = make(volumes=[{"name": "v", "projected": {"defaultMode": 0o644, "sources": sources}}], **spec)
    owners: list[tuple[int, int]] = []
    chown: Callable[[Path, int, int], None] = lambda path, user, group: owners.append((user, group))  # noqa: E731
    monkeypatch.setattr(os, "chown", chown)
    content = asyncio.run(payload(pod, pod.spec.volumes[0], None, tokens_of(Server()), {}, Space()))  # type: ignore[arg-type]
    group = pod.spec.security_context.fs_group if pod.spec.security_context else None
    atomic_writer.write(tmp_path, content, group)
    assert (tmp_path / "dir" / "token").read_text() == "token1"
    assert (tmp_path / "dir" / "token").stat().st_mode & 0o777 == mode
    expected = [(owner or -1, -1 if group is None else group)] if owner or group is not None else []
    assert owners == expected
