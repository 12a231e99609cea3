"""The controllers of Nodes: those that fall silent, taints, and whom taints evict."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.support.api_server import ApiServer, running
from tests.support.controllers import Bench, Test, bench, run
from tests.support.objects import make_node

from podling.api import codec
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Node, Pod, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.time import from_seconds, now_micro
from podling.client.informer import InformerSet
from podling.controllers.node_lifecycle import NodeLifecycleController


def lifecycle(server: ApiServer, test: Test, grace_period: float) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=it.namespace)))
            informers = InformerSet(own)
            controller = NodeLifecycleController(own, informers, grace_period=grace_period)
            async with running(informers.run(), controller.run()):
                await test(it)

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

        async with running(renew()):
            await it.until(lambda: (c := ready(nodes.get("", "silent"))) and c.status == "Unknown")
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
