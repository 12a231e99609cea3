"""Starting one container: image, configuration, creation, start; and what is remembered of the attempts that failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from podling.api.core.v1 import HostIP, Pod, PodIP
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import ConnectionFailed
from podling.kubelet import pod_actions
from podling.kubelet.container_config import container_config
from podling.kubelet.env import ConfigError
from podling.kubelet.image_credentials import Keyring
from podling.kubelet.image_manager import ImageError, Report
from podling.kubelet.pod_actions import Start, Waiting
from podling.kubelet.pod_context import PodContext, container_event
from podling.kubelet.volumes.plugin import Mounted, VolumeError
from podling.runtime.protocol import ContainerStatus, CRIError, Image, SandboxStatus

log = logging.getLogger(__name__)


class _Pull(Struct):
    """A pull under way or ended, for one attempt of a container."""

    attempt: int
    task: asyncio.Task[Image | ImageError]


class _Trouble(Struct, frozen=True):
    """Why the last try to start an attempt failed; `retry_at` in seconds since the epoch."""

    attempt: int
    waiting: Waiting
    retry_at: float


class ContainerStarter:
    """One Pod's. `wake` is called when a pull has ended; `set_up_volumes` gives the Pod's volumes by name."""

    def __init__(
        self,
        context: PodContext,
        wake: Callable[[], None],
        set_up_volumes: Callable[[], Awaitable[dict[str, Mounted]]],
    ) -> None:
        self._context = context
        self._wake = wake
        self._set_up_volumes = set_up_volumes
        self._pulls: dict[str, _Pull] = {}
        self._trouble: dict[str, _Trouble] = {}
        self._retry = Backoff(initial=0.5, maximum=10.0)

    def waiting(self) -> dict[str, Waiting]:
        """The trouble that containers are in, by name."""
        return {name: trouble.waiting for name, trouble in self._trouble.items()}

    def cancel(self) -> None:
        """Ends the pulls under way."""
        for pull in self._pulls.values():
            pull.task.cancel()

    async def start(self, tasks: asyncio.TaskGroup, pod: Pod, start: Start, sandbox: SandboxStatus) -> float | None:
        """Starts one container. None: started. Else when (seconds since the epoch) to try again; 0: on a wake-up."""
        name = start.container.name
        trouble = self._trouble.get(name)
        if trouble is not None and trouble.attempt == start.attempt and trouble.retry_at > time.time():
            return trouble.retry_at
        report = self._reporter(pod, start)
        try:
            image = await self._image(tasks, pod, start, report)
        except ImageError as error:
            return self._troubled(start, Waiting(error.reason, error.message), error.retry_in)
        if image is None:
            return 0.0
        runtime = self._context.runtime
        try:
            volumes = await self._set_up_volumes()
            for old in start.replaces:
                await runtime.remove_container(old.id)
                await asyncio.to_thread(_remove_logs, old)
            config = await container_config(self._context, self._with_ips(pod, sandbox.ips), start, image, volumes)
        except (ConfigError, ApiError, ConnectionFailed) as error:
            report("Warning", "Failed", f"Error: {error}")
            return self._troubled(start, Waiting("CreateContainerConfigError", str(error)))
        except VolumeError as error:
            self._context.recorder.event(pod, "Warning", "FailedMount", str(error))
            return self._troubled(start, pod_actions.default_waiting(pod))
        try:
            container_id = await runtime.create_container(sandbox.id, config)
        except CRIError as error:
            report("Warning", "Failed", f"Error: {error.message}")
            return self._troubled(start, Waiting("CreateContainerError", error.message))
        report("Normal", "Created", "Container created")
        try:
            await runtime.start_container(container_id)
        except CRIError as error:
            report("Warning", "Failed", f"Error: {error.message}")
            self._trouble[name] = _Trouble(start.attempt, Waiting("RunContainerError", error.message), 0.0)
            return None
        report("Normal", "Started", "Container started")
        self._trouble.pop(name, None)
        self._retry.reset()
        return None

    def _reporter(self, pod: Pod, start: Start) -> Report:
        name, init = start.container.name, start.container in pod.spec.init_containers

        def report(type: str, reason: str, message: str) -> None:
            container_event(self._context, pod, name, type, reason, message, init=init)

        return report

    def _troubled(self, start: Start, waiting: Waiting, retry_in: float | None = None) -> float:
        retry_at = time.time() + (self._retry.next() if retry_in is None else retry_in)
        self._trouble[start.container.name] = _Trouble(start.attempt, waiting, retry_at)
        return retry_at

    def _with_ips(self, pod: Pod, ips: list[str]) -> Pod:
        """The Pod with the addresses that its environment may refer to."""
        host_ip = self._context.host_ip
        own = [host_ip] if pod.spec.host_network else ips
        status = replace(
            pod.status,
            pod_ip=own[0] if own else "",
            pod_ips=[PodIP(ip=ip) for ip in own],
            host_ip=host_ip,
            host_ips=[HostIP(ip=host_ip)],
        )
        return replace(pod, status=status)

    async def _image(self, tasks: asyncio.TaskGroup, pod: Pod, start: Start, report: Report) -> Image | None:
        """The image of the container; None while it is being pulled. Raises ImageError."""
        name = start.container.name
        pull = self._pulls.get(name)
        if pull is not None and pull.attempt == start.attempt:
            if not pull.task.done():
                return None
            del self._pulls[name]
            outcome = pull.task.result()
            if isinstance(outcome, ImageError):
                raise outcome
            return outcome
        found = await self._context.images.present(pod, start.container, report)
        if found is None:
            task = tasks.create_task(self._pull(pod, start, report), name=f"pull for container {name}")
            self._pulls[name] = _Pull(start.attempt, task)
        return found

    async def _pull(self, pod: Pod, start: Start, report: Report) -> Image | ImageError:
        try:
            return await self._context.images.pull(pod, start.container, await self._keyring(pod), report)
        except ImageError as error:
            return error
        finally:
            self._wake()

    async def _keyring(self, pod: Pod) -> Keyring:
        secrets, missing = [], []
        for reference in pod.spec.image_pull_secrets:
            try:
                secret = await self._context.objects.secret(pod.metadata.namespace, reference.name)
            except (ApiError, ConnectionFailed) as error:
                log.warning("image pull secret %s: %s", reference.name, error)
                secret = None
            if secret is None:
                missing.append(reference.name)
            else:
                secrets.append(secret)
        if missing:
            text = f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
            text += "attempting to pull the image may not succeed."
            self._context.recorder.event(pod, "Warning", "FailedToRetrieveImagePullSecret", text)
        return Keyring.of(secrets)


def _remove_logs(status: ContainerStatus) -> None:
    """The log of a removed container, with what was rotated away of it."""
    path = Path(status.log_path)
    for old in [path, *path.parent.glob(f"{path.name}.*")]:
        old.unlink(missing_ok=True)
