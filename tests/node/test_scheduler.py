"""The scheduler at work on this repository's API server, with Nodes made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_server import ApiServer, own_namespace, running
from tests.support.objects import make_node, make_pod
from tests.support.relay import Relay

from podling.api.core.v1 import Event, Node, Pod, PodCondition, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.client.client import Client, ClientConfig, ConnectionFailed, EventType
from podling.client.informer import Informer
from podling.scheduler import placement, scheduler
from podling.scheduler.node_info import PodInfo
from podling.scheduler.scheduler import Scheduler


class Bench:
    """A namespace, Nodes that are there for one test, and what becomes of the Pods."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.pods = Informer(client, Pod, namespace)
        self.events = Informer(client, Event, namespace)
        self._changed = asyncio.Event()
        self.pods.add_handler(self._on_change)
        self.events.add_handler(self._on_change)

    def _on_change(self, type: EventType, obj: Any, old: Any) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._changed.clear()
            await self._changed.wait()

    async def node(self, name: str, **fields: Any) -> Node:
        """Create a Node, and take the taint of new ones away as the node controller does."""
        node = await self.client.create(make_node(name, **fields))
        return await self.client.patch(Node, node.metadata.name, "", {"spec": {"taints": fields.get("taints")}})

    async def pod(self, name: str, **fields: Any) -> Pod:
        return await self.client.create(make_pod(name, self.namespace, **fields))

    def known(self, name: str) -> Pod:
        pod = self.pods.get(self.namespace, name)
        assert pod is not None
        return pod

    async def placed(self, name: str) -> str:
        """The Node that the Pod was bound to."""
        await self.until(lambda: bool((pod := self.pods.get(self.namespace, name)) and pod.spec.node_name))
        return self.known(name).spec.node_name

    def condition(self, name: str) -> PodCondition:
        pod = self.pods.get(self.namespace, name)
        conditions = pod.status.conditions if pod else []
        return next((c for c in conditions if c.type == "PodScheduled"), PodCondition())

    async def refused(self, name: str, reason: str = "Unschedulable") -> str:
        """The message of the PodScheduled condition."""
        await self.until(lambda: self.condition(name).reason == reason)
        assert self.condition(name).status == "False"
        return self.condition(name).message

    async def event(self, name: str, reason: str) -> Event:
        def found() -> Event | None:
            events = self.events.list()
            return next((e for e in events if e.involved_object.name == name and e.reason == reason), None)

        await self.until(lambda: found() is not None)
        event = found()
        assert event is not None
        return event


Test = Callable[[Bench], Awaitable[None]]


@asynccontextmanager
async def bench(client: Client) -> AsyncIterator[Bench]:
    async with own_namespace(client) as name:
        await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=name)))
        bench = Bench(client, name)
        async with running(bench.pods.run(), bench.events.run()):
            yield bench


def run(server: ApiServer, test: Test) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            server.client() as client,
            server.client() as own,
            bench(client) as it,
            running(Scheduler(own).run()),
        ):
            await test(it)

    asyncio.run(scenario())


def test_a_pod_is_bound_and_both_the_pod_and_an_event_tell_so(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1")
        await it.pod("nginx")
        assert await it.placed("nginx") == "node-1"
        assert it.condition("nginx").status == "True"
        event = await it.event("nginx", "Scheduled")
        assert event.message == f"Successfully assigned {it.namespace}/nginx to node-1"
        assert (event.type, event.source.component) == ("Normal", "default-scheduler")
        assert event.involved_object.uid == it.known("nginx").metadata.uid

    run(server, test)


def test_a_defect_that_one_pod_brings_to_light_keeps_no_other_from_its_node(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def place(pod: PodInfo, *rest: Any) -> placement.Placement:
        if pod.pod.metadata.name == "broken":
            raise ZeroDivisionError
        return placement.place(pod, *rest)

    async def test(it: Bench) -> None:
        await it.node("node-1")
        await it.pod("broken")
        await it.pod("nginx")
        assert await it.placed("nginx") == "node-1"
        assert not it.known("broken").spec.node_name

    monkeypatch.setattr(scheduler, "place", place)
    run(server, test)


def test_a_pod_that_was_there_before_the_scheduler_is_placed_too(server: ApiServer) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await it.node("node-1")
            await it.pod("early")

            async with running(Scheduler(own).run()):
                assert await it.placed("early") == "node-1"

    asyncio.run(scenario())


def test_pods_of_other_schedulers_are_left_alone(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1")
        await it.pod("foreign", schedulerName="my-scheduler")
        await it.pod("mine")
        await it.placed("mine")
        assert it.known("foreign").spec.node_name == ""
        assert it.condition("foreign").reason == ""

    run(server, test)


def test_a_pod_waits_for_a_node_and_takes_the_first_that_comes(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.pod("web")
        assert await it.refused("web") == "no nodes available to schedule pods"
        await it.node("late")
        assert await it.placed("web") == "late"

    run(server, test)


def test_a_pod_too_large_says_why_and_is_placed_when_another_goes(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1", cpu="2")
        await it.pod("first", requests={"cpu": "1500m"})
        await it.placed("first")
        await it.pod("second", requests={"cpu": "1"})
        message = (
            "0/1 nodes are available: 1 Insufficient cpu. "
            "preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
        )
        assert await it.refused("second") == message
        event = await it.event("second", "FailedScheduling")
        assert (event.type, event.message) == ("Warning", message)
        await it.client.delete(Pod, "first", it.namespace, grace_period_seconds=0)
        assert await it.placed("second") == "node-1"
        assert it.condition("second").status == "True"

    run(server, test)


def test_a_finished_pod_makes_room(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1", pods="1")
        await it.pod("job")
        await it.placed("job")
        await it.pod("next")
        assert (await it.refused("next")).startswith("0/1 nodes are available: 1 Too many pods.")
        done = {"status": {"phase": "Succeeded"}}
        await it.client.patch(Pod, "job", it.namespace, done, subresource="status")
        assert await it.placed("next") == "node-1"

    run(server, test)


@pytest.mark.parametrize(
    ("wrong", "change"),
    [
        ({"unschedulable": True}, {"spec": {"unschedulable": None}}),
        ({"taints": [{"key": "a", "effect": "NoSchedule"}]}, {"spec": {"taints": None}}),
        ({}, {"metadata": {"labels": {"disk": "ssd"}}}),
    ],
)
def test_a_node_that_changes_lets_waiting_pods_in(server: ApiServer, wrong: Any, change: Any) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1", **wrong)
        await it.pod("web", nodeSelector={} if wrong else {"disk": "ssd"})
        assert "1 Preemption is not helpful for scheduling." in await it.refused("web")
        await it.client.patch(Node, "node-1", "", change)
        assert await it.placed("web") == "node-1"

    run(server, test)


def test_gates_hold_a_pod_until_they_are_removed(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1")
        await it.pod("gated", schedulingGates=[{"name": "example.com/wait"}])
        message = await it.refused("gated", "SchedulingGated")
        assert message == "Scheduling is blocked due to non-empty scheduling gates"
        await it.pod("free")
        await it.placed("free")
        assert it.known("gated").spec.node_name == ""
        await it.client.patch(Pod, "gated", it.namespace, {"spec": {"schedulingGates": None}})
        assert await it.placed("gated") == "node-1"

    run(server, test)


def test_a_burst_fills_every_node_and_overfills_none(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        for number in range(3):
            await it.node(f"node-{number}", cpu="5")
        async with asyncio.TaskGroup() as tasks:
            for number in range(18):
                tasks.create_task(it.pod(f"pod-{number}", requests={"cpu": "1"}))

        def settled() -> bool:
            pods = it.pods.list()
            waiting = [p for p in pods if it.condition(p.metadata.name).reason == "Unschedulable"]
            return len([p for p in pods if p.spec.node_name]) == 15 and len(waiting) == 3

        await it.until(settled)
        counts = [sum(p.spec.node_name == f"node-{n}" for p in it.pods.list()) for n in range(3)]
        assert counts == [5, 5, 5]

    run(server, test)


def test_a_more_important_pod_takes_the_place_of_another(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.node("node-1", cpu="2")
        await it.pod("low", requests={"cpu": "2"}, terminationGracePeriodSeconds=30)
        await it.placed("low")
        system = {"priorityClassName": "system-node-critical"}
        await it.pod("critical", requests={"cpu": "1"}, **system)
        await it.until(lambda: bool(it.known("low").metadata.deletion_timestamp))
        disruption = next(c for c in it.known("low").status.conditions if c.type == "DisruptionTarget")
        assert disruption.reason == "PreemptionByScheduler"
        await it.until(lambda: it.known("critical").status.nominated_node_name == "node-1")
        uid = it.known("critical").metadata.uid
        assert (await it.event("low", "Preempted")).message == f"Preempted by pod {uid} on node node-1"
        # The kubelet would do this once the containers have stopped.
        await it.client.delete(Pod, "low", it.namespace, grace_period_seconds=0)
        assert await it.placed("critical") == "node-1"

    run(server, test)


def test_a_binding_that_fails_is_tried_again(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with (
            asyncio.timeout(60),
            Relay(tmp_path / "relay.sock", server.socket) as relay,
            server.client() as client,
            CutOnBinding(ClientConfig(socket=str(relay.path)), relay) as unlucky,
            bench(client) as it,
            running(Scheduler(unlucky).run()),
        ):
            await it.node("node-1")
            await it.pod("web")
            assert await it.placed("web") == "node-1"
            assert unlucky.attempts == 2

    asyncio.run(scenario())


class CutOnBinding(Client):
    """Loses its connections right before the first binding."""

    def __init__(self, config: ClientConfig, relay: Relay) -> None:
        super().__init__(config)
        self._relay = relay
        self.attempts = 0

    async def request(self, method: str, path: str, **options: Any) -> bytes:
        if "/binding" in path:
            self.attempts += 1
            if self.attempts == 1:
                self._relay.cut()
                asyncio.get_running_loop().call_later(0.2, self._reopen)
        return await super().request(method, path, **options)

    def _reopen(self) -> None:
        self._reopening = asyncio.ensure_future(self._relay.open())


def test_a_pod_deleted_while_it_waits_is_forgotten(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.pod("gone")
        await it.refused("gone")
        await it.client.delete(Pod, "gone", it.namespace)
        await it.until(lambda: it.pods.get(it.namespace, "gone") is None)
        await it.node("node-1")
        await it.pod("web")
        await it.placed("web")
        with pytest.raises(ApiError):
            await it.client.get(Pod, "gone", it.namespace)

    run(server, test)


def test_while_the_server_is_killed_again_and_again_every_pod_is_placed_and_no_node_overfilled(tmp_path: Path) -> None:
    async def scenario() -> None:
        server = ApiServer(tmp_path)
        server.start()
        try:
            await server.ready()
            async with asyncio.timeout(90), server.client() as client, server.client() as own, bench(client) as it:
                for number in range(4):
                    await it.node(f"node-{number}", cpu="10")

                async def create(name: str) -> None:
                    while True:
                        try:
                            await it.pod(name, requests={"cpu": "1"})
                            return
                        except ConnectionFailed:
                            await client.recovered(0.05)
                        except ApiError as error:
                            # The answer to the first attempt was lost.
                            if error.reason == "AlreadyExists":
                                return
                            raise

                async with running(Scheduler(own).run()):
                    for batch in range(5):
                        async with asyncio.TaskGroup() as tasks:
                            for number in range(8):
                                tasks.create_task(create(f"pod-{batch}-{number}"))
                            tasks.create_task(die_and_rise(server))
                    await it.until(lambda: len([p for p in it.pods.list() if p.spec.node_name]) == 40)
                    placed = [pod.spec.node_name for pod in it.pods.list()]
                    assert sorted(placed.count(f"node-{n}") for n in range(4)) == [10, 10, 10, 10]
        finally:
            server.kill()

    asyncio.run(scenario())


async def die_and_rise(server: ApiServer) -> None:
    await asyncio.sleep(0.02)
    await asyncio.to_thread(server.kill)
    server.start()
    await server.ready()
