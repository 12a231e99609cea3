"""The scheduling queue: Pods to place now (active), after an error (delayed), or after a change (unschedulable).

As kube-scheduler orders them: by priority, then by age; a Pod whose attempt failed a moment ago yields to the others
for 1 s, doubling to 10 s, unless nobody else is waiting.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable
from enum import Enum, auto

from podling.api.core.v1 import Pod
from podling.scheduler.framework import ClusterEvent
from podling.scheduler.node_info import PodInfo

_BACKOFF_INITIAL = 1.0
_BACKOFF_MAXIMUM = 10.0
_UNSCHEDULABLE_MAXIMUM = 300.0
"""Seconds after which an unschedulable Pod is tried even if nothing that seemed to matter has changed."""


class Place(Enum):
    ACTIVE = auto()
    YIELDING = auto()
    DELAYED = auto()
    UNSCHEDULABLE = auto()
    GATED = auto()
    TAKEN = auto()


class QueuedPod:
    """A Pod without a Node and the history of its attempts."""

    __slots__ = ("attempts", "failed_at", "helped_by", "info", "number", "place", "turn")

    def __init__(self, info: PodInfo, number: int) -> None:
        self.info = info
        self.number = number
        self.attempts = 0
        self.failed_at = 0.0
        self.helped_by: frozenset[ClusterEvent] = frozenset()
        self.place = Place.TAKEN
        self.turn = 0
        """Counts moves: an entry of a heap with another number is stale."""

    @property
    def pod(self) -> Pod:
        return self.info.pod

    @property
    def backoff_until(self) -> float:
        return self.failed_at + min(_BACKOFF_INITIAL * (1 << min(max(self.attempts - 1, 0), 10)), _BACKOFF_MAXIMUM)


_Heap = list[tuple[float, int, int, QueuedPod]]
"""Rank, number, turn, Pod."""


class SchedulingQueue:
    """Holds every Pod that is to be scheduled, by uid, until it is deleted from the queue: also while it is placed."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._pods: dict[str, QueuedPod] = {}
        self._heaps: dict[Place, _Heap] = {Place.ACTIVE: [], Place.YIELDING: [], Place.DELAYED: []}
        self._unschedulable: dict[str, QueuedPod] = {}
        self._changed = asyncio.Event()
        self._count = 0

    def __len__(self) -> int:
        return len(self._pods)

    def place(self, uid: str) -> Place | None:
        """Where the Pod waits; None if it is not here."""
        queued = self._pods.get(uid)
        return queued.place if queued else None

    def put(self, pod: Pod) -> None:
        """A Pod without a Node is new or has changed."""
        uid = pod.metadata.uid
        queued = self._pods.get(uid)
        if queued is None:
            self._count += 1
            queued = self._pods[uid] = QueuedPod(PodInfo(pod), self._count)
            self._move(queued, Place.GATED if pod.spec.scheduling_gates else Place.ACTIVE)
            return
        old = queued.info.pod
        changed = old.spec != pod.spec or old.metadata.labels != pod.metadata.labels
        if not changed:
            # The status that the scheduler itself wrote, mostly: no reason to try again.
            queued.info.pod = pod
            return
        queued.info = PodInfo(pod)
        if pod.spec.scheduling_gates:
            self._move(queued, Place.GATED)
        elif queued.place in (Place.GATED, Place.UNSCHEDULABLE):
            self._wake(queued)

    def delete(self, uid: str) -> None:
        """The Pod has a Node, has finished or is gone."""
        queued = self._pods.pop(uid, None)
        if queued is not None:
            self._move(queued, Place.TAKEN)

    def reject(self, queued: QueuedPod, helped_by: frozenset[ClusterEvent]) -> None:
        """No Node would do; another attempt is worth it after one of these changes."""
        if self._pods.get(queued.info.uid) is not queued:
            return
        queued.failed_at = self._clock()
        queued.helped_by = helped_by
        self._move(queued, Place.UNSCHEDULABLE)

    def retry(self, queued: QueuedPod) -> None:
        """The attempt failed by an error: again after the back-off."""
        if self._pods.get(queued.info.uid) is not queued:
            return
        queued.failed_at = self._clock()
        self._move(queued, Place.DELAYED)

    def notify(self, event: ClusterEvent) -> None:
        """Something has changed: those whom it may help get another attempt."""
        for queued in [q for q in self._unschedulable.values() if event in q.helped_by]:
            self._wake(queued)

    async def pop(self) -> QueuedPod:
        """The next Pod to place. It stays in the queue (as taken) until `delete`, `reject` or `retry`."""
        while True:
            queued = self.pop_ready()
            if queued is not None:
                return queued
            self._changed.clear()
            wait = self._next_deadline()
            try:
                async with asyncio.timeout(None if wait is None else max(wait, 0)):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def pop_ready(self) -> QueuedPod | None:
        """As `pop`, None if nothing is due."""
        now = self._clock()
        for place in (Place.YIELDING, Place.DELAYED):
            while (queued := self._head(place)) is not None and queued.backoff_until <= now:
                self._move(queued, Place.ACTIVE)
        for queued in [q for q in self._unschedulable.values() if q.failed_at + _UNSCHEDULABLE_MAXIMUM <= now]:
            self._move(queued, Place.ACTIVE)
        for place in (Place.ACTIVE, Place.YIELDING):
            queued = self._head(place)
            if queued is not None:
                self._move(queued, Place.TAKEN)
                queued.attempts += 1
                return queued
        return None

    def _wake(self, queued: QueuedPod) -> None:
        self._move(queued, Place.ACTIVE if queued.backoff_until <= self._clock() else Place.YIELDING)

    def _move(self, queued: QueuedPod, place: Place) -> None:
        if queued.place is Place.UNSCHEDULABLE:
            self._unschedulable.pop(queued.info.uid, None)
        queued.place = place
        queued.turn += 1
        if place is Place.UNSCHEDULABLE:
            self._unschedulable[queued.info.uid] = queued
        heap = self._heaps.get(place)
        if heap is not None:
            rank = -queued.info.priority if place is Place.ACTIVE else queued.backoff_until
            heapq.heappush(heap, (rank, queued.number, queued.turn, queued))
        if place in (Place.ACTIVE, Place.YIELDING, Place.DELAYED, Place.UNSCHEDULABLE):
            self._changed.set()

    def _head(self, place: Place) -> QueuedPod | None:
        heap = self._heaps[place]
        while heap:
            _, _, turn, queued = heap[0]
            if queued.turn == turn:
                return queued
            heapq.heappop(heap)
        return None

    def _next_deadline(self) -> float | None:
        """Seconds until something becomes due by itself."""
        times = [q.failed_at + _UNSCHEDULABLE_MAXIMUM for q in self._unschedulable.values()]
        delayed = self._head(Place.DELAYED)
        if delayed is not None:
            times.append(delayed.backoff_until)
        return min(times) - self._clock() if times else None
