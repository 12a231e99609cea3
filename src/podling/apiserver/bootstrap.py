"""What has to exist from the first request on: the system's namespaces and the Service "kubernetes" with its Endpoints.

`kubectl delete all --all` in the namespace default takes the Service along, and Pods reach the API server through it, so
whatever goes or is changed is put right at once (upstream's controllers look every 10 and every 60 seconds).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections.abc import AsyncGenerator, Collection
from typing import Any, cast

from podling.api import codec, defaults
from podling.api.core.v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Namespace,
    Service,
    ServicePort,
    ServiceSpec,
)
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.api.status import ApiError
from podling.apiserver.cluster_ip import ClusterIPs
from podling.apiserver.registry import Caller
from podling.apiserver.state import State
from podling.apiserver.strategies.service import ServiceStrategy
from podling.apiserver.user import LOCAL
from podling.client.backoff import Backoff
from podling.store.protocol import Compacted, Event, StoreError

log = logging.getLogger(__name__)

NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SERVICE = "kubernetes"
_CALLER = Caller(LOCAL)
_PORT_NAME = "https"
_LABELS = {"component": "apiserver", "provider": "kubernetes"}


async def prepare(state: State) -> None:
    """Removes what cannot be used, and marks the addresses and ports of the stored Services as taken."""
    await _clear(state)
    strategy = state.registry(Service).strategy
    assert isinstance(strategy, ServiceStrategy)
    for service in await state.list_all(Service):
        strategy.assume(service)


async def keep(state: State, cluster_ips: ClusterIPs, *, address: str, port: int) -> None:
    """Makes again what is deleted or changed. Works until cancelled."""
    changed = asyncio.Event()
    backoff = Backoff(initial=0.1, maximum=10.0, factor=2.0)
    async with asyncio.TaskGroup() as tasks:
        for kind, namespace, names in (
            (Namespace, "", NAMESPACES),
            (Service, "default", (SERVICE,)),
            (Endpoints, "default", (SERVICE,)),
        ):
            tasks.create_task(_notice(state, kind, namespace, names, changed), name=f"watch of {kind.__name__}")
        while True:
            await changed.wait()
            changed.clear()
            try:
                await ensure(state, cluster_ips, address=address, port=port)
            except (ApiError, StoreError) as error:
                log.warning("the system's namespaces and the Service %s: %s", SERVICE, error)
                await asyncio.sleep(backoff.next())
                changed.set()
            else:
                backoff.reset()


async def _notice(
    state: State, kind: type[Any], namespace: str, names: Collection[str], changed: asyncio.Event
) -> None:
    """Set the event after each change of one of the objects."""
    registry = state.registry(kind)
    keys = frozenset(registry.key(namespace, name) for name in names)
    prefix = min(keys) if len(keys) == 1 else registry.prefix(namespace)
    while True:
        # What happened before the watch begins is seen by the pass that follows.
        stream = cast(AsyncGenerator[Event, None], state.store.watch(prefix, since=state.store.revision))
        changed.set()
        with contextlib.suppress(Compacted):
            async with contextlib.aclosing(stream):
                async for event in stream:
                    if event.key in keys:
                        changed.set()


async def ensure(state: State, cluster_ips: ClusterIPs, *, address: str, port: int) -> None:
    """Makes what is missing; address and port are where the API server is reached. Raises ApiError, StoreError."""
    for name in NAMESPACES:
        if state.find(Namespace, "", name) is None:
            namespace = Namespace(metadata=ObjectMeta(name=name))
            defaults.apply(namespace)
            await state.registry(Namespace).create(namespace, "", _CALLER)
    await _ensure_service(state, cluster_ips, port)
    await _ensure_endpoints(state, address, port)


async def _clear(state: State) -> None:
    """Removes what exists and cannot be read, where it is made here: it cannot be made while it is there."""
    own = [(Namespace, "", name) for name in NAMESPACES]
    for kind, namespace, name in (*own, (Service, "default", SERVICE), (Endpoints, "default", SERVICE)):
        registry = state.registry(kind)
        if registry.key(namespace, name) in state.store.unreadable:
            await registry.delete(namespace, name, DeleteOptions(grace_period_seconds=0), _CALLER)


async def _ensure_service(state: State, cluster_ips: ClusterIPs, port: int) -> None:
    wanted = ServicePort(name=_PORT_NAME, port=443, protocol="TCP", target_port=port)
    services = state.registry(Service)
    found: Service | None = services.find("default", SERVICE)
    if found is not None:
        if found.spec.ports != [wanted]:
            await services.modify("default", SERVICE, lambda service: setattr(service.spec, "ports", [wanted]), _CALLER)
        return
    address = cluster_ips.kubernetes
    spec = ServiceSpec(cluster_ip=address, cluster_ips=[address], ports=[wanted])
    service = Service(metadata=ObjectMeta(name=SERVICE, namespace="default", labels=dict(_LABELS)), spec=spec)
    defaults.apply(service)
    await services.create(service, "default", _CALLER)


async def _ensure_endpoints(state: State, address: str, port: int) -> None:
    """Upstream refuses loopback endpoints: a server that only listens there has none."""
    registry = state.registry(Endpoints)
    subsets = []
    if not ipaddress.ip_address(address).is_loopback:
        ports = [EndpointPort(name=_PORT_NAME, port=port, protocol="TCP")]
        subsets = [EndpointSubset(addresses=[EndpointAddress(ip=address)], ports=ports)]
    found: Endpoints | None = registry.find("default", SERVICE)
    if found is None:
        labels = {"endpointslice.kubernetes.io/skip-mirror": "true"}
        metadata = ObjectMeta(name=SERVICE, namespace="default", labels=labels)
        await registry.create(Endpoints(metadata=metadata, subsets=subsets), "default", _CALLER)
    elif codec.encode(found.subsets) != codec.encode(subsets):
        await registry.modify("default", SERVICE, lambda endpoints: setattr(endpoints, "subsets", subsets), _CALLER)
