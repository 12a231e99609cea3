"""What every request handler works with."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, cast

from msgspec import Struct, field

from podling.api import scheme
from podling.api.scheme import Resource
from podling.apiserver.authentication import Authenticator
from podling.apiserver.authorization import Authorizer
from podling.apiserver.health import Check, Checks
from podling.apiserver.kubelet_client import KubeletClient
from podling.apiserver.metrics import Metrics
from podling.apiserver.registry import Registry
from podling.apiserver.tokens import TokenIssuer
from podling.store.protocol import Event, Store


class State(Struct, kw_only=True, eq=False):
    store: Store
    registries: dict[Resource, Registry[Any]]
    authenticator: Authenticator
    authorizer: Authorizer
    tokens: TokenIssuer
    kubelets: KubeletClient
    metrics: Metrics
    streams: set[asyncio.Timeout] = field(default_factory=set)
    """Of every open watch and log stream: rescheduled to now, they end properly."""
    ready: bool = False
    """Whether what has to exist from the beginning exists."""
    stopping: bool = False

    def registry(self, kind: type[Any]) -> Registry[Any]:
        """Of an API type."""
        return self.registries[scheme.by_type(kind)]

    def checks(self, endpoint: str) -> Checks:
        """The single checks of /healthz, /livez or /readyz."""
        checks: dict[str, Check] = {"ping": lambda: "", "log": lambda: "", "etcd": lambda: self.store.problem}
        checks["poststarthook/bootstrap"] = lambda: "" if self.ready else "not finished"
        if endpoint == "readyz":
            checks["shutdown"] = lambda: "process is shutting down" if self.stopping else ""
        return checks

    def find(self, kind: type[Any], namespace: str, name: str) -> Any:
        """The stored object, or None (also for kinds that are not served)."""
        registry = self._registry(kind)
        return None if registry is None else registry.find(namespace, name)

    async def find_soon(self, kind: type[Any], namespace: str, name: str, seconds: float) -> Any:
        """As find(), but waits so long for the object to appear."""
        found = self.find(kind, namespace, name)
        if found is not None or not seconds:
            return found
        key = self.registry(kind).key(namespace, name)
        stream = cast(AsyncGenerator[Event, None], self.store.watch(key, since=self.store.revision))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), contextlib.aclosing(stream):
                async for event in stream:
                    if event.key == key:
                        break
        return self.find(kind, namespace, name)

    async def list_all(self, kind: type[Any], namespace: str = "") -> list[Any]:
        """The stored objects of a kind (none for kinds that are not served)."""
        registry = self._registry(kind)
        return [] if registry is None else await registry.list_all(namespace)

    def _registry(self, kind: type[Any]) -> Registry[Any] | None:
        try:
            return self.registry(kind)
        except KeyError:
            return None

    def end_streams(self) -> None:
        """Ends every watch and log stream, as their timeout would."""
        now = asyncio.get_running_loop().time()
        for timeout in self.streams:
            timeout.reschedule(now)
