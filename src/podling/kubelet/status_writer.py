"""Writes the status of one Pod to the API server: the newest one, never two writes at a time, until it got there."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from podling.api import codec
from podling.api.core.v1 import Pod, PodStatus
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed

log = logging.getLogger(__name__)


class StatusWriter:
    """One Pod's. `run()` is its owner task; `set` never blocks."""

    def __init__(self, client: Client, pod: Pod) -> None:
        self._client = client
        self._pod = pod
        self._wanted: PodStatus | None = None
        self._written = codec.encode(pod.status)
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def set(self, status: PodStatus) -> None:
        """Makes `status` the one to be written, unless it is what was written last."""
        encoded = codec.encode(status)
        if encoded == self._written and self._wanted is None:
            return
        self._wanted = status
        self._idle.clear()
        self._wake.set()

    async def flush(self) -> None:
        """Returns when what was set has been written, or the Pod is gone."""
        await self._idle.wait()

    async def run(self) -> None:
        backoff = Backoff(initial=0.1, maximum=10.0)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while (status := self._wanted) is not None:
                try:
                    await self._write(status)
                except ConnectionFailed:
                    await self._client.recovered(backoff.next())
                    continue
                except ApiError as error:
                    if error.code in (429, 500, 503, 504):
                        await self._client.recovered(backoff.next())
                        continue
                    if error.code not in (404, 409):
                        log.error("status of pod %s not written: %s", self._pod.metadata.name, error)
                backoff.reset()
                if self._wanted is status:
                    self._wanted = None
            self._idle.set()

    async def _write(self, status: PodStatus) -> None:
        meta = self._pod.metadata
        patch = {"metadata": {"uid": meta.uid}, "status": _patch(status)}
        encoded = codec.encode(status)
        await self._client.patch(Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status")
        self._written = encoded


_CLEARED = ("reason", "message", "podIP", "podIPs", "containerStatuses", "initContainerStatuses")


def _patch(status: PodStatus) -> dict[str, Any]:
    """A strategic merge patch: conditions merge by type, whatever else the kubelet owns is replaced."""
    fields: dict[str, Any] = msgspec.json.decode(codec.encode(status))
    for name in _CLEARED:
        fields.setdefault(name, None)
    for condition in fields.get("conditions", ()):
        condition.setdefault("reason", None)
        condition.setdefault("message", None)
    if ips := fields.get("podIPs"):
        fields["podIPs"] = [*ips, {"$patch": "replace"}]
    if ips := fields.get("hostIPs"):
        fields["hostIPs"] = [*ips, {"$patch": "replace"}]
    return fields
