"""Writes the PodScheduled condition of Pods that could not be placed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from msgspec import Struct

from podling.api.core.v1 import Pod, PodCondition
from podling.api.status import ApiError
from podling.api.time import now
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed

log = logging.getLogger(__name__)

GATED_MESSAGE = "Scheduling is blocked due to non-empty scheduling gates"


class ConditionWriter:
    """One write at a time, and only the newest condition of a Pod: later attempts never lose against earlier ones."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pending: dict[str, _Wanted] = {}
        self._wake = asyncio.Event()

    def unschedulable(self, pod: Pod, message: str, *, nominated_node: str = "") -> None:
        self._put(_Wanted(pod, "Unschedulable", message, nominated_node))

    def gated(self, pod: Pod) -> None:
        self._put(_Wanted(pod, "SchedulingGated", GATED_MESSAGE))

    def failed(self, pod: Pod, message: str) -> None:
        self._put(_Wanted(pod, "SchedulerError", message))

    def forget(self, uid: str) -> None:
        """The Pod is bound or gone: nothing is to be said any more."""
        self._pending.pop(uid, None)

    async def run(self) -> None:
        backoff = Backoff(initial=0.2, maximum=10.0)
        while True:
            await self._wake.wait()
            while self._pending:
                uid, wanted = next(iter(self._pending.items()))
                try:
                    await self._write(wanted)
                except ConnectionFailed:
                    await self._client.recovered(backoff.next())
                    continue
                except ApiError as error:
                    if error.code != 404:
                        meta = wanted.pod.metadata
                        log.warning("condition of pod %s/%s: %s", meta.namespace, meta.name, error)
                backoff.reset()
                if self._pending.get(uid) is wanted:
                    del self._pending[uid]
            self._wake.clear()

    def _put(self, wanted: _Wanted) -> None:
        uid = wanted.pod.metadata.uid
        if wanted.is_there():
            self._pending.pop(uid, None)
        else:
            self._pending[uid] = wanted
            self._wake.set()

    async def _write(self, wanted: _Wanted) -> None:
        meta = wanted.pod.metadata
        current = _condition(wanted.pod)
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": wanted.reason,
            "message": wanted.message,
            "lastTransitionTime": current.last_transition_time if current and current.status == "False" else now(),
        }
        if meta.generation:
            condition["observedGeneration"] = meta.generation
        status: dict[str, Any] = {"conditions": [condition]}
        if wanted.nominated_node != wanted.pod.status.nominated_node_name:
            status["nominatedNodeName"] = wanted.nominated_node
        patch = {"metadata": {"uid": meta.uid}, "status": status}
        await self._client.patch(Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status")


class _Wanted(Struct, frozen=True):
    pod: Pod
    reason: str
    message: str
    nominated_node: str = ""

    def is_there(self) -> bool:
        current = _condition(self.pod)
        if current is None or (current.reason, current.message) != (self.reason, self.message):
            return False
        return current.status == "False" and self.nominated_node == self.pod.status.nominated_node_name


def _condition(pod: Pod) -> PodCondition | None:
    return next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
