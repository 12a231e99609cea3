"""The ConfigMaps and Secrets that Pods refer to: read when needed, watched while a volume shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from msgspec import Struct, field

from podling.api.core.v1 import ConfigMap, Pod, Secret
from podling.api.status import ApiError
from podling.client.client import Client
from podling.client.informer import Informer
from podling.kubelet.volumes.content import Reference

_Key = tuple[type[ConfigMap] | type[Secret], str, str]


class ApiObjects:
    """An env.ObjectSource that always asks: what a container starts with is what is stored at that moment."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        try:
            return await self._client.get(ConfigMap, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise

    async def secret(self, namespace: str, name: str) -> Secret | None:
        try:
            return await self._client.get(Secret, name, namespace)
        except ApiError as error:
            if error.code == 404:
                return None
            raise


class _Watch(Struct):
    task: asyncio.Task[None]
    callbacks: set[tuple[str, Callable[[], None]]] = field(default_factory=set)


class ObjectWatches:
    """One watch for each object that some Pod's volumes show, or that a pull waits for. `run` owns the watches."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._watches: dict[_Key, _Watch] = {}
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await asyncio.get_running_loop().create_future()

    def follow(self, pod: Pod, references: Iterable[Reference], changed: Callable[[], None]) -> None:
        """Calls `changed` whenever one of the objects comes, changes or goes, until `unfollow` or `forget`. Idempotent."""
        uid = pod.metadata.uid
        for kind, name in references:
            key = (kind, pod.metadata.namespace, name)
            watch = self._watches.get(key)
            if watch is None:
                watch = self._watches[key] = self._start(key)
            watch.callbacks.add((uid, changed))

    def _start(self, key: _Key) -> _Watch:
        kind, namespace, name = key
        assert self._tasks is not None
        selector = f"metadata.name={name}"
        informer: Informer[ConfigMap] | Informer[Secret]
        if kind is ConfigMap:
            informer = Informer(self._client, ConfigMap, namespace, field_selector=selector)
        else:
            informer = Informer(self._client, Secret, namespace, field_selector=selector)
        informer.add_handler(lambda type, obj, old: self._changed(key))
        return _Watch(self._tasks.create_task(informer.run(), name=f"watch {kind.__name__} {namespace}/{name}"))

    def _changed(self, key: _Key) -> None:
        watch = self._watches.get(key)
        for _, callback in list(watch.callbacks) if watch is not None else ():
            callback()

    def unfollow(self, uid: str, changed: Callable[[], None]) -> None:
        """Ends what `follow` began for the Pod and this callback."""
        self._remove(lambda follower: follower == (uid, changed))

    def forget(self, uid: str) -> None:
        """The Pod does not run any more."""
        self._remove(lambda follower: follower[0] == uid)

    def _remove(self, ends: Callable[[tuple[str, Callable[[], None]]], bool]) -> None:
        for key, watch in list(self._watches.items()):
            watch.callbacks = {follower for follower in watch.callbacks if not ends(follower)}
            if not watch.callbacks:
                watch.task.cancel()
                del self._watches[key]
