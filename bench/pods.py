"""Pods over the API, as a user's program would have them: POST, and a watch that tells when they are Ready, and gone."""

from __future__ import annotations

import asyncio
import base64
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml

from podling.api import codec
from podling.api.core.v1 import Pod
from podling.client.client import Client, ClientConfig, EventType, WatchEvent

IMAGE = "docker.io/library/busybox:latest"
COMMAND = ("/bin/sh", "-c", "trap exit TERM; while :; do sleep 1000 & wait; done")
"""Runs until SIGTERM, and then exits at once."""
_NAMESPACE = "default"
_PATIENCE = 60.0


def manifest(name: str) -> dict[str, Any]:
    """The Pod that every candidate runs."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 5,
            "containers": [
                {"name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": list(COMMAND)}
            ],
        },
    }


@asynccontextmanager
async def connected(kubeconfig: str) -> AsyncIterator[PodBench]:
    """A bench on the API server of that kubeconfig (its text), over TLS with its client certificate."""
    config = yaml.safe_load(kubeconfig)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    with tempfile.TemporaryDirectory() as directory:
        files = {}
        for name in ("client-certificate-data", "client-key-data"):
            path = Path(directory) / name
            path.touch(0o600)
            path.write_bytes(base64.b64decode(user[name]))
            files[name] = str(path)
        client_config = ClientConfig(
            server=cluster["server"],
            ca=base64.b64decode(cluster["certificate-authority-data"]),
            cert_file=files["client-certificate-data"],
            key_file=files["client-key-data"],
            user_agent="bench",
        )
        async with Client(client_config) as client, asyncio.TaskGroup() as tasks:
            bench = PodBench(client)
            version = (await client.list(Pod, _NAMESPACE)).resource_version
            watch = tasks.create_task(bench._watch(version))
            yield bench
            watch.cancel()


class PodsStuck(Exception):
    """Pods did not get where they were to; the message names them."""


class PodBench:
    """Times are of time.perf_counter, in seconds."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._ready: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        self._news = asyncio.Event()

    async def _watch(self, version: str) -> None:
        while True:
            # A server ends its watches every few minutes.
            async for event in self._client.watch(Pod, _NAMESPACE, resource_version=version):
                self._note(event)
                version = event.object.metadata.resource_version

    def _note(self, event: WatchEvent[Pod]) -> None:
        now, pod = time.perf_counter(), event.object
        if event.type == EventType.DELETED:
            self._gone.setdefault(pod.metadata.name, now)
        elif event.type != EventType.BOOKMARK and _is_ready(pod):
            self._ready.setdefault(pod.metadata.name, now)
        self._news.set()

    async def start(self, *names: str) -> float:
        """Posts Pods, all at once; returns the seconds until the watch showed all of them Ready."""
        pods = [codec.convert(manifest(name), Pod) for name in names]
        begin = time.perf_counter()
        await asyncio.gather(*(self._client.create(pod, _NAMESPACE) for pod in pods))
        return await self._last(self._ready, names) - begin

    async def stop(self, *names: str) -> float:
        """Deletes Pods, all at once; returns the seconds until the watch showed all of them gone."""
        begin = time.perf_counter()
        await asyncio.gather(*(self._client.delete(Pod, name, _NAMESPACE) for name in names))
        return await self._last(self._gone, names) - begin

    async def _last(self, seen: dict[str, float], names: Sequence[str]) -> float:
        try:
            async with asyncio.timeout(_PATIENCE):
                while missing := [name for name in names if name not in seen]:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            wanted = "Ready" if seen is self._ready else "gone"
            states = [_state(pod) for pod in (await self._client.list(Pod, _NAMESPACE)).items]
            raise PodsStuck(
                f"not {wanted} after {_PATIENCE:.0f} s: {', '.join(missing)}; there are: {', '.join(states)}"
            ) from None
        return max(seen[name] for name in names)


def _is_ready(pod: Pod) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in pod.status.conditions)


def _state(pod: Pod) -> str:
    states = [s.state.waiting.reason for s in pod.status.container_statuses if s.state and s.state.waiting]
    words = [pod.metadata.name, pod.status.phase, *states, "Ready" if _is_ready(pod) else "not Ready"]
    return " ".join([*words, "being deleted"] if pod.metadata.deletion_timestamp else words)


def numbered(prefix: str, count: int) -> list[str]:
    return [f"{prefix}-{number}" for number in range(count)]
