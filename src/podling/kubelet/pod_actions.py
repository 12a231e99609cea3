"""What has to happen next for a Pod, from its specification and what the runtime holds: a pure function.

Source: Kubernetes documentation "Pod Lifecycle" (restart policy, back-off, init containers), "Sidecar Containers".
Times are nanoseconds since the epoch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct, field

from podling.api.core.v1 import Container, Pod
from podling.api.resources import all_containers, is_sidecar
from podling.runtime.protocol import ContainerState, ContainerStatus, SandboxState, SandboxStatus

SECOND = 1_000_000_000
BACKOFF_FIRST = 10
BACKOFF_MAX = 300
BACKOFF_RESET = 2 * BACKOFF_MAX

IMAGE_ANNOTATION = "io.podling.image"
"""The image as the Pod's specification names it."""
BACKOFF_ANNOTATION = "io.podling.backoff"
"""Seconds to wait after the container's exit before the next start. It stays with the container, so that the back-off
of a Pod outlives the agent."""


class Waiting(Struct, frozen=True):
    """Why a container does not run yet."""

    reason: str
    message: str = ""


class Start(Struct, kw_only=True):
    container: Container
    attempt: int
    backoff: int
    """For BACKOFF_ANNOTATION."""
    replaces: list[ContainerStatus] = field(default_factory=list)
    """Older containers of this name to be removed first."""


class Kill(Struct, kw_only=True):
    status: ContainerStatus
    message: str


class Actions(Struct, kw_only=True):
    done: bool = False
    """Nothing of the Pod will run again: it is Succeeded or Failed."""
    create_sandbox: bool = False
    sandbox_attempt: int = 0
    start: list[Start] = field(default_factory=list)
    kill: list[Kill] = field(default_factory=list)
    waiting: dict[str, Waiting] = field(default_factory=dict)
    """By container name."""
    wake_at: int | None = None
    """When the next back-off ends."""


class Records(Struct):
    """What the runtime holds of a Pod: the newest sandbox, and its containers by name, newest attempt first."""

    sandbox: SandboxStatus | None
    containers: dict[str, list[ContainerStatus]]

    @classmethod
    def of(cls, sandboxes: Iterable[SandboxStatus], containers: Iterable[ContainerStatus]) -> Records:
        newest = max(sandboxes, key=lambda s: (s.metadata.attempt, s.created_at), default=None)
        by_name: dict[str, list[ContainerStatus]] = {}
        for status in sorted(containers, key=lambda c: (c.metadata.attempt, c.created_at), reverse=True):
            by_name.setdefault(status.metadata.name, []).append(status)
        return cls(newest, by_name)

    @property
    def ready_sandbox(self) -> SandboxStatus | None:
        sandbox = self.sandbox
        return sandbox if sandbox is not None and sandbox.state == SandboxState.READY else None

    def newest(self, name: str) -> ContainerStatus | None:
        held = self.containers.get(name)
        return held[0] if held else None

    def running(self) -> list[ContainerStatus]:
        return [c for held in self.containers.values() for c in held if c.state == ContainerState.RUNNING]


def backoff_after(status: ContainerStatus) -> int:
    """Seconds to wait before a start after this exit: none the first time, and none after ten good minutes."""
    if status.finished_at - status.started_at >= BACKOFF_RESET * SECOND and status.started_at:
        return 0
    return int(status.annotations.get(BACKOFF_ANNOTATION, "0"))


def next_backoff(waited: int) -> int:
    return BACKOFF_FIRST if waited == 0 else min(2 * waited, BACKOFF_MAX)


def restarts(pod: Pod, container: Container, status: ContainerStatus) -> bool:
    """Whether an exited container is started again by the restart policy that holds for it, or with another image."""
    if image_changed(container, status) and not _told(pod, status):
        return True
    policy = container.restart_policy or pod.spec.restart_policy
    return policy == "Always" or (policy == "OnFailure" and status.exit_code != 0)


def image_changed(container: Container, status: ContainerStatus) -> bool:
    """Whether the specification names another image than it did when the container was made."""
    return status.annotations.get(IMAGE_ANNOTATION, container.image) != container.image


def _told(pod: Pod, status: ContainerStatus) -> bool:
    """Whether the Pod's status says that the container has ended. Then it did so by itself, and the end holds."""
    return any(
        told.state.terminated is not None and told.container_id.endswith(status.id)
        for told in pod.status.container_statuses
    )


def init_restarts(pod: Pod, container: Container) -> bool:
    """Whether a failed init container is tried again: a Pod's Always means OnFailure here."""
    return (container.restart_policy or pod.spec.restart_policy) != "Never"


class _Plan:
    """One pass over the containers of a Pod."""

    def __init__(self, pod: Pod, records: Records, restart_counts: Mapping[str, int], now: int) -> None:
        self.pod = pod
        self.records = records
        self.restart_counts = restart_counts
        self.now = now
        self.actions = Actions()
        ready = records.ready_sandbox
        self.sandbox_id = ready.id if ready is not None else ""

    def here(self, container: Container) -> ContainerStatus | None:
        """The container's newest record in the sandbox that is in use."""
        status = self.records.newest(container.name)
        return status if status is not None and status.sandbox_id == self.sandbox_id else None

    def start(self, container: Container, after: ContainerStatus | None) -> None:
        """Starts it now, or once the back-off that follows `after` has ended."""
        # Back-off is about one image: another one may do better.
        delay = backoff_after(after) if after is not None and not image_changed(container, after) else 0
        if after is not None and delay:
            ready_at = after.finished_at + delay * SECOND
            # An exit far in the future was before somebody set the clock back.
            if self.now < ready_at < self.now + 2 * delay * SECOND:
                meta = self.pod.metadata
                self.actions.waiting[container.name] = Waiting(
                    "CrashLoopBackOff",
                    f"back-off {_duration(delay)} restarting failed container={container.name} "
                    f"pod={meta.name}_{meta.namespace}({meta.uid})",
                )
                wake_at = self.actions.wake_at
                self.actions.wake_at = ready_at if wake_at is None else min(wake_at, ready_at)
                return
        held = self.records.containers.get(container.name, [])
        created = [c for c in held if c.state == ContainerState.CREATED]
        ended = [c for c in held if c.state != ContainerState.CREATED]
        attempt = max([c.metadata.attempt for c in ended], default=-1) + 1
        self.actions.start.append(
            Start(
                container=container,
                attempt=max(attempt, self.restart_counts.get(container.name, 0)),
                backoff=next_backoff(delay) if ended else 0,
                replaces=created + ended[1:],
            )
        )

    def init_containers(self) -> bool:
        """Moves the init containers on. True: all are done or, if sidecars, running; the Pod is initialized."""
        spec = self.pod.spec
        initialized = any(self.here(c) is not None for c in spec.containers)
        for container in spec.init_containers:
            status = self.here(container)
            if status is None or status.state == ContainerState.CREATED:
                if initialized and not is_sidecar(container):
                    continue
                self.start(container, None)
            elif status.state == ContainerState.RUNNING:
                if is_sidecar(container):
                    if image_changed(container, status):
                        message = f"Init container {container.name} definition changed"
                        self.actions.kill.append(Kill(status=status, message=message))
                    continue
            elif is_sidecar(container):
                self.start(container, status)
            elif status.exit_code == 0:
                continue
            elif init_restarts(self.pod, container):
                self.start(container, status)
            else:
                self.actions.done = True
            if not initialized:
                return False
        return True

    def containers(self) -> None:
        alive = False
        for container in self.pod.spec.containers:
            status = self.here(container)
            if status is None or status.state == ContainerState.CREATED:
                before = self.records.newest(container.name)
                if (
                    status is None
                    and before is not None
                    and before.state != ContainerState.CREATED
                    and not restarts(self.pod, container, before)
                ):
                    continue
                alive = True
                self.start(container, None)
            elif status.state == ContainerState.RUNNING:
                alive = True
                if image_changed(container, status):
                    message = f"Container {container.name} definition changed, will be restarted"
                    self.actions.kill.append(Kill(status=status, message=message))
            elif restarts(self.pod, container, status):
                alive = True
                self.start(container, status)
                if image_changed(container, status):
                    # Stopped on the way to the new image; by the restart policy an end might be final in the API's eyes.
                    self.actions.waiting[container.name] = default_waiting(self.pod)
        if not alive:
            self.actions.done = True


def _needs_no_sandbox(pod: Pod, records: Records) -> bool:
    """Whether a Pod that lost its sandbox had come to its end: what ran is not started again."""
    if records.sandbox is None and not records.containers:
        return False
    newest = [records.newest(c.name) for c in pod.spec.containers]
    for container, status in zip(pod.spec.containers, newest, strict=True):
        if status is None:
            break
        if status.state in (ContainerState.CREATED, ContainerState.RUNNING) or restarts(pod, container, status):
            return False
    else:
        return True
    for container in pod.spec.init_containers:
        status = records.newest(container.name)
        if status is not None and status.state == ContainerState.EXITED and status.exit_code != 0:
            return not init_restarts(pod, container)
    return pod.spec.restart_policy == "Never" and any(status is not None for status in newest)


def compute(pod: Pod, records: Records, restart_counts: Mapping[str, int], now: int) -> Actions:
    """What to do for a Pod that is to run.

    `restart_counts` holds, by container name, the least attempt that a new container may have: it keeps the count where
    the records of earlier attempts were lost (a reboot).
    """
    plan = _Plan(pod, records, restart_counts, now)
    if records.ready_sandbox is None:
        if _needs_no_sandbox(pod, records):
            plan.actions.done = True
            return plan.actions
        sandbox = records.sandbox
        plan.actions.create_sandbox = True
        plan.actions.sandbox_attempt = sandbox.metadata.attempt + 1 if sandbox is not None else 0
        return plan.actions
    if plan.init_containers() and not plan.actions.done:
        plan.containers()
    if not plan.actions.done:
        for container in all_containers(pod.spec):
            if container.name not in plan.actions.waiting and plan.here(container) is None:
                plan.actions.waiting[container.name] = default_waiting(pod)
    return plan.actions


def default_waiting(pod: Pod) -> Waiting:
    """The state of a container that nothing is known of yet."""
    return Waiting("PodInitializing" if pod.spec.init_containers else "ContainerCreating")


def _duration(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
