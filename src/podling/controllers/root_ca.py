"""Every namespace has a ConfigMap kube-root-ca.crt that holds the cluster's certificate authority."""

from __future__ import annotations

from podling.api.core.v1 import ConfigMap, Namespace
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers.namespace import is_terminating
from podling.controllers.service_account import namespace_is_gone
from podling.controllers.work_queue import WorkQueue

NAME = "kube-root-ca.crt"

_DESCRIPTION = (
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the "
    "internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes "
    "clusters."
)


class RootCAController:
    def __init__(self, client: Client, informers: InformerSet, root_ca: bytes) -> None:
        self._client = client
        self._data = {"ca.crt": root_ca.decode()}
        self._namespaces = informers.of(Namespace)
        self._maps: Informer[ConfigMap] = informers.of(ConfigMap, field_selector=f"metadata.name={NAME}")
        self._queue: WorkQueue[str] = WorkQueue("root CA", self._ensure, workers=4)
        self._namespaces.add_handler(self._on_namespace)
        self._maps.add_handler(self._on_map)

    async def run(self) -> None:
        await self._namespaces.synced()
        await self._maps.synced()
        await self._queue.run()

    def _on_namespace(self, type: EventType, namespace: Namespace, old: Namespace | None) -> None:
        if type is not EventType.DELETED and not is_terminating(namespace):
            self._queue.add(namespace.metadata.name)

    def _on_map(self, type: EventType, config_map: ConfigMap, old: ConfigMap | None) -> None:
        if type is EventType.DELETED or config_map.data != self._data:
            self._queue.add(config_map.metadata.namespace)

    async def _ensure(self, name: str) -> None:
        namespace = self._namespaces.get("", name)
        if namespace is None or is_terminating(namespace):
            return
        current = self._maps.get(name, NAME)
        try:
            if current is None:
                meta = ObjectMeta(name=NAME, namespace=name, annotations={"kubernetes.io/description": _DESCRIPTION})
                await self._client.create(ConfigMap(metadata=meta, data=self._data))
            elif current.data != self._data:
                patch = [{"op": "add", "path": "/data", "value": self._data}]
                await self._client.patch(ConfigMap, NAME, name, patch, content_type="json")
        except ApiError as error:
            if error.reason != "AlreadyExists" and not namespace_is_gone(error):
                raise
