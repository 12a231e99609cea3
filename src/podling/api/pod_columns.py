"""The cells of a Pod's row: what `kubectl get pods` shows under READY, STATUS and RESTARTS.

Source: printPod of upstream's printers; the words are part of the interface, scripts compare them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.api.core.v1 import ContainerStateTerminated, ContainerStatus, Pod


class _Count:
    """Restarts of several containers and when the last one ended. Times in UTC compare as texts."""

    def __init__(self) -> None:
        self.restarts = 0
        self.last = ""

    def add(self, status: ContainerStatus) -> None:
        self.restarts += status.restart_count
        if status.last_state.terminated is not None:
            self.last = max(self.last, status.last_state.terminated.finished_at or "")


def pod_cells(pod: Pod, age: Callable[[str], str]) -> list[Any]:
    """`age` renders a Time as the time since."""
    spec, status = pod.spec, pod.status
    sidecars = {container.name for container in spec.init_containers if container.restart_policy == "Always"}
    reason = status.reason or status.phase
    if any(item.type == "PodScheduled" and item.reason == "SchedulingGated" for item in status.conditions):
        reason = "SchedulingGated"
    init, counted = _Count(), _Count()
    ready = 0
    initializing = False
    for i, container in enumerate(status.init_container_statuses):
        init.add(container)
        sidecar = container.name in sidecars
        if sidecar:
            counted.add(container)
        ended, waiting = container.state.terminated, container.state.waiting
        if ended is not None and ended.exit_code == 0:
            continue
        if sidecar and container.started:
            ready += container.ready
            continue
        initializing = True
        if ended is not None:
            reason = f"Init:{_ended(ended)}"
        elif waiting is not None and waiting.reason not in ("", "PodInitializing"):
            reason = f"Init:{waiting.reason}"
        else:
            reason = f"Init:{i}/{len(spec.init_containers)}"
        break
    if initializing and not _is_true(pod, "Initialized"):
        counted = init
    else:
        running = False
        for container in reversed(status.container_statuses):
            counted.add(container)
            ended, waiting = container.state.terminated, container.state.waiting
            if waiting is not None and waiting.reason:
                reason = waiting.reason
            elif ended is not None:
                reason = _ended(ended)
            elif container.ready and container.state.running is not None:
                running = True
                ready += 1
        if reason == "Completed" and running:
            reason = "Running" if _is_true(pod, "Ready") else "NotReady"
    if pod.metadata.deletion_timestamp:
        if status.reason == "NodeLost":
            reason = "Unknown"
        elif status.phase not in ("Succeeded", "Failed"):
            reason = "Terminating"
    restarts = str(counted.restarts)
    if counted.restarts and counted.last:
        restarts += f" ({age(counted.last)} ago)"
    return [
        pod.metadata.name,
        f"{ready}/{len(spec.containers) + len(sidecars)}",
        reason,
        restarts,
        age(pod.metadata.creation_timestamp),
        (status.pod_ips[0].ip if status.pod_ips else "") or "<none>",
        spec.node_name or "<none>",
        status.nominated_node_name or "<none>",
        _gates(pod),
    ]


def _ended(state: ContainerStateTerminated) -> str:
    if state.reason:
        return state.reason
    return f"Signal:{state.signal}" if state.signal else f"ExitCode:{state.exit_code}"


def _is_true(pod: Pod, condition: str) -> bool:
    return any(item.type == condition and item.status == "True" for item in pod.status.conditions)


def _gates(pod: Pod) -> str:
    gates = pod.spec.readiness_gates
    if not gates:
        return "<none>"
    return f"{sum(_is_true(pod, gate.condition_type) for gate in gates)}/{len(gates)}"
