"""The scheduler: gives every Pod without a Node the best one that will do.

A placement is decided synchronously within one step of the event loop (so no change can slip in between), counts at
once in the cache, and is bound in the background while the next Pod is being placed.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Mapping

from podling.api.core.v1 import Binding, Namespace, Node, ObjectReference, Pod
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.client.client import Client, ConnectionFailed, EventType
from podling.client.events import NORMAL, WARNING, EventRecorder
from podling.client.informer import InformerSet
from podling.scheduler.cache import Cache
from podling.scheduler.filters import FILTERS
from podling.scheduler.fit_error import NO_NODES, PREEMPTION_NEVER, fit_error, no_preemption
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import NodeInfo
from podling.scheduler.pod_condition import ConditionWriter
from podling.scheduler.queue import QueuedPod, SchedulingQueue
from podling.scheduler.scores import SCORES

log = logging.getLogger(__name__)

NAME = "default-scheduler"

_BINDINGS_AT_ONCE = 16
_NODE_CHANGES = frozenset({ClusterEvent.NODE_ADDED})


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
        self._events = EventRecorder(client, name)
        self._conditions = ConditionWriter(client)
        self._binding = asyncio.Semaphore(_BINDINGS_AT_ONCE)

    async def run(self) -> None:
        nodes, pods = self._informers.of(Node), self._informers.of(Pod)
        nodes.add_handler(self._on_node)
        pods.add_handler(self._on_pod)
        async with asyncio.TaskGroup() as tasks:
            if self._own_informers is not None:
                tasks.create_task(self._own_informers.run(), name="scheduler informers")
            tasks.create_task(self._events.run(), name="scheduler events")
            tasks.create_task(self._conditions.run(), name="scheduler conditions")
            await nodes.synced()
            await self._namespaces.synced()
            await pods.synced()
            while True:
                queued = await self._queue.pop()
                node = self._schedule(queued)
                if node:
                    tasks.create_task(self._bind(queued, node), name=f"bind {queued.pod.metadata.name}")

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

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        uid = pod.metadata.uid
        if old is not None and old.metadata.uid != uid:
            self._forget(old.metadata.uid)
        if type is EventType.DELETED or pod.status.phase in ("Succeeded", "Failed"):
            self._forget(uid)
        elif pod.spec.node_name:
            self._queue.delete(uid)
            known = old is not None and bool(old.spec.node_name)
            if known and old is not None and old.spec == pod.spec and old.metadata.labels == pod.metadata.labels:
                return
            self._cache.set_pod(pod)
            if known:
                self._queue.notify(ClusterEvent.POD_REMOVED)
            self._queue.notify(ClusterEvent.POD_ADDED)
        elif pod.spec.scheduler_name == self._name and not pod.metadata.deletion_timestamp:
            self._queue.put(pod)
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
        if self._cache.remove_pod(uid) is not None:
            self._queue.notify(ClusterEvent.POD_REMOVED)

    # -- one Pod

    def _schedule(self, queued: QueuedPod) -> str:
        """The Node that the Pod now counts on, or "" where none would do."""
        nodes = self._cache.nodes()
        cycle = Cycle(queued.info, nodes, self._namespace_labels)
        feasible, rejections, rejected_by = find_feasible(cycle)
        if feasible:
            best = feasible[0] if len(feasible) == 1 else select(cycle, feasible)
            assert best.node is not None
            name = best.node.metadata.name
            self._cache.assume(queued.info, name)
            return name
        if not nodes:
            message = NO_NODES
        elif queued.pod.spec.preemption_policy == "Never":
            message = fit_error(rejections, PREEMPTION_NEVER)
        else:
            message = fit_error(rejections, no_preemption(rejections))
        helped_by = _NODE_CHANGES.union(*(rejector.helped_by for rejector in rejected_by))
        self._queue.reject(queued, helped_by)
        self._events.event(queued.pod, WARNING, "FailedScheduling", message)
        self._conditions.unschedulable(queued.pod, message)
        return ""

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


def find_feasible(cycle: Cycle) -> tuple[list[NodeInfo], list[Rejection], set[Filter]]:
    """The Nodes that pass every filter; why the others do not, and which filters said so."""
    feasible: list[NodeInfo] = []
    rejections: list[Rejection] = []
    rejected_by: set[Filter] = set()
    for info in cycle.nodes:
        node = info.node
        if node is None:
            continue
        rejection = reject(cycle, info, node)
        if rejection is None:
            feasible.append(info)
        else:
            rejected_by.add(rejection[0])
            rejections.append(rejection[1])
    return feasible, rejections, rejected_by


def reject(cycle: Cycle, info: NodeInfo, node: Node) -> tuple[Filter, Rejection] | None:
    """The first filter that will not have the Pod on this Node, and why; None if it may go there."""
    for candidate in FILTERS:
        rejection = candidate.function(cycle, info, node)
        if rejection is not None:
            return candidate, rejection
    return None


def select(cycle: Cycle, feasible: list[NodeInfo]) -> NodeInfo:
    """The Node with the highest score; among equals a random one."""
    totals = [0] * len(feasible)
    for score in SCORES:
        raw = [score.function(cycle, info, info.node) for info in feasible if info.node is not None]
        for index, points in enumerate(score.normalize(raw)):
            totals[index] += score.weight * points
    top = max(totals)
    return random.choice([info for info, total in zip(feasible, totals, strict=True) if total == top])
