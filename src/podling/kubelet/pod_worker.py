"""The life of one Pod on the node: one task from its arrival to the moment when nothing of it remains.

Source: Kubernetes documentation "Pod Lifecycle" (container restarts, Pod termination), "Init Containers", "Sidecar
Containers". The worker is level-triggered: each pass reads what the runtime holds, so that after a restart of the agent the
first pass adopts what runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from podling.api import time as times
from podling.api.core.v1 import Container, Pod, PodStatus
from podling.api.resources import all_containers, is_sidecar
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import ConnectionFailed
from podling.kit import file_error
from podling.kubelet import cgroups, pod_actions
from podling.kubelet.container_config import sandbox_config
from podling.kubelet.container_start import ContainerStarter
from podling.kubelet.pod_actions import Actions, Kill, Records, Waiting
from podling.kubelet.pod_cleanup import remove_pod, stop_pod
from podling.kubelet.pod_context import PodContext, container_event
from podling.kubelet.pod_paths import describe
from podling.kubelet.pod_status import FAILED, SUCCEEDED, Observed, generate, restart_floor
from podling.kubelet.status_writer import StatusWriter
from podling.kubelet.termination_message import termination_message
from podling.kubelet.volumes.content import references, shows_metadata
from podling.kubelet.volumes.plugin import Mounted, VolumeError
from podling.runtime.protocol import ContainerState, ContainerStatus, CRIError

log = logging.getLogger(__name__)

_MIN_GRACE = 2.0
"""Seconds that every container gets, as the kubelet gives them."""


class Ending(Struct, frozen=True):
    """Why the kubelet itself ends a Pod."""

    reason: str
    message: str
    grace: int | None = None
    """Seconds, instead of the Pod's own."""


class PodWorker:
    """`update`, `gone`, `end` and `wake` may be called at any time; `run` is the worker's one task."""

    def __init__(self, context: PodContext, pod: Pod, room_freed: Callable[[], None] = lambda: None) -> None:
        """`room_freed` is called when the Pod no longer holds room, unless `run` ends then."""
        self._room_freed = room_freed
        self.context = context
        self.pod = pod
        self.records = Records(None, {})
        self.status = pod.status
        self.holds_room = True
        """Its resources and host ports are taken: until all its containers have ended and its sandbox is stopped."""
        self._generated: PodStatus | None = None
        self._present = True
        self._ending: Ending | None = None
        self._wake = asyncio.Event()
        self._changed = asyncio.Event()
        self._start_time = pod.status.start_time or times.now()
        self._status = StatusWriter(context.client, pod)
        self._starter = ContainerStarter(context, self.wake, self._set_up_volumes)
        self._messages: dict[str, str] = {}
        self._crash_loops: dict[str, int] = {}
        self._exited: dict[str, asyncio.Event] = {}
        self._retry = Backoff(initial=0.5, maximum=10.0)
        self._volumes_stale = False

    # -- what comes from outside

    def update(self, pod: Pod) -> None:
        """A newer version of the Pod was seen."""
        before, self.pod = self.pod.metadata, pod
        self._status.seen(pod)
        if (before.labels, before.annotations) != (pod.metadata.labels, pod.metadata.annotations):
            self._volumes_stale = self._volumes_stale or shows_metadata(pod)
        self.wake()

    def gone(self, pod: Pod) -> None:
        """The API has the Pod no more: what runs of it has to go. `pod` is its last version."""
        self.pod = pod
        self._present = False
        self.wake()

    def end(self, ending: Ending) -> None:
        """Fails the Pod for a reason of the node's (eviction, deadline, admission)."""
        if self._ending is None:
            self._ending = ending
            self.wake()

    def wake(self) -> None:
        """Something about the Pod changed."""
        self._wake.set()
        self._changed.set()

    def exited(self, container_id: str) -> asyncio.Event:
        """Set once the container does not run."""
        if any(status.id == container_id for status in self.records.running()):
            return self._exited.setdefault(container_id, asyncio.Event())
        over = asyncio.Event()
        over.set()
        return over

    @property
    def ending(self) -> bool:
        """The Pod does not run any more, or soon will not, or the API has it no more."""
        return self._ending is not None or self._deleted or self._finished or self.status.phase in (SUCCEEDED, FAILED)

    def again(self) -> PodWorker:
        """A fresh worker in the place of this one, which failed."""
        worker = PodWorker(self.context, self.pod, self._room_freed)
        worker._present, worker._ending, worker.holds_room = self._present, self._ending, self.holds_room
        return worker

    @property
    def _deleted(self) -> bool:
        return not self._present or bool(self.pod.metadata.deletion_timestamp)

    @property
    def _finished(self) -> bool:
        """The API says that the Pod has ended, whoever wrote that."""
        return self.pod.status.phase in (SUCCEEDED, FAILED)

    @property
    def _over(self) -> bool:
        """Nothing of the Pod may run any more."""
        return self._deleted or self._finished or self._ending is not None

    # -- the life of the Pod

    async def run(self) -> None:
        """Ends when the Pod is gone from the API and nothing of it remains on the node."""
        async with asyncio.TaskGroup() as tasks:
            writer = tasks.create_task(self._status.run())
            try:
                if not self._over:
                    await self._keep_running(tasks)
                self._starter.cancel()
                await self._stop()
                while not self._deleted:
                    await self._wait(None)
                    if not self._deleted:
                        self._set_status({}, ended=True)
                await self._remove()
            finally:
                writer.cancel()
                self._starter.cancel()
                for event in self._exited.values():
                    event.set()

    async def _keep_running(self, tasks: asyncio.TaskGroup) -> None:
        """Brings the Pod to what its specification says and keeps it there, until it has come to its end."""
        while not self._over:
            self._wake.clear()
            again: float | None = None
            try:
                done, wake_at = await self._sync(tasks)
                if done:
                    return
                if wake_at is not None:
                    again = max(0.0, wake_at - time.time())
            except (CRIError, OSError) as error:
                log.warning("pod %s: %s", describe(self.pod), file_error.reason(error))
                again = self._retry.next()
            deadline = self._deadline()
            if deadline is not None:
                left = deadline - time.time()
                if left <= 0:
                    message = "Pod was active on the node longer than the specified deadline"
                    self._ending = Ending("DeadlineExceeded", message)
                    self.context.recorder.event(self.pod, "Normal", "DeadlineExceeded", message)
                    return
                again = left if again is None else min(again, left)
            await self._wait(again)

    def _deadline(self) -> float | None:
        seconds = self.pod.spec.active_deadline_seconds
        return None if seconds is None else times.to_seconds(self._start_time) + seconds

    async def _wait(self, seconds: float | None) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        self._wake.clear()

    async def _sync(self, tasks: asyncio.TaskGroup) -> tuple[bool, float | None]:
        """One pass. Returns whether the Pod has come to its end, and when (in seconds since the epoch) to look again."""
        await self._look()
        actions = self._compute()
        if actions.create_sandbox:
            if not await self._create_sandbox(actions.sandbox_attempt):
                self._publish(actions)
                return False, time.time() + self._retry.next()
            await self._look()
            actions = self._compute()
        if actions.kill:
            for kill in actions.kill:
                await self._kill(kill)
            # What takes their place starts in this same pass, so that the status goes from running to running.
            await self._look()
            actions = self._compute()
        wake_at = actions.wake_at / 1e9 if actions.wake_at is not None else None
        due = self.context.tokens.refresh_at(self.pod.metadata.uid)
        if (self._volumes_stale or (due is not None and due <= time.time())) and not await self._refresh_volumes():
            wake_at = _earlier(wake_at, time.time() + self._retry.next())
        started = False
        sandbox = self.records.ready_sandbox
        for start in actions.start if sandbox is not None else ():
            if self._over:
                break
            self._crash_loops.pop(start.container.name, None)
            assert sandbox is not None
            retry_at = await self._starter.start(tasks, self.pod, start, sandbox)
            if retry_at is None:
                started = True
            elif retry_at:
                wake_at = _earlier(wake_at, retry_at)
            elif start.container in self.pod.spec.containers:
                break
        if started:
            await self._look()
            # What was started may be all that the init phase waited for, or have exited already.
            following = self._compute()
            if following.start or following.done:
                self._wake.set()
            actions.waiting, actions.start = following.waiting, following.start
            if following.wake_at is not None:
                wake_at = _earlier(wake_at, following.wake_at / 1e9)
        if (due := self.context.tokens.refresh_at(self.pod.metadata.uid)) is not None:
            wake_at = _earlier(wake_at, due)
        if not actions.done:
            self._report_crash_loops(actions)
            self._publish(actions)
        return actions.done, wake_at

    async def _look(self) -> None:
        """Reads what the runtime holds of the Pod."""
        uid = self.pod.metadata.uid
        runtime = self.context.runtime
        containers = await runtime.list_containers(pod_uid=uid)
        self.records = Records.of(await runtime.list_pod_sandbox(pod_uid=uid), containers)
        self._messages = {c.id: self._messages[c.id] for c in containers if c.id in self._messages}
        for held in self.records.containers.values():
            for status in held:
                if status.state == ContainerState.EXITED:
                    if (event := self._exited.pop(status.id, None)) is not None:
                        event.set()
                    if status.id not in self._messages:
                        self._messages[status.id] = await asyncio.to_thread(termination_message, status)

    def _compute(self) -> Actions:
        # The API may not know yet what was said last.
        pod = self.pod if self._generated is None else replace(self.pod, status=self._generated)
        return pod_actions.compute(pod, self.records, restart_floor(pod, self.records), time.time_ns())

    def _publish(self, actions: Actions) -> None:
        starting = {start.container.name for start in actions.start}
        # One that could not be started and has no next start has ended: it waits for nothing.
        waiting = {
            name: why
            for name, why in self._starter.waiting().items()
            if name in starting
            or name in actions.waiting
            or (newest := self.records.newest(name)) is None
            or newest.state != ContainerState.EXITED
        }
        waiting.update((name, why) for name, why in actions.waiting.items() if name not in waiting or why.message)
        self._set_status(waiting, ended=False)

    def _set_status(self, waiting: dict[str, Waiting], *, ended: bool) -> None:
        ending = self._ending
        observed = Observed(
            records=self.records,
            waiting=waiting,
            messages=self._messages,
            before=self._generated,
            runtime=self.context.runtime_name,
            host_ip=self.context.host_ip,
            start_time=self._start_time,
            ended=ended,
            phase=FAILED if ending is not None else "",
            reason=ending.reason if ending is not None else self.pod.status.reason,
            message=ending.message if ending is not None else self.pod.status.message,
        )
        self.status = self._generated = generate(self.pod, observed, time.time())
        self._status.set(self.status)

    # -- starting

    async def _create_sandbox(self, attempt: int) -> bool:
        """Cgroup, directories, volumes and sandbox. False: it failed and is to be tried again."""
        context, pod = self.context, self.pod
        if attempt > 0:
            text = "Pod sandbox changed, it will be killed and re-created."
            context.recorder.event(pod, "Normal", "SandboxChanged", text)
            await self._retire_sandboxes()
        try:
            await asyncio.to_thread(self._make_place)
            await self._set_up_volumes()
            await context.runtime.run_pod_sandbox(
                sandbox_config(context, pod, attempt), pod.spec.runtime_class_name or ""
            )
        except VolumeError as error:
            context.recorder.event(pod, "Warning", "FailedMount", str(error))
            return False
        except (ApiError, ConnectionFailed) as error:
            log.warning("volumes of pod %s: %s", describe(pod), error)
            return False
        except CRIError as error:
            text = f"Failed to create pod sandbox: {error.message}"
            context.recorder.event(pod, "Warning", "FailedCreatePodSandBox", text)
            return False
        except OSError as error:
            text = f"unable to ensure pod container exists: {file_error.reason(error)}"
            context.recorder.event(pod, "Warning", "FailedCreatePodContainer", text)
            return False
        self._retry.reset()
        return True

    async def _retire_sandboxes(self) -> None:
        """Those of earlier attempts. They stay for the sake of their containers, which count the restarts."""
        runtime, uid = self.context.runtime, self.pod.metadata.uid
        for sandbox in await runtime.list_pod_sandbox(pod_uid=uid):
            await runtime.stop_pod_sandbox(sandbox.id)
            if not await runtime.list_containers(sandbox_id=sandbox.id):
                await runtime.remove_pod_sandbox(sandbox.id)

    def _make_place(self) -> None:
        """The Pod's cgroup and directories."""
        context, uid = self.context, self.pod.metadata.uid
        path = cgroups.pod_cgroup(context.cgroup_root, self.pod)
        context.cgroups.create(path)
        context.cgroups.apply(path, cgroups.pod_resources(self.pod))
        context.paths.directory(uid).mkdir(mode=0o750, parents=True, exist_ok=True)
        context.paths.pod_logs(self.pod).mkdir(mode=0o755, parents=True, exist_ok=True)

    async def _set_up_volumes(self) -> dict[str, Mounted]:
        """Also brings the files of volumes that show API objects up to date."""
        self._volumes_stale = False
        # Before they are read: what changes while they are being written is not to be missed.
        self.context.watches.follow(self.pod, references(self.pod), self._volumes_changed)
        return await self.context.volumes.set_up(self.pod)

    def _volumes_changed(self) -> None:
        self._volumes_stale = True
        self.wake()

    async def _refresh_volumes(self) -> bool:
        """False: to be tried again. The containers go on with what they have meanwhile."""
        try:
            await self._set_up_volumes()
        except VolumeError as error:
            # As when an object is deleted under them; its return is an event.
            log.info("pod %s: %s", describe(self.pod), error)
        except (ApiError, ConnectionFailed) as error:
            log.info("pod %s: %s", describe(self.pod), error)
            self._volumes_stale = True
            return False
        return True

    def _event(self, container: Container, type: str, reason: str, message: str) -> None:
        container_event(
            self.context,
            self.pod,
            container.name,
            type,
            reason,
            message,
            init=container in self.pod.spec.init_containers,
        )

    def _report_crash_loops(self, actions: Actions) -> None:
        """One BackOff event a back-off, however often the Pod is looked at meanwhile."""
        for container in all_containers(self.pod.spec):
            name = container.name
            waiting = actions.waiting.get(name)
            newest = self.records.newest(name)
            if waiting is None or waiting.reason != "CrashLoopBackOff" or newest is None:
                continue
            if self._crash_loops.get(name) != newest.metadata.attempt:
                self._crash_loops[name] = newest.metadata.attempt
                text = f"Back-off restarting failed container {name} in pod {describe(self.pod)}"
                self._event(container, "Warning", "BackOff", text)

    # -- stopping

    async def _kill(self, kill: Kill) -> None:
        """Stops one container that the restart policy will start anew."""
        name = kill.status.metadata.name
        container = next(c for c in all_containers(self.pod.spec) if c.name == name)
        self._event(container, "Normal", "Killing", kill.message)
        await self._stop_containers([kill.status], time.monotonic())

    def _grace(self) -> float:
        """Seconds that the containers of the Pod have from the start of its end."""
        meta, spec = self.pod.metadata, self.pod.spec
        grace = spec.termination_grace_period_seconds
        if self._deleted and meta.deletion_grace_period_seconds is not None:
            grace = meta.deletion_grace_period_seconds
        if self._ending is not None and self._ending.grace is not None:
            grace = self._ending.grace
        return max(_MIN_GRACE, float(30 if grace is None else grace))

    async def _stop(self) -> None:
        """Ends all containers, sidecars last; then the sandbox, volumes and cgroup. Writes the final status."""
        await self._look()
        since = time.monotonic()
        sidecars = [c.name for c in self.pod.spec.init_containers if is_sidecar(c)]
        running = self.records.running()
        for container in all_containers(self.pod.spec):
            if any(status.metadata.name == container.name for status in running):
                self._event(container, "Normal", "Killing", f"Stopping container {container.name}")
        await self._stop_containers([c for c in running if c.metadata.name not in sidecars], since)
        for name in reversed(sidecars):
            await self._stop_containers([c for c in running if c.metadata.name == name], since)
        if running:
            await self._look()
        if self._present:
            self._set_status({}, ended=True)
        if not self._deleted:
            await stop_pod(self.context, self.pod.metadata.uid)
            self.holds_room = False
            self._room_freed()
            await self._look()
            self._set_status({}, ended=True)

    async def _stop_containers(self, statuses: list[ContainerStatus], since: float) -> None:
        """Returns when all have exited. A shorter grace period that arrives meanwhile holds from the same start."""
        if not statuses:
            return
        # Sidecars get a moment too, however long the others took.
        least = time.monotonic() + _MIN_GRACE
        while True:
            grace = self._grace()
            left = max(0.0, max(since + grace, least) - time.monotonic())
            async with asyncio.TaskGroup() as tasks:
                stopping = tasks.create_task(self._stop_all(statuses, left))
                shorter = tasks.create_task(self._shorter_than(grace))
                await asyncio.wait((stopping, shorter), return_when=asyncio.FIRST_COMPLETED)
                shorter.cancel()
                if stopping.done():
                    break
                stopping.cancel()
        if (error := stopping.result()) is not None:
            raise error

    async def _stop_all(self, statuses: list[ContainerStatus], grace: float) -> CRIError | None:
        """The first error, after all others have been stopped."""
        runtime = self.context.runtime
        outcomes = await asyncio.gather(
            *(runtime.stop_container(status.id, grace) for status in statuses), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, CRIError):
                raise outcome
        return next((outcome for outcome in outcomes if isinstance(outcome, CRIError)), None)

    async def _shorter_than(self, grace: float) -> None:
        while self._grace() >= grace:
            await self._changed.wait()
            self._changed.clear()

    async def _remove(self) -> None:
        """Removes everything from the node, then the Pod from the API."""
        meta, context = self.pod.metadata, self.context
        backoff = Backoff(initial=0.2, maximum=10.0)
        while True:
            try:
                await remove_pod(context, meta.uid)
                break
            except (CRIError, OSError) as error:
                log.warning("pod %s cannot be removed yet: %s", describe(self.pod), file_error.reason(error))
                await asyncio.sleep(backoff.next())
        context.images.forget(meta.uid)
        await self._status.flush()
        while self._present:
            try:
                await context.client.delete(Pod, meta.name, meta.namespace, grace_period_seconds=0, uid=meta.uid)
                return
            except ConnectionFailed:
                await context.client.recovered(backoff.next())
            except ApiError as error:
                if error.code in (404, 409):
                    return
                log.warning("pod %s cannot be deleted: %s", describe(self.pod), error)
                await asyncio.sleep(backoff.next())


def _earlier(first: float | None, second: float) -> float:
    return second if first is None else min(first, second)
