"""Which objects the Pods bound to a node use: an index of the stored Pods, kept by the store's watch.

A question costs one look-up, however many Pods there are. The index is as new as what any client has been told: an
event reaches it in the same turn of the loop as the watches, so that no request can follow an event and find the
index without it (the exception is a watch that fell behind; a kubelet then tries again).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from typing import cast

import msgspec
from msgspec import Struct

from podling.api import codec, pod_references, scheme
from podling.api.core.v1 import Pod
from podling.apiserver.admission.service_account import MIRROR_ANNOTATION
from podling.store.protocol import Compacted, Event, EventType, Store

_Object = tuple[str, str, str]
"""Resource, namespace and name."""


class _Spec(Struct, rename="camel"):
    node_name: str = ""


class _Bound(Struct):
    """The part of a stored Pod that tells where it runs."""

    spec: _Spec = msgspec.field(default_factory=_Spec)


_decode = msgspec.json.Decoder(_Bound).decode


class _Uses(Struct, frozen=True):
    node: str
    objects: tuple[_Object, ...]


class NodeGraph:
    """`load` it before the first question; `run` keeps it up to date."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._prefix = scheme.by_type(Pod).key_prefix
        self._pods: dict[str, _Uses] = {}
        """By storage key; only Pods that are bound."""
        self._users: dict[_Object, Counter[str]] = {}
        """From an object to the nodes that use it, each with the number of its Pods that do."""
        self._since = 0

    def uses(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a Pod bound to the node is this object or refers to it."""
        return node in self._users.get((resource, namespace, name), ())

    async def load(self) -> None:
        page = await self._store.list(self._prefix)
        self._pods.clear()
        self._users.clear()
        for entry in page.entries:
            self._add(entry.key, entry.value)
        self._since = page.revision

    async def run(self) -> None:
        """Follows the stored Pods until cancelled. Raises StoreError."""
        while True:
            stream = cast(AsyncGenerator[Event, None], self._store.watch(self._prefix, since=self._since))
            try:
                async with contextlib.aclosing(stream):
                    async for event in stream:
                        self._apply(event)
                        self._since = event.revision
                await asyncio.get_running_loop().create_future()  # the store is closed: nothing more will happen
            except Compacted:
                await self.load()

    def _apply(self, event: Event) -> None:
        if event.type is EventType.DELETED:
            self._remove(event.key)
        elif event.key not in self._pods:
            # Where a bound Pod runs and what it refers to never changes (ephemeral containers cannot be added).
            self._add(event.key, event.value)

    def _add(self, key: str, value: bytes) -> None:
        try:
            node = _decode(value).spec.node_name
            if not node:
                return
            uses = _Uses(node, tuple(_used(codec.decode(Pod, value))))
        except (codec.DecodeError, msgspec.DecodeError):
            return  # a stored Pod that cannot be read gives nobody anything
        self._pods[key] = uses
        for used in uses.objects:
            self._users.setdefault(used, Counter())[node] += 1

    def _remove(self, key: str) -> None:
        uses = self._pods.pop(key, None)
        if uses is None:
            return
        for used in uses.objects:
            nodes = self._users[used]
            nodes[uses.node] -= 1
            if not nodes[uses.node]:
                del nodes[uses.node]
            if not nodes:
                del self._users[used]


def _used(pod: Pod) -> Iterator[_Object]:
    namespace = pod.metadata.namespace
    yield "pods", namespace, pod.metadata.name
    if MIRROR_ANNOTATION in pod.metadata.annotations:
        return  # a node makes these itself and must gain nothing by it
    if pod.spec.service_account_name:
        yield "serviceaccounts", namespace, pod.spec.service_account_name
    for resource, names in (
        ("secrets", pod_references.secrets(pod)),
        ("configmaps", pod_references.config_maps(pod)),
        ("persistentvolumeclaims", pod_references.claims(pod)),
    ):
        for name in names:
            yield resource, namespace, name
