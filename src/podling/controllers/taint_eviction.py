"""Eviction of Pods from Nodes with NoExecute taints that they do not tolerate, or not for ever.

Source: Kubernetes documentation, "Taint based Evictions".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict

from podling.api.core.v1 import Node, Pod, Taint, Toleration
from podling.api.status import ApiError
from podling.api.time import now, to_seconds
from podling.api.tolerations import NO_EXECUTE, tolerates
from podling.client.client import Client, EventType
from podling.client.events import NORMAL, EventRecorder
from podling.client.informer import InformerSet
from podling.controllers.work_queue import WorkQueue

Key = tuple[str, str]


class TaintEvictionController:
    def __init__(self, client: Client, informers: InformerSet) -> None:
        self._client = client
        self._nodes = informers.of(Node)
        self._pods = informers.of(Pod)
        self._on: defaultdict[str, set[Key]] = defaultdict(set)
        """Node name to the Pods there."""
        self._pending: dict[Key, str] = {}
        """Pods to be evicted later, and their uids."""
        self._events = EventRecorder(client, "taint-eviction-controller")
        self._queue: WorkQueue[Key] = WorkQueue("taint eviction", self._evict, workers=4)
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        await self._nodes.synced()
        await self._pods.synced()
        for pod in self._pods.list():
            self._consider(pod)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._events.run())

    def _on_node(self, type: EventType, node: Node, old: Node | None) -> None:
        if type is EventType.DELETED or (old is not None and _no_execute(old) == _no_execute(node)):
            return
        for key in list(self._on.get(node.metadata.name, ())):
            pod = self._pods.get(*key)
            if pod is not None:
                self._consider(pod)

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        key = (pod.metadata.namespace, pod.metadata.name)
        node = pod.spec.node_name
        if type is EventType.DELETED:
            if node and node in self._on:
                self._on[node].discard(key)
                if not self._on[node]:
                    del self._on[node]
            self._pending.pop(key, None)
            self._queue.cancel(key)
        elif node:
            self._on[node].add(key)
            moved = old is None or old.spec.node_name != node or old.metadata.uid != pod.metadata.uid
            if moved or old is None or old.spec.tolerations != pod.spec.tolerations:
                self._consider(pod)

    def _consider(self, pod: Pod) -> None:
        """Plans, moves or cancels the eviction of a Pod."""
        key = (pod.metadata.namespace, pod.metadata.name)
        node = self._nodes.get("", pod.spec.node_name) if pod.spec.node_name else None
        delay = eviction_delay(_no_execute(node), pod.spec.tolerations) if node is not None else None
        if delay is None or pod.metadata.deletion_timestamp:
            self._queue.cancel(key)
            if self._pending.pop(key, None) == pod.metadata.uid and not pod.metadata.deletion_timestamp:
                self._events.event(pod, NORMAL, "TaintManagerEviction", f"Cancelling deletion of Pod {key[0]}/{key[1]}")
            return
        self._pending[key] = pod.metadata.uid
        self._queue.cancel(key)
        self._queue.add_after(key, delay)

    async def _evict(self, key: Key) -> None:
        pod = self._pods.get(*key)
        if pod is None or self._pending.get(key) != pod.metadata.uid:
            return
        meta = pod.metadata
        self._events.event(pod, NORMAL, "TaintManagerEviction", f"Marking for deletion Pod {key[0]}/{key[1]}")
        condition = {
            "type": "DisruptionTarget",
            "status": "True",
            "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": now(),
        }
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            await self._client.patch(
                Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status"
            )
            await self._client.delete(Pod, meta.name, meta.namespace, uid=meta.uid)
        except ApiError as error:
            if error.code != 404:
                raise
        if self._pending.get(key) == meta.uid:  # by now it may be another Pod of the name that is pending
            del self._pending[key]


def eviction_delay(taints: list[Taint], tolerations: list[Toleration], at: float | None = None) -> float | None:
    """Seconds until a Pod must go: 0 if a taint is not tolerated, None if all are for ever. Several tolerations with a
    time count with the shortest, from when their taint was put on (`at`: the time now, in seconds of the epoch)."""
    if not taints:
        return None
    used: list[Toleration] = []
    for taint in taints:
        matching = [toleration for toleration in tolerations if tolerates(toleration, taint)]
        if not matching:
            return 0.0
        used += matching
    limits = [max(t.toleration_seconds, 0) for t in used if t.toleration_seconds is not None]
    if not limits:
        return None
    started = [to_seconds(taint.time_added) for taint in taints if taint.time_added]
    at = to_seconds(now()) if at is None else at
    passed = max(at - min(started), 0.0) if started else 0.0
    return max(min(limits) - passed, 0.0)


def _no_execute(node: Node) -> list[Taint]:
    return [taint for taint in node.spec.taints if taint.effect == NO_EXECUTE]
