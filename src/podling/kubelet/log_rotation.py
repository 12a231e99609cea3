"""Keeps container logs from growing without bound.

Source: Kubernetes documentation "Logging Architecture" (log rotation; containerLogMaxSize 10Mi, containerLogMaxFiles 5,
checked every 10 s): the file in use is renamed with a time stamp and reopened by the runtime, older ones are compressed.
"""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import shutil
import time
from pathlib import Path

from podling.kubelet.pod_workers import PodWorkers
from podling.runtime.protocol import ContainerState, CRIError, RuntimeService

log = logging.getLogger(__name__)

MAX_BYTES = 10 * 1024 * 1024
MAX_FILES = 5
INTERVAL_SECONDS = 10.0


class LogRotation:
    """`run` is its owner task."""

    def __init__(self, workers: PodWorkers, runtime: RuntimeService) -> None:
        self._workers = workers
        self._runtime = runtime

    async def run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            running = [
                status
                for worker in self._workers
                for held in worker.records.containers.values()
                for status in held
                if status.state == ContainerState.RUNNING
            ]
            for status in running:
                try:
                    await self._rotate(status.id, Path(status.log_path))
                except (OSError, CRIError) as error:
                    log.warning("log %s cannot be rotated: %s", status.log_path, error)

    async def _rotate(self, container_id: str, path: Path) -> None:
        # One stat is quicker than handing it to a thread.
        try:
            if os.stat(path).st_size < MAX_BYTES:
                return
        except FileNotFoundError:
            # Somebody deleted it, or a rotation was cut short.
            await self._runtime.reopen_container_log(container_id)
            return
        rotated = path.with_name(f"{path.name}.{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}")
        await asyncio.to_thread(path.rename, rotated)
        try:
            await self._runtime.reopen_container_log(container_id)
        except CRIError:
            # Without a new file the old name must stay the one in use.
            await asyncio.to_thread(rotated.rename, path)
            raise
        await asyncio.to_thread(tidy, path)


def tidy(path: Path) -> None:
    """Compresses all rotated files of a log but the newest and deletes those beyond MAX_FILES (the one in use counts)."""
    for left in path.parent.glob(f"{path.name}.*.tmp"):
        left.unlink()
    rotated = sorted(path.parent.glob(f"{path.name}.*"))
    for old in rotated[: max(0, len(rotated) - (MAX_FILES - 1))]:
        old.unlink()
    for old in rotated[max(0, len(rotated) - (MAX_FILES - 1)) : -1]:
        if old.suffix != ".gz":
            packed = old.with_name(f"{old.name}.gz")
            unfinished = old.with_name(f"{old.name}.gz.tmp")
            with old.open("rb") as source, gzip.open(unfinished, "wb") as target:
                shutil.copyfileobj(source, target)
            unfinished.rename(packed)
            old.unlink()
