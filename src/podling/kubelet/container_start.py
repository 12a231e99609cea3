"""Starting one container: image, configuration, creation, start; and what is remembered of the attempts that failed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from podling.api.core.v1 import Container, HostIP, Pod, PodIP, Secret
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import ConnectionFailed
from podling.kit import file_error
from podling.kubelet import log_files, pod_actions
from podling.kubelet.container_config import TERMINATION_PATH, container_config
from podling.kubelet.env import ConfigError
from podling.kubelet.image_manager import ImageError, Report
from podling.kubelet.pod_actions import Start, Waiting
from podling.kubelet.pod_context import PodContext, container_event
from podling.kubelet.volumes.image import image_volumes
from podling.kubelet.volumes.plugin import Mounted, VolumeError
from podling.runtime.protocol import ContainerState, ContainerStatus, CRIError, Image, SandboxStatus

log = logging.getLogger(__name__)


class _Pull(Struct):
    """A pull under way or ended, for one attempt of a container.

    `secrets` counts the changes of the Pod's pull secrets that were seen before it began.
    """

    attempt: int
    image: str
    task: asyncio.Future[Image | ImageError]
    secrets: int
    late: bool = False
    """The try to start that it was for has failed for another image: if it fails too, the next try begins it anew."""

    @property
    def error(self) -> ImageError | None:
        outcome = self.task.result() if self.task.done() else None
        return outcome if isinstance(outcome, ImageError) else None


class _PullFailed(Exception):
    """`secrets` is the pull's."""

    def __init__(self, error: ImageError, secrets: int) -> None:
        super().__init__(error.message)
        self.error = error
        self.secrets = secrets


class _Trouble(Struct, frozen=True):
    """Why the last try to start an attempt failed; `retry_at` in seconds since the epoch.

    `secrets` counts the changes of the Pod's pull secrets that may have helped already.
    """

    attempt: int
    image: str
    waiting: Waiting
    retry_at: float
    secrets: int = 0


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
        self._pulls: dict[tuple[str, str], _Pull] = {}
        """By container and image volume; the container's own image has no volume."""
        self._trouble: dict[str, _Trouble] = {}
        self._retry = Backoff(initial=0.5, maximum=10.0)
        self._secrets = 0

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
        if trouble is not None:
            if trouble.attempt != start.attempt or trouble.image != start.container.image:
                del self._trouble[name]
            elif trouble.retry_at > time.time() and not await self._may_help(pod, start.container, trouble):
                return trouble.retry_at
        report = self._reporter(pod, start)
        try:
            images = await self._images(tasks, pod, start, report)
        except _PullFailed as failed:
            self._follow_secrets(pod)
            if failed.secrets != self._secrets:
                # They changed meanwhile; who was woken for that found the pull still going on.
                self._wake()
            error = failed.error
            return self._troubled(start, Waiting(error.reason, error.message), error.retry_in, failed.secrets)
        if images is None:
            return 0.0
        image, mounted_images = images
        runtime = self._context.runtime
        try:
            volumes = {**await self._set_up_volumes(), **mounted_images}
            for old in start.replaces:
                await runtime.remove_container(old.id)
                await asyncio.to_thread(_remove_files, old)
            config = await container_config(self._context, self._with_ips(pod, sandbox.ips), start, image, volumes)
        except (ConfigError, ApiError, ConnectionFailed, OSError) as error:
            text = str(error)
            if isinstance(error, OSError):
                place = self._context.paths.directory(pod.metadata.uid)
                text = f"cannot prepare the files of the container: {file_error.reason(error, place)}"
            report("Warning", "Failed", f"Error: {text}")
            return self._troubled(start, Waiting("CreateContainerConfigError", text))
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
            retry_at = self._troubled(start, Waiting("RunContainerError", error.message))
            ended = (await runtime.container_status(container_id)).state == ContainerState.EXITED
            # An exited one is restarted as others are; one that was not even tried would be tried again at once.
            return None if ended else retry_at
        report("Normal", "Started", "Container started")
        self._trouble.pop(name, None)
        if not self._trouble:
            self._context.watches.unfollow(pod.metadata.uid, self._secrets_changed)
        self._retry.reset()
        return None

    def _reporter(self, pod: Pod, start: Start) -> Report:
        name, init = start.container.name, start.container in pod.spec.init_containers

        def report(type: str, reason: str, message: str) -> None:
            container_event(self._context, pod, name, type, reason, message, init=init)

        return report

    def _pod_reporter(self, pod: Pod) -> Report:
        def report(type: str, reason: str, message: str) -> None:
            self._context.recorder.event(pod, type, reason, message)

        return report

    def _troubled(
        self, start: Start, waiting: Waiting, retry_in: float | None = None, secrets: int | None = None
    ) -> float:
        retry_at = time.time() + (self._retry.next() if retry_in is None else retry_in)
        seen = self._secrets if secrets is None else secrets
        self._trouble[start.container.name] = _Trouble(start.attempt, start.container.image, waiting, retry_at, seen)
        return retry_at

    def _follow_secrets(self, pod: Pod) -> None:
        """A pull secret that comes or changes may end the trouble at once."""
        names = {reference.name for reference in pod.spec.image_pull_secrets if reference.name}
        self._context.watches.follow(pod, [(Secret, name) for name in names], self._secrets_changed)

    def _secrets_changed(self) -> None:
        self._secrets += 1
        self._wake()

    async def _may_help(self, pod: Pod, container: Container, trouble: _Trouble) -> bool:
        """Whether the pull secrets have changed so that what failed before may succeed now."""
        if trouble.secrets == self._secrets:
            return False
        changes = self._secrets
        images = [container.image, *(source.reference for source in image_volumes(pod, container).values())]
        helps = False
        for image in images:
            helps = helps or await self._context.images.credentials_changed(pod, image)
        # The trouble stays for the status to show, until the next try has come to its end.
        retry_at = 0.0 if helps else trouble.retry_at
        self._trouble[container.name] = replace(trouble, secrets=changes, retry_at=retry_at)
        return helps

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

    async def _images(
        self, tasks: asyncio.TaskGroup, pod: Pod, start: Start, report: Report
    ) -> tuple[Image, dict[str, Mounted]] | None:
        """The container's image and its image volumes by name; None while one is being pulled. Raises _PullFailed."""
        container = start.container
        wanted = {"": (container.image, container.image_pull_policy, report)}
        for name, source in image_volumes(pod, container).items():
            wanted[name] = (source.reference, source.pull_policy, self._pod_reporter(pod))
        pulls = {
            name: await self._pull(tasks, pod, start, name, image, policy, tell)
            for name, (image, policy, tell) in wanted.items()
        }
        failed = [(name, pull, pull.error) for name, pull in pulls.items() if pull.error is not None]
        if failed:
            for name, _, _ in failed:
                del self._pulls[container.name, name]
            for pull in pulls.values():
                pull.late = True
            _, first, error = failed[0]
            raise _PullFailed(error, first.secrets)
        if not all(pull.task.done() for pull in pulls.values()):
            return None
        found: dict[str, Image] = {}
        for name, pull in pulls.items():
            del self._pulls[container.name, name]
            outcome = pull.task.result()
            assert not isinstance(outcome, ImageError)
            found[name] = outcome
        return found.pop(""), {name: Mounted(Path(), readonly=True, image=image.id) for name, image in found.items()}

    async def _pull(
        self, tasks: asyncio.TaskGroup, pod: Pod, start: Start, volume: str, image: str, policy: str, report: Report
    ) -> _Pull:
        """The pull of one image, begun if need be."""
        key = (start.container.name, volume)
        pull = self._pulls.get(key)
        if pull is not None:
            if pull.attempt == start.attempt and pull.image == image and not (pull.late and pull.error is not None):
                pull.late = False
                return pull
            pull.task.cancel()
        secrets = self._secrets
        task: asyncio.Future[Image | ImageError]
        found: Image | ImageError | None
        try:
            found = await self._context.images.present(image, policy, report)
        except ImageError as error:
            found = error
        if found is None:
            ensured = self._ensure(pod, image, policy, report)
            task = tasks.create_task(ensured, name=f"pull for container {start.container.name}")
        else:
            task = asyncio.get_running_loop().create_future()
            task.set_result(found)
        pull = self._pulls[key] = _Pull(start.attempt, image, task, secrets)
        return pull

    async def _ensure(self, pod: Pod, image: str, policy: str, report: Report) -> Image | ImageError:
        try:
            return await self._context.images.ensure(pod, image, policy, report)
        except ImageError as error:
            return error
        finally:
            self._wake()


def _remove_files(status: ContainerStatus) -> None:
    """The log of a removed container, with what was rotated away of it, and its termination message."""
    log_files.remove_all(Path(status.log_path))
    if message := status.annotations.get(TERMINATION_PATH):
        Path(message).unlink(missing_ok=True)
