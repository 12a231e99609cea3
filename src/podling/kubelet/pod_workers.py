"""All Pods of the node: a worker for each, and an end for whatever the API knows nothing of."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

from msgspec.structs import replace

from podling.api.core.v1 import Pod
from podling.client.backoff import Backoff
from podling.client.client import EventType
from podling.client.informer import Informer
from podling.kit import error_group, file_error
from podling.kubelet import cgroups
from podling.kubelet.admission import FEATURE_UNSUPPORTED, admit, ignored
from podling.kubelet.container_config import GRACE_ANNOTATION
from podling.kubelet.pod_cleanup import remove_pod
from podling.kubelet.pod_context import PodContext
from podling.kubelet.pod_worker import Ending, PodWorker
from podling.runtime import protocol as cri

log = logging.getLogger(__name__)

_RESYNC_SECONDS = 60.0


class PodWorkers:
    """`run()` owns every worker. `pods` is the informer of the Pods bound to this node."""

    def __init__(self, context: PodContext, pods: Informer[Pod]) -> None:
        self._context = context
        self._pods = pods
        self._workers: dict[str, PodWorker] = {}
        self._ended: set[str] = set()
        self._waiting: dict[str, Pod] = {}
        """Pods that fit as soon as others, which end, have given back their room."""
        self._tasks: asyncio.TaskGroup | None = None

    async def run(self) -> None:
        """Until cancelled; containers go on running then."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._follow_runtime(), name="runtime events")
            self._pods.add_handler(self._on_pod)
            await self._pods.synced()
            await self._remove_orphans(tasks)
            while True:
                await asyncio.sleep(_RESYNC_SECONDS)
                self._resync()

    def _resync(self) -> None:
        """Gives a worker to each Pod that has none, because the handler of its event failed."""
        for pod in self._pods.list():
            if pod.metadata.uid not in self._workers:
                try:
                    self._on_pod(EventType.MODIFIED, pod, pod)
                except Exception:
                    log.exception("pod %s/%s has no worker", pod.metadata.namespace, pod.metadata.name)

    def find(self, namespace: str, name: str) -> PodWorker | None:
        """The worker of the Pod that bears this name now; an earlier one may still be about to end."""
        pod = self._pods.get(namespace, name)
        return self._workers.get(pod.metadata.uid) if pod is not None else None

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(self._workers.values())

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        uid = pod.metadata.uid
        worker = self._workers.get(uid)
        if type is EventType.DELETED:
            self._ended.discard(uid)
            self._waiting.pop(uid, None)
            if worker is not None:
                worker.gone(pod)
        elif worker is not None:
            worker.update(pod)
            if old is not None and (found := ignored(pod, old)):
                self._context.recorder.event(pod, "Warning", FEATURE_UNSUPPORTED, found)
        elif uid not in self._ended:
            self._add(pod)

    def _add(self, pod: Pod) -> None:
        worker = PodWorker(self._context, pod, self._admit_waiting)
        # A Pod with a start time was let in before: it keeps its place across restarts of the agent.
        if not pod.status.start_time and not pod.metadata.deletion_timestamp:
            holding = [other for other in self if other.holds_room]
            refusal = self._refusal(pod, holding)
            if refusal is not None and any(other.ending for other in holding):
                # The scheduler counts a Pod that ends as gone. Its room is really free when its containers are.
                lasting = self._refusal(pod, [other for other in holding if not other.ending])
                if lasting is None:
                    self._waiting[pod.metadata.uid] = pod
                    return
                refusal = lasting
            if refusal is not None:
                self._context.recorder.event(pod, "Warning", refusal.reason, refusal.message)
                worker.end(replace(refusal, message=f"Pod was rejected: {refusal.message}"))
                worker.holds_room = False
        self._waiting.pop(pod.metadata.uid, None)
        self._workers[pod.metadata.uid] = worker
        assert self._tasks is not None
        self._tasks.create_task(self._supervise(worker), name=f"pod {pod.metadata.namespace}/{pod.metadata.name}")

    def _refusal(self, pod: Pod, others: list[PodWorker]) -> Ending | None:
        of = self._context
        held = [other.pod for other in others]
        return admit(pod, held, of.allocatable, of.node(), of.sysctls, of.daemon_ports)

    def _admit_waiting(self) -> None:
        """Look again at the Pods that wait for room, the one that came first at first."""
        for pod in list(self._waiting.values()):
            self._add(pod)

    async def _supervise(self, worker: PodWorker) -> None:
        """Runs a worker; a defect in it must not end the other Pods' workers: it begins anew, from what there is."""
        backoff = Backoff(initial=1.0, maximum=60.0)
        uid = worker.pod.metadata.uid
        while True:
            try:
                await worker.run()
                break
            except Exception as error:
                log.exception("the worker of pod %s/%s failed", worker.pod.metadata.namespace, worker.pod.metadata.name)
                cause = file_error.reason(error_group.first(error))
                self._context.recorder.event(worker.pod, "Warning", "FailedSync", f"error syncing pod: {cause}")
                await asyncio.sleep(backoff.next())
                worker = self._workers[uid] = worker.again()
        del self._workers[uid]
        self._admit_waiting()
        known = self._pods.get(worker.pod.metadata.namespace, worker.pod.metadata.name)
        if known is not None and known.metadata.uid == uid:
            self._ended.add(uid)

    async def _follow_runtime(self) -> None:
        async for event in self._context.runtime.events():
            worker = self._workers.get(event.pod_uid)
            if worker is not None and event.type is cri.EventType.STOPPED:
                worker.wake()

    # -- what the API knows nothing of

    async def _remove_orphans(self, tasks: asyncio.TaskGroup) -> None:
        """Ends Pods that were deleted while the agent was away, and clears what an interrupted start or end left."""
        uids = {sandbox.metadata.uid for sandbox in await self._context.runtime.list_pod_sandbox()}
        backoff = Backoff(initial=0.5, maximum=30.0)
        while True:
            try:
                uids |= await asyncio.to_thread(self._uids_on_disk)
                break
            except OSError as error:
                log.warning("what earlier Pods left cannot be looked for yet: %s", file_error.reason(error))
                await asyncio.sleep(backoff.next())
        for uid in uids - self._workers.keys() - self._ended:
            tasks.create_task(self._remove_orphan(uid), name=f"orphan {uid}")

    def _uids_on_disk(self) -> set[str]:
        paths = self._context.paths
        uids = {path.name for path in paths.root.iterdir()} if paths.root.exists() else set()
        if paths.logs.exists():
            uids |= {path.name.rpartition("_")[2] for path in paths.logs.iterdir()}
        for parent in cgroups.qos_parents(self._context.cgroup_root):
            uids |= {
                name.removeprefix("pod") for name in self._context.cgroups.children(parent) if name.startswith("pod")
            }
        return uids

    async def _remove_orphan(self, uid: str) -> None:
        runtime = self._context.runtime
        backoff = Backoff(initial=0.5, maximum=30.0)
        while True:
            try:
                running = [
                    status
                    for status in await runtime.list_containers(pod_uid=uid)
                    if status.state == cri.ContainerState.RUNNING
                ]
                log.info("removing pod %s: the API has it no more", uid)
                async with asyncio.TaskGroup() as tasks:
                    for status in running:
                        grace = float(status.annotations.get(GRACE_ANNOTATION, "30"))
                        tasks.create_task(runtime.stop_container(status.id, grace))
                await remove_pod(self._context, uid)
                return
            except* (cri.CRIError, OSError) as errors:
                log.warning(
                    "pod %s cannot be removed yet: %s", uid, "; ".join(map(file_error.reason, errors.exceptions))
                )
            await asyncio.sleep(backoff.next())
