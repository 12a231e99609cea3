"""The scheduler: gives every Pod without a Node the best one that will do.

A placement is decided synchronously within one step of the event loop (so no change can slip in between), counts at
once in the cache, and is bound in the background while the next Pod is being placed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from podling.api.core.v1 import Binding, Endpoints, Namespace, Node, ObjectReference, Pod
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.api.time import now
from podling.client.client import Client, ConnectionFailed, EventType
from podling.client.events import NORMAL, WARNING, EventRecorder
from podling.client.informer import InformerSet
from podling.scheduler import daemon_ports
from podling.scheduler.cache import Cache
from podling.scheduler.framework import ClusterEvent
from podling.scheduler.node_info import PodInfo
from podling.scheduler.placement import Placement, place
from podling.scheduler.pod_condition import ConditionWriter
from podling.scheduler.preemption import Candidate
from podling.scheduler.queue import QueuedPod, SchedulingQueue

log = logging.getLogger(__name__)

NAME = "default-scheduler"

_BINDINGS_AT_ONCE = 16


class Scheduler:
    """Places the Pods whose spec.schedulerName is `name`. `run()` works until cancelled.

    `informers` are the process's shared ones, run by their owner; without them the scheduler has its own."""

    def __init__(self, client: Client, informers: InformerSet | None = None, *, name: str = NAME) -> None:
        self._client = client
        self._informers = InformerSet(client) if informers is None else informers
        self._own_informers = self._informers if informers is None else None
        self._name = name
        self._namespaces = self._informers.of(Namespace)
        self._cache = Cache()
        self._queue = SchedulingQueue()
        self._nominated: dict[str, tuple[PodInfo, str]] = {}
        """Pods that wait for the victims of their preemption, by uid, and the Node that will be theirs."""
        self._events = EventRecorder(client, name)
        self._conditions = ConditionWriter(client)
        self._binding = asyncio.Semaphore(_BINDINGS_AT_ONCE)

    async def run(self) -> None:
        nodes, pods, endpoints = self._informers.of(Node), self._informers.of(Pod), self._informers.of(Endpoints)
        endpoints.add_handler(self._on_endpoints)
        nodes.add_handler(self._on_node)
        pods.add_handler(self._on_pod)
        async with asyncio.TaskGroup() as tasks:
            if self._own_informers is not None:
                tasks.create_task(self._own_informers.run(), name="scheduler informers")
            tasks.create_task(self._events.run(), name="scheduler events")
            tasks.create_task(self._conditions.run(), name="scheduler conditions")
            await nodes.synced()
            await endpoints.synced()
            await self._namespaces.synced()
            await pods.synced()
            while True:
                queued = await self._queue.pop()
                try:
                    placement = self._schedule(queued)
                except Exception:
                    # A defect that one Pod brings to light must not end the scheduling of all others.
                    log.exception("pod %s/%s cannot be placed", queued.pod.metadata.namespace, queued.pod.metadata.name)
                    self._queue.retry(queued)
                    continue
                if placement.node:
                    tasks.create_task(self._bind(queued, placement.node), name=f"bind {queued.pod.metadata.name}")
                elif placement.preempt is not None:
                    tasks.create_task(self._preempt(queued.pod, placement.preempt), name="preempt")

    # -- what the API server tells

    def _on_node(self, type: EventType, node: Node, old: Node | None) -> None:
        if type is EventType.DELETED:
            self._cache.remove_node(node.metadata.name)
            return
        self._cache.set_node(node)
        if old is None:
            self._queue.notify(ClusterEvent.NODE_ADDED)
            return
        if node.status.allocatable != old.status.allocatable:
            self._queue.notify(ClusterEvent.NODE_ALLOCATABLE)
        if node.metadata.labels != old.metadata.labels:
            self._queue.notify(ClusterEvent.NODE_LABELS)
        if node.spec.taints != old.spec.taints or node.spec.unschedulable != old.spec.unschedulable:
            self._queue.notify(ClusterEvent.NODE_TAINTS)

        if node.status.daemon_endpoints != old.status.daemon_endpoints or node.status.addresses != old.status.addresses:
            self._queue.notify(ClusterEvent.DAEMON_PORTS)

    def _on_endpoints(self, type: EventType, endpoints: Endpoints, old: Endpoints | None) -> None:
        if (endpoints.metadata.namespace, endpoints.metadata.name) == (daemon_ports.NAMESPACE, daemon_ports.NAME):
            self._cache.set_api_server(None if type is EventType.DELETED else endpoints)
            self._queue.notify(ClusterEvent.DAEMON_PORTS)

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        uid = pod.metadata.uid
        if old is not None and old.metadata.uid != uid:
            self._forget(old.metadata.uid)
        if type is EventType.DELETED or pod.status.phase in ("Succeeded", "Failed"):
            self._forget(uid)
        elif pod.spec.node_name:
            self._queue.delete(uid)
            self._nominated.pop(uid, None)
            known = old is not None and bool(old.spec.node_name)
            if known and old is not None and old.spec == pod.spec and old.metadata.labels == pod.metadata.labels:
                return
            self._cache.set_pod(pod)
            if known:
                self._queue.notify(ClusterEvent.POD_REMOVED)
            self._queue.notify(ClusterEvent.POD_ADDED)
        elif pod.spec.scheduler_name == self._name and not pod.metadata.deletion_timestamp:
            self._queue.put(pod)
            if pod.status.nominated_node_name:
                self._nominated[uid] = (PodInfo(pod), pod.status.nominated_node_name)
            if pod.spec.scheduling_gates:
                self._conditions.gated(pod)
        else:
            self._queue.delete(uid)

    def _namespace_labels(self, name: str) -> Mapping[str, str]:
        namespace = self._namespaces.get("", name)
        return namespace.metadata.labels if namespace is not None else {}

    def _forget(self, uid: str) -> None:
        self._queue.delete(uid)
        self._conditions.forget(uid)
        self._nominated.pop(uid, None)
        if self._cache.remove_pod(uid) is not None:
            self._queue.notify(ClusterEvent.POD_REMOVED)

    # -- one Pod

    def _schedule(self, queued: QueuedPod) -> Placement:
        """Decides, and counts the Pod on its Node from now on."""
        pod = queued.info
        nominated = list(self._nominated.values()) if self._nominated else ()
        placement = place(pod, self._cache.nodes(), self._namespace_labels, nominated)
        if placement.node:
            self._cache.assume(pod, placement.node)
            return placement
        self._queue.reject(queued, placement.helped_by)
        self._events.event(pod.pod, WARNING, "FailedScheduling", placement.message)
        if placement.nominated_node:
            self._nominated[pod.uid] = (pod, placement.nominated_node)
        else:
            self._nominated.pop(pod.uid, None)
        self._conditions.unschedulable(pod.pod, placement.message, nominated_node=placement.nominated_node)
        return placement

    async def _preempt(self, preemptor: Pod, candidate: Candidate) -> None:
        """Has the victims deleted. What fails is tried again with the Pod's next attempt."""
        for victim in (info.pod for info in candidate.victims):
            meta = victim.metadata
            condition = {
                "type": "DisruptionTarget",
                "status": "True",
                "reason": "PreemptionByScheduler",
                "message": f"{self._name}: preempting to accommodate a higher priority pod",
                "lastTransitionTime": now(),
            }
            patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status"
                )
                await self._client.delete(Pod, meta.name, meta.namespace, uid=meta.uid)
            except (ApiError, ConnectionFailed) as error:
                if not (isinstance(error, ApiError) and error.code == 404):
                    log.warning("preempting pod %s/%s: %s", meta.namespace, meta.name, error)
                continue
            message = f"Preempted by pod {preemptor.metadata.uid} on node {candidate.node}"
            self._events.event(victim, NORMAL, "Preempted", message)

    async def _bind(self, queued: QueuedPod, node: str) -> None:
        pod, meta = queued.pod, queued.pod.metadata
        binding = Binding(
            metadata=ObjectMeta(name=meta.name, namespace=meta.namespace, uid=meta.uid),
            target=ObjectReference(kind="Node", name=node),
        )
        try:
            async with self._binding:
                await self._client.create_subresource(Pod, meta.name, meta.namespace, "binding", binding)
        except ConnectionFailed:
            # It may have been bound or not. If it was, the informer will tell and the Pod leaves the queue.
            self._unbind(queued)
        except ApiError as error:
            self._unbind(queued)
            if error.code == 404:
                return
            message = f'binding rejected: running Bind plugin "DefaultBinder": {error}'
            log.warning("pod %s/%s: %s", meta.namespace, meta.name, message)
            self._events.event(pod, WARNING, "FailedScheduling", message)
            self._conditions.failed(pod, message)
        else:
            self._conditions.forget(meta.uid)
            self._events.event(
                pod, NORMAL, "Scheduled", f"Successfully assigned {meta.namespace}/{meta.name} to {node}"
            )

    def _unbind(self, queued: QueuedPod) -> None:
        uid = queued.info.uid
        if self._cache.is_assumed(uid):
            self._cache.remove_pod(uid)
            self._queue.notify(ClusterEvent.POD_REMOVED)
        self._queue.retry(queued)
