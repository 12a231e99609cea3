"""What the kubelet tells the API server of Pods and of its node, whatever others write there and however long it is away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from tests.support.api_server import ApiServer, running

from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Container, Node, Pod, PodCondition, PodSpec, PodStatus, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.quantity import Quantity
from podling.api.status import ApiError
from podling.client.client import Client
from podling.client.informer import Informer
from podling.kubelet import node_status
from podling.kubelet.node_status import Capacity, NodeReporter
from podling.kubelet.status_writer import StatusWriter
from podling.runtime.protocol import Image, RuntimeCondition, RuntimeVersion


@pytest.fixture(scope="module")
def server(server: ApiServer) -> ApiServer:
    async def prepare() -> None:
        async with server.client() as client:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace="default")))

    asyncio.run(prepare())
    return server


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(60):
            await scenario()

    asyncio.run(bounded())


# Pods


async def create(client: Client, name: str = "") -> Pod:
    meta = ObjectMeta(name=name or f"p-{uuid4().hex[:8]}", namespace="default")
    return await client.create(Pod(metadata=meta, spec=PodSpec(containers=[Container(name="c", image="i")])))


def status(ready: str, phase: str = "Running", message: str = "", **more: Any) -> PodStatus:
    conditions = [PodCondition(type="Ready", status=ready), PodCondition(type="theirs", status="False")]
    return PodStatus(phase=phase, message=message, conditions=conditions, **more)


async def conditions(client: Client, pod: Pod) -> dict[str, str]:
    found = await client.get(Pod, pod.metadata.name, "default")
    return {condition.type: condition.status for condition in found.status.conditions}


async def patch_condition(client: Client, pod: Pod, kind: str, value: str) -> Pod:
    body = {"status": {"conditions": [{"type": kind, "status": value}]}}
    return await client.patch(Pod, pod.metadata.name, "default", body, content_type="strategic", subresource="status")


def test_what_others_write_into_a_status_is_mended_and_what_is_theirs_is_left(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            pod = await create(client)
            writer = StatusWriter(client, pod)
            async with running(writer.run()):
                await patch_condition(client, pod, "theirs", "True")
                writer.set(status("True"))
                await writer.flush()
                # The writer knew of no condition of theirs, or of an older one: it must not write it.
                assert await conditions(client, pod) == {"theirs": "True", "Ready": "True"}
                writer.seen(await patch_condition(client, pod, "Ready", "False"))
                writer.set(status("True"))
                await writer.flush()
                assert await conditions(client, pod) == {"theirs": "True", "Ready": "True"}
                before = (await client.get(Pod, pod.metadata.name, "default")).metadata.resource_version
                # An echo from before our write is no reason to write again.
                writer.seen(pod)
                writer.set(status("True"))
                await writer.flush()
                found = await client.get(Pod, pod.metadata.name, "default")
                assert found.metadata.resource_version == before

    run(scenario)


def test_fields_that_no_longer_hold_are_cleared(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            writer = StatusWriter(client, pod := await create(client))
            async with running(writer.run()):
                writer.set(status("True", message="once"))
                writer.set(status("False"))
                await writer.flush()
                writer.set(status("False", pod_ip="10.0.0.1"))
                await writer.flush()
                writer.set(status("False"))
                await writer.flush()
                found = (await client.get(Pod, pod.metadata.name, "default")).status
                assert (found.message, found.pod_ip) == ("", "")

    run(scenario)


def test_only_the_newest_status_is_written_when_the_server_is_back(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            pod = await create(client)
            writer = StatusWriter(client, pod)
            async with running(writer.run()):
                server.kill()
                for number in range(50):
                    writer.set(status("True", message=str(number)))
                    await asyncio.sleep(0)
                server.start()
                await server.ready()
                await writer.flush()
                found = await client.get(Pod, pod.metadata.name, "default")
                assert found.status.message == "49"
                writes = int(found.metadata.resource_version) - int(pod.metadata.resource_version)
                assert writes <= 2

    run(scenario)


def test_a_pod_of_the_same_name_does_not_get_the_status_of_its_predecessor(server: ApiServer) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            pod = await create(client)
            await client.delete(Pod, pod.metadata.name, "default", grace_period_seconds=0)
            await create(client, pod.metadata.name)
            writer = StatusWriter(client, pod)
            async with running(writer.run()):
                writer.set(status("True", phase="Failed"))
                await writer.flush()
            found = await client.get(Pod, pod.metadata.name, "default")
            assert found.status.phase == "Pending"

    run(scenario)


def test_a_write_of_others_that_is_seen_before_the_answer_to_our_own_is_mended(server: ApiServer) -> None:
    other: Client
    pod: Pod
    writer: StatusWriter

    class Slow(Client):
        """Others write before the first answer reaches whoever asked."""

        interfered = False

        async def patch(self, *args: Any, **options: Any) -> Any:
            answer = await super().patch(*args, **options)
            if not self.interfered:
                self.interfered = True
                writer.seen(await patch_condition(other, pod, "Ready", "False"))
                writer.set(status("True"))
            return answer

    async def scenario() -> None:
        nonlocal other, pod, writer
        async with server.client() as other, Slow(other.config) as client:
            pod = await create(other)
            writer = StatusWriter(client, pod)
            async with running(writer.run()):
                writer.set(status("True"))
                await writer.flush()
                assert await conditions(other, pod) == {"Ready": "True"}

    run(scenario)


# the node


class Machine:
    """The runtime and the images of a node where nothing runs."""

    async def version(self) -> RuntimeVersion:
        return RuntimeVersion(runtime_name="podling", runtime_version="1")

    async def status(self) -> list[RuntimeCondition]:
        return [RuntimeCondition(type="RuntimeReady", status=True)]

    async def list_images(self) -> list[Image]:
        return []


class Reported:
    """A reporter whose next heartbeats come at once."""

    def __init__(self, client: Client, directory: Path) -> None:
        self.name = f"n-{uuid4().hex[:8]}"
        self.nodes = Informer(client, Node, field_selector=f"metadata.name={self.name}")
        self._client = client
        self._changed = asyncio.Event()
        self.nodes.add_handler(lambda type, node, old: self._changed.set())
        machine: Any = Machine()
        capacity = Capacity.of_machine(directory)
        self._reporter = NodeReporter(
            client, self.name, "192.0.2.1", 10250, directory, capacity, machine, machine, "v1.36.0"
        )
        self.nodes.add_handler(self._reporter.seen)

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[None]:
        registered = asyncio.Event()
        async with running(self.nodes.run(), self._reporter.run(registered)):
            await registered.wait()
            yield

    async def node(self, holds: Callable[[Node], object]) -> Node:
        """Returns once the API has the node like this."""
        while True:
            self._changed.clear()
            node = self.nodes.get("", self.name)
            if node is not None and holds(node):
                return node
            await self._changed.wait()


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_status, "_RENEW_SECONDS", 0.05)


def ready(node: Node) -> str:
    return next((condition.status for condition in node.status.conditions if condition.type == "Ready"), "")


@pytest.mark.usefixtures("often")
def test_a_node_that_was_given_up_reports_itself_back(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            reported = Reported(client, tmp_path)
            async with reported():
                before = await reported.node(lambda node: ready(node) == "True")
                body = {"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}}
                unknown = await client.patch(
                    Node, reported.name, "", body, content_type="strategic", subresource="status"
                )
                since = int(unknown.metadata.resource_version)
                after = await reported.node(lambda node: int(node.metadata.resource_version) > since)
                assert ready(after) == "True"
                assert after.metadata.uid == before.metadata.uid

    run(scenario)


@pytest.mark.usefixtures("often")
def test_a_node_that_was_deleted_is_registered_anew_and_so_is_its_lease(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            reported = Reported(client, tmp_path)
            async with reported():
                before = await reported.node(lambda node: ready(node) == "True")
                with suppress(ApiError):
                    await client.delete(Lease, reported.name, "kube-node-lease")
                await client.delete(Node, reported.name)
                after = await reported.node(
                    lambda node: node.metadata.uid != before.metadata.uid and ready(node) == "True"
                )
                assert after.metadata.labels["kubernetes.io/hostname"] == reported.name
                leases = Informer(client, Lease, "kube-node-lease", field_selector=f"metadata.name={reported.name}")
                renewed = asyncio.Event()
                leases.add_handler(lambda type, lease, old: renewed.set())
                async with running(leases.run()):
                    await renewed.wait()

    run(scenario)


@pytest.mark.usefixtures("often")
def test_extended_resources_that_somebody_advertised_are_offered_to_pods(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            reported = Reported(client, tmp_path)
            dongle = "example.com/dongle"

            async def advertise(operation: dict[str, Any]) -> None:
                path = {"path": "/status/capacity/example.com~1dongle"}
                await client.patch(
                    Node, reported.name, "", [{**operation, **path}], content_type="json", subresource="status"
                )

            async with reported():
                await reported.node(lambda node: ready(node) == "True")
                await advertise({"op": "add", "value": "4"})
                found = await reported.node(lambda node: dongle in node.status.allocatable)
                assert found.status.allocatable[dongle] == found.status.capacity[dongle] == Quantity("4")
                await advertise({"op": "remove"})
                gone = await reported.node(lambda node: dongle not in node.status.allocatable)
                assert dongle not in gone.status.capacity

    run(scenario)


@pytest.mark.usefixtures("often")
def test_nothing_is_written_while_nothing_changes_but_the_lease(server: ApiServer, tmp_path: Path) -> None:
    async def scenario() -> None:
        async with server.client() as client:
            reported = Reported(client, tmp_path)
            async with reported():
                await reported.node(lambda node: ready(node) == "True")
                # Somebody else's condition is no difference.
                body = {"status": {"conditions": [{"type": "Theirs", "status": "True"}]}}
                node = await client.patch(Node, reported.name, "", body, content_type="strategic", subresource="status")
                renewals = 0
                async for event in client.watch(
                    Lease, "kube-node-lease", field_selector=f"metadata.name={reported.name}"
                ):
                    renewals += event.object.metadata.name == reported.name
                    if renewals == 8:
                        break
                after = await client.get(Node, reported.name)
                assert after.metadata.resource_version == node.metadata.resource_version

    run(scenario)
