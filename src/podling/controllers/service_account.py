"""Every namespace has a ServiceAccount named default."""

from __future__ import annotations

from podling.api.core.v1 import Namespace, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers.namespace import is_terminating
from podling.controllers.work_queue import WorkQueue

NAME = "default"


class ServiceAccountController:
    def __init__(self, client: Client, informers: InformerSet) -> None:
        self._client = client
        self._namespaces = informers.of(Namespace)
        self._accounts: Informer[ServiceAccount] = informers.of(ServiceAccount, field_selector=f"metadata.name={NAME}")
        self._queue: WorkQueue[str] = WorkQueue("service account", self._ensure, workers=4)
        self._namespaces.add_handler(self._on_namespace)
        self._accounts.add_handler(self._on_account)

    async def run(self) -> None:
        await self._namespaces.synced()
        await self._accounts.synced()
        await self._queue.run()

    def _on_namespace(self, type: EventType, namespace: Namespace, old: Namespace | None) -> None:
        if type is not EventType.DELETED and not is_terminating(namespace):
            self._queue.add(namespace.metadata.name)

    def _on_account(self, type: EventType, account: ServiceAccount, old: ServiceAccount | None) -> None:
        if type is EventType.DELETED:
            self._queue.add(account.metadata.namespace)

    async def _ensure(self, name: str) -> None:
        namespace = self._namespaces.get("", name)
        if namespace is None or is_terminating(namespace) or self._accounts.get(name, NAME) is not None:
            return
        try:
            await self._client.create(ServiceAccount(metadata=ObjectMeta(name=NAME, namespace=name)))
        except ApiError as error:
            if error.reason != "AlreadyExists" and not namespace_is_gone(error):
                raise


def namespace_is_gone(error: ApiError) -> bool:
    """Whether a create failed because its namespace is being deleted, or no more."""
    if error.reason == "NotFound":
        return True
    causes = error.status.details.causes if error.status.details else []
    return error.reason == "Forbidden" and any(cause.reason == "NamespaceTerminating" for cause in causes)
