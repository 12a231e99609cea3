"""Runs the controllers of one cluster."""

from __future__ import annotations

import asyncio

from podling.client.client import Client
from podling.client.informer import InformerSet
from podling.controllers.controller import Controller
from podling.controllers.endpoints import EndpointsController
from podling.controllers.event_ttl import EventTTLController
from podling.controllers.garbage_collector import GarbageCollector
from podling.controllers.namespace import NamespaceController
from podling.controllers.node_lifecycle import GRACE_PERIOD, NodeLifecycleController
from podling.controllers.pod_gc import PodGCController
from podling.controllers.root_ca import RootCAController
from podling.controllers.service_account import ServiceAccountController
from podling.controllers.service_account_tokens import ServiceAccountTokensController, Sign
from podling.controllers.taint_eviction import TaintEvictionController


class Manager:
    """All controllers on shared informers. `run()` works until cancelled.

    `informers` are the process's shared ones, run by their owner; without them the manager has its own. `root_ca` is the
    PEM certificate that Pods trust for the API server; `sign_token` makes the tokens that Secrets hold;
    `node_grace_period` is in seconds."""

    def __init__(
        self,
        client: Client,
        *,
        root_ca: bytes,
        sign_token: Sign,
        informers: InformerSet | None = None,
        node_grace_period: float = GRACE_PERIOD,
    ) -> None:
        shared = InformerSet(client) if informers is None else informers
        self._own_informers = shared if informers is None else None
        self._controllers: tuple[Controller, ...] = (
            NamespaceController(client, shared),
            ServiceAccountController(client, shared),
            ServiceAccountTokensController(client, shared, root_ca, sign_token),
            RootCAController(client, shared, root_ca),
            EndpointsController(client, shared),
            PodGCController(client, shared),
            NodeLifecycleController(client, shared, grace_period=node_grace_period),
            TaintEvictionController(client, shared),
            GarbageCollector(client, shared),
            EventTTLController(client),
        )

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for controller in self._controllers:
                tasks.create_task(controller.run(), name=type(controller).__name__)
            if self._own_informers is not None:
                tasks.create_task(self._own_informers.run(), name="controller informers")
