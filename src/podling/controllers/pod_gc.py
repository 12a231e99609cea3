"""Pods that nobody else would ever take away: on Nodes that are gone, being deleted without a Node, and finished ones
beyond a threshold. Source: Kubernetes documentation, "Pod garbage collection"."""

from __future__ import annotations

import asyncio
from typing import Any

from podling.api.core.v1 import Node, Pod
from podling.api.status import ApiError
from podling.api.time import now
from podling.client.client import Client, EventType
from podling.client.informer import InformerSet
from podling.controllers.work_queue import WorkQueue

TERMINATED_THRESHOLD = 12500
QUARANTINE = 40.0
"""Seconds for which a Node must be missing before its Pods go: it may be registering anew."""

_ORPHANED = "PodGC: node no longer exists"

Key = tuple[str, str]


class PodGCController:
    def __init__(
        self,
        client: Client,
        informers: InformerSet,
        *,
        terminated_threshold: int = TERMINATED_THRESHOLD,
        quarantine: float = QUARANTINE,
    ) -> None:
        self._client = client
        self._threshold = terminated_threshold
        self._quarantine = quarantine
        self._nodes = informers.of(Node)
        self._pods = informers.of(Pod)
        self._terminated: dict[Key, str] = {}
        """Finished Pods and when they were made."""
        self._pods_queue: WorkQueue[Key] = WorkQueue("pod garbage", self._collect, workers=4)
        self._nodes_queue: WorkQueue[str] = WorkQueue("pods of vanished nodes", self._collect_node)
        self._nodes.add_handler(self._on_node)
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        await self._nodes.synced()
        await self._pods.synced()
        for name in {pod.spec.node_name for pod in self._pods.list() if pod.spec.node_name}:
            self._watch_node(name)
        await self._run_both()

    async def _run_both(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._pods_queue.run())
            tasks.create_task(self._nodes_queue.run())

    def _watch_node(self, name: str) -> None:
        if self._nodes.has_synced and self._nodes.get("", name) is None:
            self._nodes_queue.add_after(name, self._quarantine)

    def _on_node(self, type: EventType, node: Node, old: Node | None) -> None:
        if type is EventType.DELETED:
            self._nodes_queue.add_after(node.metadata.name, self._quarantine)
        elif type is EventType.ADDED:
            self._nodes_queue.cancel(node.metadata.name)

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        key = (pod.metadata.namespace, pod.metadata.name)
        if type is EventType.DELETED:
            self._terminated.pop(key, None)
            return
        if pod.status.phase in ("Succeeded", "Failed"):
            self._terminated[key] = pod.metadata.creation_timestamp
            if len(self._terminated) > self._threshold:
                excess = len(self._terminated) - self._threshold
                for oldest in sorted(self._terminated, key=lambda k: (self._terminated[k], k))[:excess]:
                    self._pods_queue.add(oldest)
        else:
            self._terminated.pop(key, None)
        if not pod.spec.node_name:
            if pod.metadata.deletion_timestamp:
                self._pods_queue.add(key)
        elif old is None or not old.spec.node_name:
            self._watch_node(pod.spec.node_name)

    async def _collect_node(self, name: str) -> None:
        if self._nodes.get("", name) is not None:
            return
        try:
            await self._client.get(Node, name)
            return
        except ApiError as error:
            if error.code != 404:
                raise
        for pod in self._pods.list():
            if pod.spec.node_name == name:
                await self._delete(pod, _ORPHANED)

    async def _collect(self, key: Key) -> None:
        pod = self._pods.get(*key)
        if pod is None:
            return
        if pod.metadata.deletion_timestamp and not pod.spec.node_name:
            await self._delete(pod, "PodGC: unscheduled and terminating")
        elif key in self._terminated and len(self._terminated) > self._threshold:
            await self._delete(pod, "PodGC: more finished pods than the threshold")
            self._terminated.pop(key, None)

    async def _delete(self, pod: Pod, why: str) -> None:
        """Marks the Pod as failed if it has not finished, then deletes it without a grace period."""
        meta = pod.metadata
        try:
            if pod.status.phase not in ("Succeeded", "Failed"):
                status: dict[str, Any] = {"phase": "Failed"}
                if why == _ORPHANED:
                    status["conditions"] = [
                        {
                            "type": "DisruptionTarget",
                            "status": "True",
                            "reason": "DeletionByPodGC",
                            "message": why,
                            "lastTransitionTime": now(),
                        }
                    ]
                patch = {"metadata": {"uid": meta.uid}, "status": status}
                await self._client.patch(
                    Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status"
                )
            await self._client.delete(Pod, meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
        except ApiError as error:
            if error.code != 404:
                raise
