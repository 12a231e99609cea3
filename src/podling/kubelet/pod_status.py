"""The status of a Pod as the API shows it, from what the runtime holds: a pure function.

Source: Kubernetes documentation "Pod Lifecycle" (phase, container states, conditions), API reference PodStatus; texts of
reasons and messages as the kubelet writes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct, field
from msgspec.structs import replace

from podling.api import time as times
from podling.api.core.v1 import (
    Container,
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStateWaiting,
    ContainerStatus,
    ContainerUser,
    HostIP,
    LinuxContainerUser,
    Pod,
    PodCondition,
    PodIP,
    PodStatus,
    ResourceRequirements,
    VolumeMountStatus,
)
from podling.api.resources import is_sidecar, qos_class
from podling.kubelet.pod_actions import IMAGE_ANNOTATION, Records, Waiting, default_waiting, init_restarts
from podling.runtime import protocol as cri

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"

OWN_CONDITIONS = ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
"""Types of the conditions that the kubelet keeps; others are left to those who set them."""

_UNKNOWN_REASON = "ContainerStatusUnknown"
_UNKNOWN_MESSAGE = "The container could not be located when the pod was terminated"
_MAX_RESTARTS = 2**31 - 1
"""An int32 in the API. Whoever may write the status may have set the count to this."""
_MAX_MESSAGES = 12 * 1024
"""Bytes of termination messages that a Pod's status holds, shared equally by its containers."""


class Observed(Struct, kw_only=True):
    """Everything besides the Pod itself that its status is made of."""

    records: Records
    waiting: Mapping[str, Waiting] = field(default_factory=dict)
    messages: Mapping[str, str] = field(default_factory=dict)
    """Termination messages by container ID."""
    before: PodStatus | None = None
    """What was generated last, which the API may not have yet; None: what the API has."""
    runtime: str = "podling"
    """The scheme of container IDs."""
    host_ip: str = ""
    start_time: str = ""
    pod_ips: Sequence[str] = ()
    """Empty: those of the sandbox."""
    ended: bool = False
    """Nothing of the Pod runs or will run again."""
    phase: str = ""
    """Set where the kubelet itself ended the Pod (Failed), with reason and message."""
    reason: str = ""
    message: str = ""


def restart_floor(pod: Pod, records: Records) -> dict[str, int]:
    """For containers that ran by the API's account and of which the runtime knows nothing: the next attempt."""
    floor = {}
    for status in [*pod.status.init_container_statuses, *pod.status.container_statuses]:
        if status.container_id and status.name not in records.containers:
            floor[status.name] = min(status.restart_count + 1, _MAX_RESTARTS)
    return floor


def generate(pod: Pod, seen: Observed, now: float) -> PodStatus:
    """The status to write; conditions of others (scheduler, readiness gates) are kept. `now` in seconds."""
    before = seen.before or pod.status
    init = [_container(pod, c, seen, before.init_container_statuses) for c in pod.spec.init_containers]
    main = [_container(pod, c, seen, before.container_statuses) for c in pod.spec.containers]
    phase = seen.phase or _phase(pod, init, main, seen.ended)
    if pod.status.phase in (SUCCEEDED, FAILED):
        phase = pod.status.phase
    # A Pod that has ended keeps the address that it had, even if it ended before anyone could see it run.
    sandbox = seen.records.sandbox
    ips = list(seen.pod_ips) or (list(sandbox.ips) if sandbox is not None else [ip.ip for ip in pod.status.pod_ips])
    if pod.spec.host_network and seen.host_ip:
        ips = [seen.host_ip]
    conditions = _conditions(pod, before, phase, init, main, seen.records.ready_sandbox is not None, now)
    if phase == FAILED and not before.container_statuses and not seen.records.containers:
        # The node never took the Pod in. Containers said to be in creation would hide the reason from `kubectl get`.
        init, main = [], []
    elif seen.ended:
        _settle(pod, init, main)
    main.sort(key=lambda status: status.name)
    return PodStatus(
        phase=phase,
        reason=seen.reason,
        message=seen.message,
        conditions=conditions,
        container_statuses=main,
        init_container_statuses=init,
        host_ip=seen.host_ip,
        host_ips=[HostIP(ip=seen.host_ip)] if seen.host_ip else [],
        pod_ip=ips[0] if ips else "",
        pod_ips=[PodIP(ip=ip) for ip in ips],
        qos_class=qos_class(pod),
        start_time=pod.status.start_time or seen.start_time,
        observed_generation=pod.metadata.generation,
    )


def _container(pod: Pod, container: Container, seen: Observed, before: Sequence[ContainerStatus]) -> ContainerStatus:
    held = seen.records.containers.get(container.name, [])
    waiting = seen.waiting.get(container.name)
    old = next((status for status in before if status.name == container.name), None)
    status = ContainerStatus(
        name=container.name,
        image=container.image,
        started=False,
        restart_count=0,
        volume_mounts=_volume_mounts(container),
    )
    known = [c for c in held if c.state != cri.ContainerState.CREATED]
    if not known:
        if old is not None and old.container_id:
            return _lost(seen, old, waiting or default_waiting(pod))
        shown = waiting or default_waiting(pod)
        status.state = ContainerState(waiting=ContainerStateWaiting(reason=shown.reason, message=shown.message))
        return status
    newest = known[0]
    status.restart_count = min(newest.metadata.attempt, _MAX_RESTARTS)
    status.image = newest.image or newest.annotations.get(IMAGE_ANNOTATION, container.image)
    status.image_id = newest.image_ref
    status.container_id = f"{seen.runtime}://{newest.id}"
    status.stop_signal = newest.stop_signal or None
    if newest.user is not None:
        uid, gid, groups = newest.user
        status.user = ContainerUser(linux=LinuxContainerUser(uid=uid, gid=gid, supplemental_groups=groups))
    status.resources = _resources(container)
    status.allocated_resources = dict(container.resources.requests)
    previous = known[1] if len(known) > 1 else None
    if newest.state == cri.ContainerState.RUNNING:
        status.state = ContainerState(running=ContainerStateRunning(started_at=_time(newest.started_at)))
        status.started = True
        # An init container that runs has not done its part yet.
        status.ready = container not in pod.spec.init_containers or is_sidecar(container)
    elif waiting is not None and not seen.ended:
        status.state = ContainerState(waiting=ContainerStateWaiting(reason=waiting.reason, message=waiting.message))
        previous = newest
    else:
        status.state = ContainerState(terminated=_terminated(pod, seen, newest))
        status.ready = False
        if newest.exit_code == 0 and container in pod.spec.init_containers and not is_sidecar(container):
            status.ready = True
    if previous is not None:
        status.last_state = ContainerState(terminated=_terminated(pod, seen, previous))
    elif old is not None and old.container_id == status.container_id:
        status.last_state = old.last_state
    elif old is not None and old.container_id:
        status.last_state = ContainerState(terminated=_end_of(old))
    return status


def _volume_mounts(container: Container) -> list[VolumeMountStatus]:
    # volumeStatus stays empty as upstream's does: in 1.36 its gate, ImageVolumeWithDigest, is alpha and off.
    return [
        VolumeMountStatus(
            name=mount.name,
            mount_path=mount.mount_path,
            read_only=mount.read_only,
            recursive_read_only="Enabled"
            if mount.recursive_read_only in ("Enabled", "IfPossible")
            else ("Disabled" if mount.read_only else None),
        )
        for mount in container.volume_mounts
    ]


def _settle(pod: Pod, init: list[ContainerStatus], main: list[ContainerStatus]) -> None:
    """In a Pod that has ended, containers that ought to have run and of which nothing is known count as failed."""

    def unknown(status: ContainerStatus) -> None:
        if status.state.terminated is None:
            ended = ContainerStateTerminated(exit_code=137, reason=_UNKNOWN_REASON, message=_UNKNOWN_MESSAGE)
            status.state = ContainerState(terminated=ended)

    if _initialized(pod, init, main):
        for status in main:
            unknown(status)
    begun = [index for index, status in enumerate(init) if _began(status)]
    for status in init[: begun[-1] + 1 if begun else 1]:
        unknown(status)


def _began(status: ContainerStatus) -> bool:
    return status.state.waiting is None or status.last_state.terminated is not None


def _initialized(pod: Pod, init: list[ContainerStatus], main: list[ContainerStatus]) -> bool:
    if not init or any(_began(status) for status in main):
        return True
    last = init[-1]
    if is_sidecar(pod.spec.init_containers[-1]):
        return last.state.running is not None and bool(last.started)
    return any(
        ended is not None and ended.exit_code == 0 for ended in (last.state.terminated, last.last_state.terminated)
    )


def _end_of(old: ContainerStatus) -> ContainerStateTerminated:
    """The end of a container of which only the API knows."""
    if (known := _ended_before(old)) is not None:
        return known
    return ContainerStateTerminated(
        exit_code=137,
        reason=_UNKNOWN_REASON,
        message=_UNKNOWN_MESSAGE,
        container_id=old.container_id,
        started_at=old.state.running.started_at if old.state.running is not None else None,
    )


def _lost(seen: Observed, old: ContainerStatus, waiting: Waiting) -> ContainerStatus:
    """A container that the API knows and the runtime does not: its end was not seen."""
    ended = _end_of(old)
    status = replace(old, ready=False, started=False)
    if seen.ended:
        status.state, status.last_state = ContainerState(terminated=ended), old.last_state
    else:
        state = ContainerStateWaiting(reason=waiting.reason, message=waiting.message)
        status.state, status.last_state = ContainerState(waiting=state), ContainerState(terminated=ended)
    return status


def _terminated(pod: Pod, seen: Observed, status: cri.ContainerStatus) -> ContainerStateTerminated:
    told = ": ".join(text for text in (status.message, seen.messages.get(status.id, "")) if text)
    limit = _MAX_MESSAGES // len([*pod.spec.init_containers, *pod.spec.containers])
    return ContainerStateTerminated(
        exit_code=status.exit_code,
        reason=status.reason or ("Completed" if status.exit_code == 0 else "Error"),
        message=told.encode()[:limit].decode(errors="ignore"),
        started_at=_time(status.started_at or status.created_at),
        finished_at=_time(status.finished_at),
        container_id=f"{seen.runtime}://{status.id}",
    )


def _resources(container: Container) -> ResourceRequirements:
    return ResourceRequirements(requests=dict(container.resources.requests), limits=dict(container.resources.limits))


def _time(nanoseconds: int) -> str | None:
    return times.from_seconds(nanoseconds / 1e9) if nanoseconds else None


def _ended_before(status: ContainerStatus) -> ContainerStateTerminated | None:
    return status.state.terminated or (status.last_state.terminated if status.state.waiting is not None else None)


def _phase(pod: Pod, init: list[ContainerStatus], main: list[ContainerStatus], ended: bool) -> str:
    pending_init = failed_init = 0
    for container, status in zip(pod.spec.init_containers, init, strict=True):
        if is_sidecar(container):
            if not status.started and not _any_ran(main):
                pending_init += 1
        elif status.state.terminated is not None:
            if status.state.terminated.exit_code != 0:
                if not init_restarts(pod, container):
                    return FAILED
                failed_init += 1
        elif not _any_ran(main):
            pending_init += 1
    if ended:
        exits = [_ended_before(status) for status in main]
        if all(exit is not None and exit.exit_code == 0 for exit in exits):
            return SUCCEEDED
        return FAILED
    if pending_init or failed_init:
        return PENDING
    if any(status.state.waiting is not None and status.last_state.terminated is None for status in main):
        return PENDING
    return RUNNING


def _any_ran(main: list[ContainerStatus]) -> bool:
    return any(status.container_id for status in main)


def _conditions(
    pod: Pod,
    generated: PodStatus,
    phase: str,
    init: list[ContainerStatus],
    main: list[ContainerStatus],
    sandbox: bool,
    now: float,
) -> list[PodCondition]:
    incomplete = [
        status.name
        for container, status in zip(pod.spec.init_containers, init, strict=True)
        if not (status.started if is_sidecar(container) else status.ready)
    ]
    unready = [
        status.name
        for container, status in zip(pod.spec.init_containers, init, strict=True)
        if is_sidecar(container) and not status.ready
    ] + [status.name for status in main if not status.ready]
    if phase == SUCCEEDED:
        initialized = ("True", "PodCompleted", "")
        ready = ("False", "PodCompleted", "")
    else:
        initialized = ("True", "", "")
        if incomplete and not _any_ran(main):
            text = f"containers with incomplete status: [{' '.join(incomplete)}]"
            initialized = ("False", "ContainersNotInitialized", text)
        if phase == FAILED:
            ready = ("False", "PodFailed", "")
        elif unready:
            ready = ("False", "ContainersNotReady", f"containers with unready status: [{' '.join(unready)}]")
        else:
            ready = ("True", "", "")
    given = {condition.type: condition for condition in pod.status.conditions}
    unmet = []
    for gate in pod.spec.readiness_gates:
        kind = gate.condition_type
        if kind not in given:
            unmet.append(f'corresponding condition of pod readiness gate "{kind}" does not exist.')
        elif given[kind].status != "True":
            unmet.append(f'the status of pod readiness gate "{kind}" is not "True", but {given[kind].status}')
    pod_ready = ready
    if ready[0] == "True" and unmet:
        pod_ready = ("False", "ReadinessGatesNotReady", ", ".join(unmet))
    wanted = {
        "PodReadyToStartContainers": ("True" if sandbox else "False", "", ""),
        "Initialized": initialized,
        "Ready": pod_ready,
        "ContainersReady": ready,
        "PodScheduled": ("True", "", ""),
    }
    known = {condition.type: condition for condition in generated.conditions}
    result = []
    for kind, (status, reason, message) in wanted.items():
        old = known.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else times.from_seconds(now)
        result.append(
            PodCondition(
                type=kind,
                status=status,
                reason=reason,
                message=message,
                last_transition_time=since,
                observed_generation=pod.metadata.generation,
            )
        )
    return result + [condition for kind, condition in given.items() if kind not in wanted]
