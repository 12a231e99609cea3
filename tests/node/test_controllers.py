"""The controllers at work on this repository's API server, with Nodes and Pod statuses made by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import pytest
from tests.support.api_server import ApiServer
from tests.support.objects import make_node, make_pod

from podling.api import codec
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import ConfigMap, Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.api.time import from_seconds, now_micro
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers import event_ttl
from podling.controllers.event_ttl import EventTTLController
from podling.controllers.manager import Manager
from podling.controllers.node_lifecycle import NodeLifecycleController
from podling.controllers.pod_gc import PodGCController

T = TypeVar("T", Pod, Node, Namespace, Endpoints, ConfigMap, ServiceAccount, Event)
ROOT_CA = b"-----BEGIN CERTIFICATE-----\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    server = ApiServer(tmp_path_factory.mktemp("server"))
    server.start()
    try:
        asyncio.run(server.ready())
        yield server
    finally:
        server.kill()


class Bench:
    """A namespace, and views of the cluster that tell of changes."""

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.informers = InformerSet(client)
        self._changed = asyncio.Event()

    def view(self, type: type[T]) -> Informer[T]:
        informer = self.informers.of(type)
        if informer not in self._seen:
            self._seen.append(informer)
            informer.add_handler(self._on_change)
        return informer

    _seen: list[Any]

    def _on_change(self, type: EventType, obj: Any, old: Any) -> None:
        self._changed.set()

    async def until(self, holds: Callable[[], Any]) -> Any:
        """The first true value of `holds`, asked again after every change."""
        while not (value := holds()):
            self._changed.clear()
            await self._changed.wait()
        return value

    async def exists(self, type: type[T], name: str, namespace: str | None = None) -> T:
        view = self.view(type)
        found: T = await self.until(lambda: view.get(self.namespace if namespace is None else namespace, name))
        return found

    async def gone(self, type: type[T], name: str, namespace: str | None = None) -> None:
        """Returns when the object is no more, for this view and for the server."""
        namespace = self.namespace if namespace is None else namespace
        view = self.view(type)
        await view.synced()
        while True:
            await self.until(lambda: view.get(namespace, name) is None)
            try:
                await self.client.get(type, name, namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return
            self._changed.clear()
            await self._changed.wait()

    async def running_pod(self, name: str, ip: str, *, node: str = "", ready: str = "True", **fields: Any) -> Pod:
        """A Pod that some kubelet is said to run."""
        pod = await self.client.create(make_pod(name, self.namespace, nodeName=node, **fields))
        await self.report(name, ip, ready=ready)
        return pod

    async def report(self, name: str, ip: str, *, ready: str = "True") -> None:
        status = {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]}
        await self.client.patch(
            Pod, name, self.namespace, {"status": status}, content_type="strategic", subresource="status"
        )


Test = Callable[[Bench], Awaitable[None]]
_numbers = iter(range(1000))


@asynccontextmanager
async def bench(client: Client) -> AsyncIterator[Bench]:
    name = f"test-{next(_numbers)}"
    await client.create(Namespace(metadata=ObjectMeta(name=name)))
    it = Bench(client, name)
    it._seen = []
    try:
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(it.informers.run())
            yield it
            watching.cancel()
    finally:
        for pod in (await client.list(Pod, name)).items:
            await client.delete(Pod, pod.metadata.name, name, grace_period_seconds=0)
        for node in (await client.list(Node)).items:
            await client.delete(Node, node.metadata.name)


async def beside(part: Awaitable[None], work: Awaitable[None]) -> None:
    async def run_part() -> None:
        await part

    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(run_part())
        await work
        running.cancel()


def run(server: ApiServer, test: Test) -> None:
    """With all controllers."""

    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await beside(Manager(own, root_ca=ROOT_CA).run(), test(it))

    asyncio.run(scenario())


# -- namespaces and what each of them has


def test_every_namespace_gets_its_service_account_and_the_root_certificate(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        config_map = await it.exists(ConfigMap, "kube-root-ca.crt")
        assert config_map.data == {"ca.crt": ROOT_CA.decode()}
        await it.exists(ServiceAccount, "default", "kube-system")

    run(server, test)


def test_both_come_back_when_they_are_deleted_and_the_certificate_when_it_is_changed(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        account = await it.exists(ServiceAccount, "default")
        await it.exists(ConfigMap, "kube-root-ca.crt")
        await it.client.delete(ServiceAccount, "default", it.namespace)
        accounts = it.view(ServiceAccount)

        def renewed() -> bool:
            found = accounts.get(it.namespace, "default")
            return found is not None and found.metadata.uid != account.metadata.uid

        await it.until(renewed)
        await it.client.patch(ConfigMap, "kube-root-ca.crt", it.namespace, {"data": {"ca.crt": "forged", "extra": "x"}})
        maps = it.view(ConfigMap)
        await it.until(lambda: getattr(maps.get(it.namespace, "kube-root-ca.crt"), "data", {}).get("extra") == "x")
        await it.until(
            lambda: getattr(maps.get(it.namespace, "kube-root-ca.crt"), "data", None) == {"ca.crt": ROOT_CA.decode()}
        )

    run(server, test)


def test_a_deleted_namespace_goes_with_everything_in_it(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(Secret(metadata=ObjectMeta(name="s", namespace=it.namespace)))
        await it.client.create(make_pod("unbound", it.namespace))
        await it.client.delete(Namespace, it.namespace)
        await it.gone(Namespace, it.namespace, "")
        assert (await it.client.list(Secret, it.namespace)).items == []
        assert (await it.client.list(Pod, it.namespace)).items == []
        assert (await it.client.list(ConfigMap, it.namespace)).items == []

    run(server, test)


def test_a_namespace_waits_for_its_pods_and_tells_so(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(make_node("node-1"))
        await it.running_pod("web", "10.244.0.1", node="node-1", terminationGracePeriodSeconds=30)
        await it.client.delete(Namespace, it.namespace)
        view = it.view(Namespace)

        def conditions() -> dict[str, Any]:
            namespace = view.get("", it.namespace)
            return {c.type: c for c in namespace.status.conditions} if namespace else {}

        await it.until(conditions)
        left = conditions()["NamespaceContentRemaining"]
        assert (left.status, left.reason) == ("True", "SomeResourcesRemain")
        assert left.message == "Some resources are remaining: pods. has 1 resource instances"
        deleted = conditions()["NamespaceDeletionContentFailure"]
        assert (deleted.status, deleted.reason) == ("False", "ContentDeleted")
        pod = await it.client.get(Pod, "web", it.namespace)
        assert pod.metadata.deletion_timestamp
        # The kubelet would do this once the containers have stopped.
        await it.client.delete(Pod, "web", it.namespace, grace_period_seconds=0)
        await it.gone(Namespace, it.namespace, "")

    run(server, test)


def test_a_namespace_names_the_finalizers_that_hold_it(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        meta = ObjectMeta(name="held", namespace=it.namespace, finalizers=["example.com/hold"])
        await it.client.create(Secret(metadata=meta))
        await it.client.delete(Namespace, it.namespace)
        view = it.view(Namespace)

        def held() -> Any:
            namespace = view.get("", it.namespace)
            conditions = namespace.status.conditions if namespace else []
            return next((c for c in conditions if c.type == "NamespaceFinalizersRemaining"), None)

        condition = await it.until(held)
        assert (condition.status, condition.reason) == ("True", "SomeFinalizersRemain")
        assert condition.message == (
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances"
        )
        await it.client.patch(Secret, "held", it.namespace, {"metadata": {"finalizers": None}})

    run(server, test)


# -- endpoints


def addresses(endpoints: Endpoints | None) -> tuple[list[str], list[str]]:
    subsets = endpoints.subsets if endpoints else []
    return [a.ip for s in subsets for a in s.addresses], [a.ip for s in subsets for a in s.not_ready_addresses]


def service(name: str, namespace: str, **spec: Any) -> Service:
    document = {
        "metadata": {"name": name, "namespace": namespace, "labels": {"tier": "front"}},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }
    return codec.convert(document, Service)


def test_endpoints_follow_the_pods_of_their_service(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(make_node("node-1"))
        view = it.view(Endpoints)
        web = {"app": "web"}
        await it.client.create(service("web", it.namespace))
        endpoints = await it.exists(Endpoints, "web")
        assert addresses(endpoints) == ([], [])
        assert endpoints.metadata.labels == {
            "tier": "front",
            "endpoints.kubernetes.io/managed-by": "endpoint-controller",
        }

        async def becomes(ready: list[str], other: list[str]) -> None:
            await it.until(lambda: addresses(view.get(it.namespace, "web")) == (ready, other))

        await it.running_pod("a", "10.244.0.1", node="node-1", labels=web)
        await it.running_pod("b", "10.244.0.2", node="node-1", labels=web, ready="False")
        await it.running_pod("c", "10.244.0.3", node="node-1")
        await becomes(["10.244.0.1"], ["10.244.0.2"])
        await it.report("b", "10.244.0.2")
        await becomes(["10.244.0.1", "10.244.0.2"], [])
        await it.client.patch(Pod, "a", it.namespace, {"metadata": {"labels": {"app": "other"}}})
        await becomes(["10.244.0.2"], [])
        await it.client.delete(Pod, "b", it.namespace)
        await becomes([], [])
        await it.client.patch(Service, "web", it.namespace, {"spec": {"selector": {"app": "other"}}})
        await becomes(["10.244.0.1"], [])
        await it.client.delete(Service, "web", it.namespace)
        await it.gone(Endpoints, "web")

    run(server, test)


def test_endpoints_of_a_service_without_selector_are_left_alone(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        manual = service("manual", it.namespace)
        manual.spec.selector = {}
        await it.client.create(manual)
        document = {
            "metadata": {"name": "manual", "namespace": it.namespace},
            "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
        }
        await it.client.create(codec.convert(document, Endpoints))
        await it.client.create(service("other", it.namespace))
        await it.exists(Endpoints, "other")
        assert addresses(await it.client.get(Endpoints, "manual", it.namespace)) == (["192.0.2.1"], [])

    run(server, test)


# -- nodes


def lifecycle(server: ApiServer, test: Test, grace_period: float) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=it.namespace)))
            informers = InformerSet(own)
            controller = NodeLifecycleController(own, informers, grace_period=grace_period)
            await beside(informers.run(), beside(controller.run(), test(it)))

    asyncio.run(scenario())


def ready(node: Node | None) -> Any:
    return next((c for c in node.status.conditions if c.type == "Ready"), None) if node else None


def taints(node: Node | None) -> set[tuple[str, str]]:
    return {(t.key, t.effect) for t in node.spec.taints} if node else set()


def lease(name: str) -> Lease:
    meta = {"name": name, "namespace": "kube-node-lease"}
    return codec.convert({"metadata": meta, "spec": {"holderIdentity": name, "renewTime": now_micro()}}, Lease)


def test_a_node_that_falls_silent_becomes_unknown_is_tainted_and_recovers(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        nodes, pods = it.view(Node), it.view(Pod)
        await it.client.create(make_node("node-1"))
        await it.running_pod("web", "10.244.0.1", node="node-1")
        await it.until(lambda: (c := ready(nodes.get("", "node-1"))) and c.status == "Unknown")
        condition = ready(nodes.get("", "node-1"))
        assert condition.reason == "NodeStatusUnknown"
        assert condition.message == "Kubelet stopped posting node status."
        unreachable = "node.kubernetes.io/unreachable"
        await it.until(
            lambda: taints(nodes.get("", "node-1")) == {(unreachable, "NoSchedule"), (unreachable, "NoExecute")}
        )

        def pod_is_not_ready() -> bool:
            pod = pods.get(it.namespace, "web")
            return pod is not None and any(c.type == "Ready" and c.status == "False" for c in pod.status.conditions)

        await it.until(pod_is_not_ready)
        status = {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": from_seconds(2e9)}]}
        await it.client.patch(Node, "node-1", "", {"status": status}, content_type="strategic", subresource="status")
        await it.until(lambda: taints(nodes.get("", "node-1")) == set())

    lifecycle(server, test, grace_period=0.3)


def test_a_node_that_renews_its_lease_stays_ready(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.client.create(make_node("node-1"))
        await it.client.create(make_node("silent"))
        await it.client.create(lease("node-1"))
        nodes = it.view(Node)

        async def renew() -> None:
            while True:
                patch = {"spec": {"renewTime": now_micro()}}
                await it.client.patch(Lease, "node-1", "kube-node-lease", patch)
                await asyncio.sleep(0.1)

        async def others_are_lost() -> None:
            await it.until(lambda: (c := ready(nodes.get("", "silent"))) and c.status == "Unknown")

        await beside(renew(), others_are_lost())
        assert ready(nodes.get("", "node-1")).status == "True"
        await it.client.delete(Lease, "node-1", "kube-node-lease")

    lifecycle(server, test, grace_period=1.0)


def test_taints_follow_conditions_and_foreign_ones_stay(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        nodes = it.view(Node)
        own = {"key": "example.com/mine", "effect": "NoExecute"}
        await it.client.create(make_node("node-1", ready="False", taints=[own]))
        not_ready = "node.kubernetes.io/not-ready"
        mine = ("example.com/mine", "NoExecute")
        await it.until(
            lambda: taints(nodes.get("", "node-1")) == {mine, (not_ready, "NoSchedule"), (not_ready, "NoExecute")}
        )
        status = {"conditions": [{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]}
        await it.client.patch(Node, "node-1", "", {"status": status}, content_type="strategic", subresource="status")
        pressure = ("node.kubernetes.io/disk-pressure", "NoSchedule")
        await it.until(lambda: taints(nodes.get("", "node-1")) == {mine, pressure})
        await it.client.patch(Node, "node-1", "", {"spec": {"unschedulable": True}})
        cordoned = ("node.kubernetes.io/unschedulable", "NoSchedule")
        await it.until(lambda: taints(nodes.get("", "node-1")) == {mine, pressure, cordoned})

    lifecycle(server, test, grace_period=60)


def test_no_execute_taints_evict_whoever_does_not_tolerate_them(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.exists(ServiceAccount, "default")
        await it.client.create(make_node("node-1"))
        forever: list[dict[str, Any]] = [{"key": "example.com/out", "operator": "Exists"}]
        briefly = [{**forever[0], "effect": "NoExecute", "tolerationSeconds": 1}]
        await it.running_pod("out", "10.244.0.1", node="node-1")
        await it.running_pod("stays", "10.244.0.2", node="node-1", tolerations=forever)
        await it.running_pod("later", "10.244.0.3", node="node-1", tolerations=briefly)
        pods = it.view(Pod)
        taint = {"key": "example.com/out", "effect": "NoExecute"}
        await it.client.patch(Node, "node-1", "", {"spec": {"taints": [taint]}})

        def going(name: str) -> bool:
            pod = pods.get(it.namespace, name)
            return pod is not None and bool(pod.metadata.deletion_timestamp)

        await it.until(lambda: going("out"))
        assert not going("later")
        await it.until(lambda: going("later"))
        assert not going("stays")
        pod = pods.get(it.namespace, "out")
        assert pod is not None
        disruption = next(c for c in pod.status.conditions if c.type == "DisruptionTarget")
        assert disruption.reason == "DeletionByTaintManager"

    run(server, test)


# -- garbage


def collecting(server: ApiServer, test: Test, **options: Any) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=it.namespace)))
            informers = InformerSet(own)
            controller = PodGCController(own, informers, **options)
            await beside(informers.run(), beside(controller.run(), test(it)))

    asyncio.run(scenario())


def test_pods_of_a_vanished_node_go_after_a_while(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.client.create(make_node("node-1"))
        await it.client.create(make_node("node-2"))
        await it.running_pod("lost", "10.244.0.1", node="node-1")
        await it.running_pod("kept", "10.244.0.2", node="node-2")
        await it.exists(Pod, "lost")
        await it.client.delete(Node, "node-1")
        await it.gone(Pod, "lost")
        assert (await it.client.get(Pod, "kept", it.namespace)).status.phase == "Running"

    collecting(server, test, quarantine=0.2)


def test_the_oldest_finished_pods_beyond_the_threshold_go(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.client.create(make_node("node-1"))
        for name in "abc":
            await it.client.create(make_pod(name, it.namespace, nodeName="node-1"))
            done = {"status": {"phase": "Succeeded"}}
            await it.client.patch(Pod, name, it.namespace, done, subresource="status")
        await it.gone(Pod, "a")
        names = [pod.metadata.name for pod in (await it.client.list(Pod, it.namespace)).items]
        assert names == ["b", "c"]

    collecting(server, test, terminated_threshold=2)


def owned(name: str, namespace: str, *owners: ConfigMap, block: bool = False) -> ConfigMap:
    references = [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": o.metadata.name, "uid": o.metadata.uid} for o in owners
    ]
    if block:
        for reference in references:
            reference["blockOwnerDeletion"] = True  # type: ignore[assignment]
    return codec.convert({"metadata": {"name": name, "namespace": namespace, "ownerReferences": references}}, ConfigMap)


def test_dependents_go_after_their_last_owner(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        first = await it.client.create(owned("first", it.namespace))
        second = await it.client.create(owned("second", it.namespace))
        await it.client.create(owned("of-first", it.namespace, first))
        await it.client.create(owned("of-both", it.namespace, first, second))
        child = await it.client.create(owned("child", it.namespace, second))
        await it.client.create(owned("grandchild", it.namespace, child))
        await it.exists(ConfigMap, "grandchild")
        await it.client.delete(ConfigMap, "first", it.namespace)
        await it.gone(ConfigMap, "of-first")
        maps = it.view(ConfigMap)

        def owners() -> list[str]:
            both = maps.get(it.namespace, "of-both")
            return [reference.name for reference in both.metadata.owner_references] if both else []

        await it.until(lambda: owners() == ["second"])
        await it.client.delete(ConfigMap, "second", it.namespace)
        for name in ("of-both", "child", "grandchild"):
            await it.gone(ConfigMap, name)

    run(server, test)


def test_an_object_whose_owner_never_was_goes(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        owner = await it.client.create(owned("owner", it.namespace))
        await it.client.create(owned("stays", it.namespace, owner))
        stranger = owned("owner", it.namespace)
        stranger.metadata.uid = "00000000-0000-0000-0000-000000000000"
        created = await it.client.create(owned("goes", it.namespace, stranger))
        await it.gone(ConfigMap, created.metadata.name)
        assert await it.client.get(ConfigMap, "stays", it.namespace)

    run(server, test)


def test_orphans_stay_without_their_owner(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        owner = await it.client.create(owned("owner", it.namespace))
        await it.client.create(owned("orphan", it.namespace, owner))
        await it.exists(ConfigMap, "orphan")
        await it.client.delete(ConfigMap, "owner", it.namespace, propagation="Orphan")
        await it.gone(ConfigMap, "owner")
        assert (await it.client.get(ConfigMap, "orphan", it.namespace)).metadata.owner_references == []

    run(server, test)


def test_an_owner_deleted_in_the_foreground_goes_after_those_that_block_it(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        owner = await it.client.create(owned("owner", it.namespace))
        held = owned("held", it.namespace, owner, block=True)
        held.metadata.finalizers = ["example.com/hold"]
        await it.client.create(held)
        await it.client.create(owned("free", it.namespace, owner, block=True))
        await it.exists(ConfigMap, "free")
        await it.client.delete(ConfigMap, "owner", it.namespace, propagation="Foreground")
        await it.gone(ConfigMap, "free")
        assert (await it.client.get(ConfigMap, "owner", it.namespace)).metadata.finalizers == ["foregroundDeletion"]
        await it.client.patch(ConfigMap, "held", it.namespace, {"metadata": {"finalizers": None}})
        await it.gone(ConfigMap, "owner")

    run(server, test)


def test_events_go_when_their_time_is_over_and_not_before(server: ApiServer) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, bench(client) as it:
            for name, last in (("old", 10.0), ("new", 4e9)):
                document = {
                    "metadata": {"name": name, "namespace": it.namespace},
                    "involvedObject": {"kind": "Pod", "name": "x", "namespace": it.namespace},
                    "lastTimestamp": from_seconds(last),
                }
                await client.create(codec.convert(document, Event))
            # Not an hour, but no time at all: the creation of both is over, the last sight of one is to come.
            wait = await EventTTLController(client, ttl=-5.0).expire()
            assert [e.metadata.name for e in (await client.list(Event, it.namespace)).items] == ["new"]
            assert 60 <= wait <= 900

    asyncio.run(scenario())


def test_the_next_look_at_events_is_when_the_oldest_of_all_pages_expires(
    server: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_ttl, "_PAGE", 1)

    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, bench(client) as it:
            for name, ahead in (("a", 0.0), ("b", 5000.0)):
                document = {
                    "metadata": {"name": name, "namespace": it.namespace},
                    "involvedObject": {"kind": "Pod", "name": "x", "namespace": it.namespace},
                    "lastTimestamp": from_seconds(time.time() + ahead),
                }
                await client.create(codec.convert(document, Event))
            assert await EventTTLController(client, ttl=300.0).expire() <= 300

    asyncio.run(scenario())


def test_a_pod_that_is_deleted_before_it_has_a_node_does_not_stay(server: ApiServer) -> None:
    async def test(it: Bench) -> None:
        await it.client.create(make_pod("nowhere", it.namespace))
        await it.client.delete(Pod, "nowhere", it.namespace)
        await it.gone(Pod, "nowhere")
        with pytest.raises(ApiError):
            await it.client.get(Pod, "nowhere", it.namespace)

    collecting(server, test)
