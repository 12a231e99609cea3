"""Writes the PodScheduled condition of Pods that could not be placed."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

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
        self._pending: dict[str, tuple[Pod, str, str]] = {}
        self._wake = asyncio.Event()

    def unschedulable(self, pod: Pod, message: str) -> None:
        self._put(pod, "Unschedulable", message)

    def gated(self, pod: Pod) -> None:
        self._put(pod, "SchedulingGated", GATED_MESSAGE)

    def failed(self, pod: Pod, message: str) -> None:
        self._put(pod, "SchedulerError", message)

    def forget(self, uid: str) -> None:
        """The Pod is bound or gone: nothing is to be said any more."""
        self._pending.pop(uid, None)

    async def run(self) -> None:
        backoff = Backoff(initial=0.2, maximum=10.0)
        while True:
            await self._wake.wait()
            while self._pending:
                uid, (pod, reason, message) = next(iter(self._pending.items()))
                try:
                    await self._write(pod, reason, message)
                except ConnectionFailed:
                    await self._client.recovered(backoff.next())
                    continue
                except ApiError as error:
                    if error.code != 404:
                        log.warning("condition of pod %s/%s: %s", pod.metadata.namespace, pod.metadata.name, error)
                backoff.reset()
                if self._pending.get(uid) == (pod, reason, message):
                    del self._pending[uid]
            self._wake.clear()

    def _put(self, pod: Pod, reason: str, message: str) -> None:
        current = _condition(pod)
        if current is not None and (current.reason, current.message, current.status) == (reason, message, "False"):
            self._pending.pop(pod.metadata.uid, None)
            return
        self._pending[pod.metadata.uid] = (pod, reason, message)
        self._wake.set()

    async def _write(self, pod: Pod, reason: str, message: str) -> None:
        meta = pod.metadata
        current = _condition(pod)
        unchanged = current is not None and current.status == "False"
        condition: dict[str, Any] = {
            "type": "PodScheduled",
            "status": "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": current.last_transition_time if unchanged and current else now(),
        }
        if meta.generation is not None:
            condition["observedGeneration"] = meta.generation
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        await self._client.patch(Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status")


def _condition(pod: Pod) -> PodCondition | None:
    return next((c for c in pod.status.conditions if c.type == "PodScheduled"), None)
