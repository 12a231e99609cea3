"""Evicts Pods that use more local storage than they may: emptyDir sizeLimit and limits.ephemeral-storage.

Source: Kubernetes documentation "Local ephemeral storage" (how limits apply; measured by scanning every 10 s), "Node-pressure
Eviction"; messages as the kubelet's.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from podling.api.core.v1 import Pod
from podling.api.resources import pod_limits
from podling.kit import file_error
from podling.kubelet.pod_context import PodContext
from podling.kubelet.pod_worker import Ending, PodWorker
from podling.kubelet.pod_workers import PodWorkers
from podling.kubelet.volumes.empty_dir import EmptyDir
from podling.runtime import tree
from podling.runtime.protocol import ContainerState, CRIError

log = logging.getLogger(__name__)

INTERVAL_SECONDS = 10.0
_RESOURCE = "ephemeral-storage"


class LocalStorageEviction:
    """`run` is its owner task. Only Pods that set a limit are measured."""

    def __init__(self, context: PodContext, workers: PodWorkers) -> None:
        self._context = context
        self._workers = workers

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            for worker in list(self._workers):
                if worker.ending or not _limited(worker.pod):
                    continue
                try:
                    message = await self._excess(worker)
                except (OSError, CRIError) as error:
                    log.warning("local storage of pod %s: %s", worker.pod.metadata.name, file_error.reason(error))
                    continue
                if message:
                    self._context.recorder.event(worker.pod, "Warning", "Evicted", message)
                    worker.end(Ending("Evicted", message, grace=0))

    async def _excess(self, worker: PodWorker) -> str:
        """What the Pod uses too much of, as a message; empty if nothing."""
        pod, paths = worker.pod, self._context.paths
        uid = pod.metadata.uid
        total = 0
        for volume in pod.spec.volumes:
            if volume.empty_dir is None or volume.empty_dir.medium == "Memory":
                continue
            used, _ = await asyncio.to_thread(tree.usage, paths.volume(uid, EmptyDir.directory, volume.name))
            total += used
            limit = volume.empty_dir.size_limit
            if limit and used > limit.value():
                return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{limit}". '
        message = ""
        for container in pod.spec.containers:
            newest = worker.records.newest(container.name)
            if newest is None or newest.state != ContainerState.RUNNING:
                continue
            stats = await self._context.runtime.container_stats(newest.id)
            used = stats.writable_layer_bytes
            logs, _ = await asyncio.to_thread(tree.usage, Path(newest.log_path).parent)
            used += logs
            total += used
            own = container.resources.limits.get(_RESOURCE)
            if own and used > own.value():
                message = message or f'Container {container.name} exceeded its local ephemeral storage limit "{own}". '
        # The sum of those that there are, as upstream counts.
        whole = pod_limits(pod.spec).get(_RESOURCE)
        if whole and total > whole.value():
            return f"Pod ephemeral local storage usage exceeds the total limit of containers {whole}. "
        return message


def _limited(pod: Pod) -> bool:
    if any(volume.empty_dir is not None and volume.empty_dir.size_limit for volume in pod.spec.volumes):
        return True
    return any(container.resources.limits.get(_RESOURCE) for container in pod.spec.containers)
