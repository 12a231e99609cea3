"""The kubelet's own HTTPS server: container logs, the Pods of the node, health.

Source: the kubelet API as the API server uses it (GET /containerLogs/<namespace>/<pod>/<container>, PodLogOptions as query);
Kubernetes documentation "Kubelet authentication/authorization".
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from aiohttp import web

from podling.api import codec
from podling.api import time as times
from podling.api.core.v1 import ContainerState, PodList
from podling.api.resources import all_containers
from podling.kubelet.logs import LogOptions, instant, read_logs
from podling.kubelet.pod_worker import PodWorker
from podling.kubelet.pod_workers import PodWorkers
from podling.runtime.protocol import ContainerStatus

_API_SERVER = "kube-apiserver-kubelet-client"
_MASTERS = "system:masters"


class KubeletServer:
    """Serves the API server alone: a client certificate of the cluster's authority for it or for system:masters."""

    def __init__(self, workers: PodWorkers) -> None:
        self._workers = workers
        self._runner: web.AppRunner | None = None

    async def start(self, address: str, port: int, ca: Path, cert: Path, key: Path) -> None:
        app = web.Application(middlewares=[_authenticate])
        app.router.add_get("/healthz", _healthz)
        app.router.add_get("/pods", self._pods)
        app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", self._logs)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert, key)
        context.load_verify_locations(ca)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await self._runner.setup()
        await web.TCPSite(self._runner, address, port, ssl_context=context, reuse_address=True).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _pods(self, request: web.Request) -> web.Response:
        pods = PodList(items=[worker.pod for worker in self._workers])
        return web.Response(body=codec.encode(pods), content_type="application/json")

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        match = request.match_info
        namespace, pod_name, name = match["namespace"], match["pod"], match["container"]
        worker = self._workers.find(namespace, pod_name)
        if worker is None:
            return web.Response(status=404, text=f'pod "{pod_name}" not found')
        if not any(container.name == name for container in all_containers(worker.pod.spec)):
            return web.Response(status=404, text=f'container "{name}" not found in pod "{pod_name}"')
        try:
            options = _options(request.query)
        except ValueError as error:
            return web.Response(status=400, text=str(error))
        previous = request.query.get("previous") in ("true", "1")
        status, refusal = _choose(worker, name, previous)
        if status is None:
            return web.Response(status=400, text=refusal)
        exited = worker.exited(status.id)
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        async with contextlib.aclosing(read_logs(Path(status.log_path), options, exited)) as stream:
            if not await asyncio.to_thread(Path(status.log_path).exists):
                return web.Response(status=404, text=f"the log of container {name} does not exist any more")
            await response.prepare(request)
            async for part in stream:
                await response.write(part)
        return response


def _choose(worker: PodWorker, name: str, previous: bool) -> tuple[ContainerStatus | None, str]:
    """The container whose log is meant: the current one, or where it waits for a restart the one before; or why none."""
    pod_name = worker.pod.metadata.name
    shown = next(
        (s for s in [*worker.status.init_container_statuses, *worker.status.container_statuses] if s.name == name), None
    )
    state = shown.state if shown is not None else ContainerState()
    last = shown.last_state.terminated if shown is not None else None
    if previous:
        missing = f'previous terminated container "{name}" in pod "{pod_name}" not found'
        wanted = last.container_id if last is not None else ""
    elif state.waiting is not None and last is None:
        reason = state.waiting.reason
        why = {"ErrImagePull": "image can't be pulled", "ImagePullBackOff": "trying and failing to pull image"}
        missing = f'container "{name}" in pod "{pod_name}" is waiting to start: {why.get(reason, reason)}'
        wanted = ""
    else:
        missing = f'container "{name}" in pod "{pod_name}" is not available'
        wanted = last.container_id if state.waiting is not None and last is not None else ""
        wanted = wanted or (shown.container_id if shown is not None else "")
    identifier = wanted.rpartition("://")[2]
    for status in worker.records.containers.get(name, []):
        if identifier and status.id == identifier:
            return status, ""
    return None, missing


def _options(query: Mapping[str, str]) -> LogOptions:
    """PodLogOptions from the query. Raises ValueError."""

    def number(name: str) -> int | None:
        text = query.get(name, "")
        if not text:
            return None
        value = int(text)
        if value < 0:
            raise ValueError(f"{name} must not be negative")
        return value

    since = query.get("sinceTime", "")
    if since:
        instant(since.encode())
    seconds = number("sinceSeconds")
    if seconds is not None:
        now = time.time()
        since = times.from_seconds(now - min(seconds, now))  # no log is older than the epoch
    return LogOptions(
        follow=query.get("follow") in ("true", "1"),
        timestamps=query.get("timestamps") in ("true", "1"),
        tail_lines=number("tailLines"),
        since=since,
        limit_bytes=number("limitBytes"),
        stream=query.get("stream") or "All",
    )


async def _healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


@web.middleware
async def _authenticate(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    transport = request.transport
    peer = transport.get_extra_info("peercert") if transport is not None else None
    if not peer:
        return web.Response(status=401, text="Unauthorized")
    subject = {key: value for part in peer.get("subject", ()) for key, value in part}
    organizations = [value for part in peer.get("subject", ()) for key, value in part if key == "organizationName"]
    if subject.get("commonName") != _API_SERVER and _MASTERS not in organizations:
        user = subject.get("commonName", "")
        return web.Response(status=403, text=f"Forbidden (user={user}, verb=get, resource=nodes, subresource=proxy)")
    return await handler(request)
