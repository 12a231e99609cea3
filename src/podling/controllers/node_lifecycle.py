"""The health of Nodes: conditions of those that fell silent, and the taints that follow from conditions.

A kubelet renews its Lease every 10 s; when neither the Lease nor the Node's status was written for the grace period, its
conditions become Unknown. Source: Kubernetes documentation, "Nodes" and "Taints and Tolerations".
"""

from __future__ import annotations

import asyncio
from typing import Any

from podling.api import codec
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Node, NodeCondition, Pod, Taint
from podling.api.status import ApiError
from podling.api.time import now
from podling.api.tolerations import NO_EXECUTE, NO_SCHEDULE
from podling.client.client import Client, ConnectionFailed, EventType
from podling.client.events import NORMAL, WARNING, EventRecorder
from podling.client.informer import InformerSet
from podling.controllers.work_queue import WorkQueue

GRACE_PERIOD = 50.0
"""Seconds of silence after which a Node counts as lost (kube-controller-manager --node-monitor-grace-period)."""
STARTUP_GRACE_PERIOD = 60.0
"""Seconds that a new Node has for its first status."""
LEASE_NAMESPACE = "kube-node-lease"

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"

_OTHER_TAINTS = {
    "MemoryPressure": "node.kubernetes.io/memory-pressure",
    "DiskPressure": "node.kubernetes.io/disk-pressure",
    "PIDPressure": "node.kubernetes.io/pid-pressure",
    "NetworkUnavailable": "node.kubernetes.io/network-unavailable",
}
_UNSCHEDULABLE = "node.kubernetes.io/unschedulable"
_OWN_KEYS = frozenset({NOT_READY, UNREACHABLE, _UNSCHEDULABLE, *_OTHER_TAINTS.values()})
_WATCHED_CONDITIONS = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


class NodeLifecycleController:
    def __init__(
        self,
        client: Client,
        informers: InformerSet,
        *,
        grace_period: float = GRACE_PERIOD,
        startup_grace_period: float = STARTUP_GRACE_PERIOD,
    ) -> None:
        self._client = client
        self._grace_period = grace_period
        self._startup_grace_period = startup_grace_period
        self._nodes = informers.of(Node)
        self._leases = informers.of(Lease, LEASE_NAMESPACE)
        self._pods = informers.of(Pod)
        self._events = EventRecorder(client, "node-controller")
        self._deadlines: dict[str, float] = {}
        """Node name to the time of the event loop at which its silence has lasted too long."""
        self._silence: WorkQueue[str] = WorkQueue("silent nodes", self._check_silence)
        self._status: WorkQueue[str] = WorkQueue("node taints", self._sync_taints, workers=2)
        self._nodes.add_handler(self._on_node)
        self._leases.add_handler(self._on_lease)
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        await self._nodes.synced()
        await self._leases.synced()
        await self._pods.synced()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._silence.run())
            tasks.create_task(self._status.run())
            tasks.create_task(self._events.run())

    # -- signs of life

    def _on_lease(self, type: EventType, lease: Lease, old: Lease | None) -> None:
        if type is not EventType.DELETED and (old is None or old.spec.renew_time != lease.spec.renew_time):
            self._sign_of_life(lease.metadata.name, self._grace_period)

    def _on_node(self, type: EventType, node: Node, old: Node | None) -> None:
        name = node.metadata.name
        if type is EventType.DELETED:
            self._deadlines.pop(name, None)
            self._silence.cancel(name)
            self._node_event(node, "RemovingNode", f"Removing Node {name} from Controller")
            return
        if old is None:
            started = _condition(node, "Ready") is not None
            self._sign_of_life(name, self._grace_period if started else self._startup_grace_period)
            self._node_event(node, "RegisteredNode", f"Registered Node {name} in Controller")
        elif _heartbeat(node) != _heartbeat(old):
            self._sign_of_life(name, self._grace_period)
        if old is None or wanted_taints(node) != _own_taints(node):
            self._status.add(name)
        before = _ready_status(old) if old is not None else "True"
        if _ready_status(node) != before and _ready_status(node) != "True":
            self._status.add(name)
            if before == "True" and old is not None:
                message = f"Node {name} status is now: NodeNotReady"
                self._events.event(node, NORMAL, "NodeNotReady", message)

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        """A Pod that is bound to, or reported ready by, a Node that is lost."""
        if type is not EventType.DELETED and pod.spec.node_name and _is_ready(pod) and not (old and _is_ready(old)):
            node = self._nodes.get("", pod.spec.node_name)
            if node is not None and _ready_status(node) != "True":
                self._status.add(node.metadata.name)

    def _sign_of_life(self, name: str, lasts: float) -> None:
        # The timer is not moved at each sign: when it fires, the deadline tells whether it was meant.
        self._deadlines[name] = asyncio.get_running_loop().time() + lasts
        self._silence.add_after(name, lasts)

    async def _check_silence(self, name: str) -> None:
        node = self._nodes.get("", name)
        deadline = self._deadlines.get(name)
        if node is None or deadline is None:
            self._deadlines.pop(name, None)
            return
        left = deadline - asyncio.get_running_loop().time()
        if left > 0:
            self._silence.add_after(name, left)
            return
        changed: list[dict[str, Any]] = []
        for kind in _WATCHED_CONDITIONS:
            condition = _condition(node, kind)
            if condition is not None and condition.status == "Unknown":
                continue
            never = condition is None
            lost = NodeCondition(
                type=kind,
                status="Unknown",
                reason="NodeStatusNeverUpdated" if never else "NodeStatusUnknown",
                message="Kubelet never posted node status." if never else "Kubelet stopped posting node status.",
                last_heartbeat_time=node.metadata.creation_timestamp
                if condition is None
                else condition.last_heartbeat_time,
                last_transition_time=now(),
            )
            changed.append(codec.to_builtins(lost))
        if not changed:
            return
        patch = {
            "metadata": {"uid": node.metadata.uid, "resourceVersion": node.metadata.resource_version},
            "status": {"conditions": changed},
        }
        try:
            await self._client.patch(Node, name, "", patch, content_type="strategic", subresource="status")
        except ConnectionFailed:
            # The silence is ours: the Node could not be heard. It gets the whole time again.
            self._sign_of_life(name, self._grace_period)
        except ApiError as error:
            if error.code == 503:  # nor could the Node write: the silence is the store's
                self._sign_of_life(name, self._grace_period)
            elif error.code != 404:
                raise

    # -- what follows from conditions

    async def _sync_taints(self, name: str) -> None:
        node = self._nodes.get("", name)
        if node is None:
            return
        own, wanted = _own_taints(node), wanted_taints(node)
        if own != wanted:
            kept = [taint for taint in node.spec.taints if not _is_own(taint)]
            stamped = {(t.key, t.effect): t for t in node.spec.taints}
            added = [
                stamped.get((key, effect)) or Taint(key=key, effect=effect, time_added=now())
                for key, effect in sorted(wanted)
            ]
            patch = {
                "metadata": {"resourceVersion": node.metadata.resource_version},
                "spec": {"taints": [codec.to_builtins(taint) for taint in kept + added] or None},
            }
            try:
                await self._client.patch(Node, name, "", patch)
            except ApiError as error:
                if error.code != 404:
                    raise
        if _ready_status(node) != "True" and _condition(node, "Ready") is not None:
            await self._mark_pods_not_ready(name)

    async def _mark_pods_not_ready(self, node: str) -> None:
        """Nobody knows about them any more: Services must not send traffic there."""
        for pod in self._pods.list():
            if pod.spec.node_name != node or not _is_ready(pod):
                continue
            meta = pod.metadata
            condition = {"type": "Ready", "status": "False", "lastTransitionTime": now()}
            patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
            try:
                await self._client.patch(
                    Pod, meta.name, meta.namespace, patch, content_type="strategic", subresource="status"
                )
            except ApiError as error:
                if error.code not in (404, 409):
                    raise
                continue
            self._events.event(pod, WARNING, "NodeNotReady", "Node is not ready")

    def _node_event(self, node: Node, reason: str, what: str) -> None:
        self._events.event(node, NORMAL, reason, f"Node {node.metadata.name} event: {what}")


def wanted_taints(node: Node) -> set[tuple[str, str]]:
    """Key and effect of every taint that the Node's conditions and spec.unschedulable call for."""
    wanted: set[tuple[str, str]] = set()
    ready = _condition(node, "Ready")
    if ready is not None and ready.status == "Unknown":
        wanted |= {(UNREACHABLE, NO_SCHEDULE), (UNREACHABLE, NO_EXECUTE)}
    elif ready is not None and ready.status == "False":
        wanted |= {(NOT_READY, NO_SCHEDULE), (NOT_READY, NO_EXECUTE)}
    elif ready is None:
        # Registered, but not yet reported on.
        wanted.add((NOT_READY, NO_SCHEDULE))
    for kind, key in _OTHER_TAINTS.items():
        condition = _condition(node, kind)
        if condition is not None and condition.status == "True":
            wanted.add((key, NO_SCHEDULE))
    if node.spec.unschedulable:
        wanted.add((_UNSCHEDULABLE, NO_SCHEDULE))
    return wanted


def _is_own(taint: Taint) -> bool:
    """Whether this controller puts and takes taints like this one."""
    if taint.key in (NOT_READY, UNREACHABLE):
        return taint.effect in (NO_SCHEDULE, NO_EXECUTE)
    return taint.key in _OWN_KEYS and taint.effect == NO_SCHEDULE


def _own_taints(node: Node) -> set[tuple[str, str]]:
    return {(taint.key, taint.effect) for taint in node.spec.taints if _is_own(taint)}


def _condition(node: Node, kind: str) -> NodeCondition | None:
    return next((condition for condition in node.status.conditions if condition.type == kind), None)


def _ready_status(node: Node) -> str:
    condition = _condition(node, "Ready")
    return condition.status if condition is not None else "Unknown"


def _heartbeat(node: Node) -> str:
    condition = _condition(node, "Ready")
    return (condition.last_heartbeat_time or "") if condition is not None else ""


def _is_ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
