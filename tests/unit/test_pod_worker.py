"""A Pod's worker: how long its containers have to end, and that no change of what its volumes show is missed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from types import SimpleNamespace
from typing import Any

from podling.api import codec
from podling.api.core.v1 import Pod
from podling.kubelet.pod_actions import Records
from podling.kubelet.pod_worker import PodWorker
from podling.kubelet.pod_workers import PodWorkers
from podling.kubelet.volumes.plugin import Mounted
from podling.runtime.protocol import ContainerMetadata, ContainerState, ContainerStatus


class Runtime:
    """Two containers that end when asked to, and notes how long they were given."""

    def __init__(self) -> None:
        self.running = ["main", "sidecar"]
        self.graces: dict[str, float] = {}

    async def list_pod_sandbox(self, pod_uid: str = "") -> Sequence[Any]:
        return []

    async def list_containers(self, sandbox_id: str = "", pod_uid: str = "") -> Sequence[ContainerStatus]:
        return [
            ContainerStatus(
                id=name,
                sandbox_id="s",
                metadata=ContainerMetadata(name=name, attempt=0),
                state=ContainerState.RUNNING,
                created_at=1,
            )
            for name in self.running
        ]

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        self.graces[container_id] = grace_seconds
        self.running.remove(container_id)


class Watches:
    """Those who follow an object are told when it changes."""

    def __init__(self) -> None:
        self.followers: list[Callable[[], None]] = []

    def follow(self, pod: Pod, references: Iterable[Any], changed: Callable[[], None]) -> None:
        self.followers.append(changed)


def worker(spec: dict[str, Any], *, runtime: Any = None, volumes: Any = None, watches: Any = None) -> PodWorker:
    pod = codec.convert({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}, "spec": spec}, Pod)
    context: Any = SimpleNamespace(
        client=None,
        recorder=SimpleNamespace(event=lambda *args, **options: None),
        runtime=runtime,
        volumes=volumes,
        watches=watches,
        runtime_name="podling",
        host_ip="10.0.0.1",
    )
    return PodWorker(context, pod)


def test_a_sidecar_has_a_moment_to_end_even_if_the_others_took_all_the_time() -> None:
    runtime = Runtime()
    sidecar = {"name": "sidecar", "restartPolicy": "Always"}
    spec = {"containers": [{"name": "main"}], "initContainers": [sidecar], "terminationGracePeriodSeconds": 30}
    one = worker(spec, runtime=runtime)

    async def stop() -> None:
        one.records = Records.of([], await runtime.list_containers())
        await one._stop_containers(one.records.running(), time.monotonic() - 60)

    asyncio.run(stop())
    assert runtime.graces["sidecar"] > 1.9


def test_a_change_of_an_object_while_it_is_being_written_into_a_volume_is_not_missed() -> None:
    watches = Watches()

    class Volumes:
        async def set_up(self, pod: Pod) -> dict[str, Mounted]:
            for changed in watches.followers:
                changed()
            return {}

    spec = {"volumes": [{"name": "v", "configMap": {"name": "c"}}]}
    one = worker(spec, volumes=Volumes(), watches=watches)
    asyncio.run(one._refresh_volumes())
    assert one._volumes_stale


def test_a_defect_in_a_worker_is_an_event_of_its_pod() -> None:
    class Defective:
        pod = codec.convert({"metadata": {"name": "web", "namespace": "ns", "uid": "u"}}, Pod)

        async def run(self) -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(asyncio.to_thread(open, "a\0b"))

    async def main() -> tuple[Any, ...]:
        told: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()
        context: Any = SimpleNamespace(recorder=SimpleNamespace(event=lambda *args: told.put_nowait(args)))
        defective: Any = Defective()
        supervising = asyncio.create_task(PodWorkers(context, pods=None)._supervise(defective))  # type: ignore[arg-type]
        async with asyncio.timeout(10):
            event = await told.get()
        supervising.cancel()
        return event

    assert asyncio.run(main())[1:] == ("Warning", "FailedSync", "error syncing pod: embedded null byte")
