"""Writes the status of one Pod to the API server: the newest one, never two writes at a time, until it got there."""

from __future__ import annotations

import logging
import time
from asyncio import Event
from collections.abc import Mapping
from typing import Any

import msgspec

from podling.api import codec
from podling.api.core.v1 import Pod, PodStatus
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed
from podling.kubelet.pod_status import OWN_CONDITIONS

log = logging.getLogger(__name__)

_FINAL = (400, 404, 409, 413, 422)
"""Answers that the same write will get again; after any other it is repeated."""

_LAG = 10.0
"""Seconds for which a watch may still tell of versions from before our last write."""


class StatusWriter:
    """One Pod's. `run()` is its owner task; `set` and `seen` never block."""

    def __init__(self, client: Client, pod: Pod) -> None:
        self._client = client
        self._stored = pod
        self._written_at: float | None = None
        self._wanted: dict[str, Any] | None = None
        self._wake = Event()
        self._idle = Event()
        self._idle.set()

    def seen(self, pod: Pod) -> None:
        """What the API has now, whoever wrote it. `set` compares with it, so that nobody overrules the kubelet for long."""
        lags = self._written_at is not None and time.monotonic() - self._written_at < _LAG
        if not lags or _version(pod) >= _version(self._stored):
            self._stored = pod

    def set(self, status: PodStatus) -> None:
        """Makes `status` the one to be written, unless it is what the API has."""
        patch = _patch(status)
        if self._wanted is None and not _differs(patch, self._stored.status):
            return
        self._wanted = patch
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
            while (patch := self._wanted) is not None:
                try:
                    if _differs(patch, self._stored.status):
                        await self._write(patch)
                except ConnectionFailed:
                    await self._client.recovered(backoff.next())
                    continue
                except ApiError as error:
                    if error.code not in _FINAL:
                        log.warning("status of pod %s not written yet: %s", self._stored.metadata.name, error)
                        await self._client.recovered(backoff.next())
                        continue
                    if error.code not in (404, 409):
                        log.error("status of pod %s not written: %s", self._stored.metadata.name, error)
                backoff.reset()
                if self._wanted is patch:
                    self._wanted = None
            self._idle.set()

    async def _write(self, patch: dict[str, Any]) -> None:
        meta = self._stored.metadata
        body = {"metadata": {"uid": meta.uid}, "status": _directed(patch)}
        while True:
            try:
                answer = await self._client.patch(
                    Pod, meta.name, meta.namespace, body, content_type="strategic", subresource="status"
                )
                self._written_at = time.monotonic()
                self.seen(answer)  # unless a later version was seen before it came
                return
            except ApiError as error:
                if error.code != 409:
                    raise
                # Of two reasons for a conflict one passes: many writers. The other is that this is another Pod by now.
                if (await self._client.get(Pod, meta.name, meta.namespace)).metadata.uid != meta.uid:
                    raise


_CLEARED = ("reason", "message", "podIP", "podIPs", "containerStatuses", "initContainerStatuses")


def _version(pod: Pod) -> int:
    return int(pod.metadata.resource_version or 0)


def _patch(status: PodStatus) -> dict[str, Any]:
    """What the kubelet says, absent fields as None. Conditions of others are left out: they may have changed since."""
    fields: dict[str, Any] = msgspec.json.decode(codec.encode(status))
    for name in _CLEARED:
        fields.setdefault(name, None)
    conditions = [condition for condition in fields.get("conditions", ()) if condition["type"] in OWN_CONDITIONS]
    for condition in conditions:
        condition.setdefault("reason", None)
        condition.setdefault("message", None)
    fields["conditions"] = conditions
    return fields


def _differs(patch: Mapping[str, Any], stored: PodStatus) -> bool:
    """Whether the patch would change what is stored."""
    fields: dict[str, Any] = msgspec.json.decode(codec.encode(stored))
    held = {condition["type"]: condition for condition in fields.pop("conditions", ())}
    if any(_changes(condition, held.get(condition["type"], {})) for condition in patch["conditions"]):
        return True
    return _changes({name: value for name, value in patch.items() if name != "conditions"}, fields)


def _changes(patch: Mapping[str, Any], stored: Mapping[str, Any]) -> bool:
    return any(stored.get(name) != value for name, value in patch.items())


def _directed(patch: Mapping[str, Any]) -> dict[str, Any]:
    """As a strategic merge patch: conditions merge by type, whatever else the kubelet owns is replaced."""
    fields = dict(patch)
    for name in ("podIPs", "hostIPs"):
        if fields.get(name):
            fields[name] = [*fields[name], {"$patch": "replace"}]
    return fields
