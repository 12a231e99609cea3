"""The controllers at work on this repository's API server, with Nodes and Pod statuses made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from tests.support.api_server import ApiServer, own_namespace, running
from tests.support.objects import make_pod

from podling.api.core.v1 import (
    ConfigMap,
    Endpoints,
    Event,
    Namespace,
    Node,
    Pod,
    Secret,
    Service,
    ServiceAccount,
)
from podling.api.status import ApiError
from podling.apiserver.pki import PKI
from podling.apiserver.tokens import TokenIssuer
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers.manager import Manager

T = TypeVar("T", Pod, Node, Namespace, Endpoints, ConfigMap, Secret, Service, ServiceAccount, Event)
ROOT_CA = b"-----BEGIN CERTIFICATE-----\n"


class Bench:
    """A namespace, and views of the cluster that tell of changes."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.informers = InformerSet(client)
        self._seen: list[Any] = []
        self._changed = asyncio.Event()

    def view(self, type: type[T]) -> Informer[T]:
        informer = self.informers.of(type)
        if informer not in self._seen:
            self._seen.append(informer)
            informer.add_handler(self._on_change)
        return informer

    def _on_change(self, type: EventType, obj: Any, old: Any) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], Any]) -> Any:
        """The first true value of `holds`, asked again after every change."""
        while not (value := holds()):
            self._changed.clear()
            await self._changed.wait()
        return value

    async def exists(self, type: type[T], name: str, namespace: str | None = None) -> T:
        view = self.view(type)
        found: T = await self.until(lambda: view.get(self.namespace if namespace is None else namespace, name))
        return found

    async def gone(self, type: type[T], name: str, namespace: str | None = None) -> None:
        """Returns when the object is no more, for this view and for the server."""
        namespace = self.namespace if namespace is None else namespace
        view = self.view(type)
        await view.synced()
        while True:
            await self.until(lambda: view.get(namespace, name) is None)
            try:
                await self.client.get(type, name, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return
            self._changed.clear()
            await self._changed.wait()

    async def running_pod(self, name: str, ip: str, *, node: str = "", ready: str = "True", **fields: Any) -> Pod:
        """A Pod that some kubelet is said to run."""
        pod = await self.client.create(make_pod(name, self.namespace, nodeName=node, **fields))
        await self.report(name, ip, ready=ready)
        return pod

    async def report(self, name: str, ip: str, *, ready: str = "True") -> None:
        status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}
        await self.client.patch(
            Pod, name, self.namespace, {"status": status}, content_type="strategic", subresource="status"
        )


Test = Callable[[Bench], Awaitable[None]]


@asynccontextmanager
async def bench(client: Client) -> AsyncIterator[Bench]:
    async with own_namespace(client) as name:
        it = Bench(client, name)
        async with running(it.informers.run()):
            yield it


def run(server: ApiServer, test: Test) -> None:
    """With all controllers."""

    sign = TokenIssuer(PKI(server.directory / "data" / "pki").service_account_key).issue_for_secret

    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            server.client() as client,
            server.client() as own,
            bench(client) as it,
            running(Manager(own, root_ca=ROOT_CA, sign_token=sign).run()),
        ):
            await test(it)

    asyncio.run(scenario())
