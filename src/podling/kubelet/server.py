"""The kubelet's own HTTPS server: container logs, the Pods of the node, health.

Source: the kubelet API as the API server uses it (GET /containerLogs/<namespace>/<pod>/<container>, PodLogOptions as query);
Kubernetes documentation "Kubelet authentication/authorization".
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Never

from aiohttp.web import BaseRequest, Response, StreamResponse

from podling.api import codec, go
from podling.api import time as times
from podling.api.core.v1 import ContainerState, PodList
from podling.api.resources import all_containers
from podling.kit import tls_listener
from podling.kit.http_connection import IDLE, Connection, ConnectionServer, cancelled_with_connection
from podling.kubelet.logs import LogOptions, instant, read_logs
from podling.kubelet.pod_worker import PodWorker
from podling.kubelet.pod_workers import PodWorkers
from podling.runtime.protocol import ContainerStatus

_API_SERVER = "kube-apiserver-kubelet-client"
_MASTERS = "system:masters"


_ANONYMOUS = False
"""Whether clients may leave out the certificate: only once there are other credentials, for instance bearer tokens."""
_MAX_BODY = 64 << 10
_STOP_SECONDS = 1.0


class KubeletServer:
    """Serves the API server alone: a client certificate of the cluster's authority for it or for system:masters."""

    def __init__(self, workers: PodWorkers) -> None:
        self._workers = workers

    async def run(self, address: str, port: int, ca: Path, cert: Path, key: Path) -> Never:
        """Serves until it is cancelled. Raises OSError, for instance for a port in use."""
        context = await asyncio.to_thread(tls_listener.server_context, cert, key, ca, anonymous=_ANONYMOUS)
        server = ConnectionServer(self._answer, max_body=_MAX_BODY, keepalive_timeout=IDLE)
        try:
            async with tls_listener.listening(server, address, port, context):
                await asyncio.get_running_loop().create_future()
        finally:
            server.pre_shutdown()
            await server.shutdown(_STOP_SECONDS)
        raise AssertionError("a future without a result has ended")

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        refusal = _refusal(request)
        if refusal is not None:
            return refusal
        if request.method not in ("GET", "HEAD"):
            return Response(status=405, text="Method Not Allowed", headers={"Allow": "GET, HEAD"})
        # Names need no quoting, so that what is quoted leads nowhere.
        match request.rel_url.raw_path.strip("/").split("/"):
            case ["healthz"]:
                return Response(text="ok")
            case ["pods"]:
                return self._pods()
            case ["containerLogs", namespace, pod, container]:
                return await self._logs(request, namespace, pod, container)
            case _:
                return Response(status=404, text="404 page not found")

    def _pods(self) -> Response:
        pods = PodList(items=[worker.pod for worker in self._workers])
        return Response(body=codec.encode(pods), content_type="application/json")

    async def _logs(self, request: BaseRequest, namespace: str, pod_name: str, name: str) -> StreamResponse:
        worker = self._workers.find(namespace, pod_name)
        if worker is None:
            return Response(status=404, text=f'pod "{pod_name}" not found')
        if not any(container.name == name for container in all_containers(worker.pod.spec)):
            return Response(status=404, text=f'container "{name}" not found in pod "{pod_name}"')
        try:
            options = _options(request.query)
        except ValueError as error:
            return Response(status=400, text=str(error))
        previous = request.query.get("previous") in ("true", "1")
        status, refusal = _choose(worker, name, previous)
        if status is None:
            return Response(status=400, text=refusal)
        exited = worker.exited(status.id)
        response = StreamResponse(headers={"Content-Type": "text/plain"})
        async with contextlib.aclosing(read_logs(Path(status.log_path), options, exited)) as stream:
            if not await asyncio.to_thread(Path(status.log_path).exists):
                return Response(status=404, text=f"the log of container {name} does not exist any more")
            with cancelled_with_connection(request):
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
        value = go.parse_int(text)
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


def _refusal(request: BaseRequest) -> Response | None:
    """The answer to a client that may not ask for anything, or None."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    certificate = connection.certificate
    if not certificate:
        return Response(status=401, text="Unauthorized")
    attributes = [pair for relative in certificate.get("subject", ()) for pair in relative]
    names = [value for key, value in attributes if key == "commonName"]
    if _API_SERVER in names[:1] or ("organizationName", _MASTERS) in attributes:
        return None
    user = names[0] if names else ""
    return Response(status=403, text=f"Forbidden (user={user}, verb=get, resource=nodes, subresource=proxy)")
