"""Which taints a Node gets, and when Pods have to leave it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.support.objects import make_node, make_pod

from podling.api.core.v1 import Node, NodeCondition, Pod, Taint, Toleration
from podling.client.client import EventType
from podling.client.informer import InformerSet
from podling.controllers.node_lifecycle import wanted_taints
from podling.controllers.taint_eviction import TaintEvictionController, eviction_delay

PREFIX = "node.kubernetes.io/"
NO_EXECUTE = [Taint(key="a", effect="NoExecute")]


@pytest.mark.parametrize(
    ("ready", "taints"),
    [
        ("True", set()),
        ("False", {("not-ready", "NoSchedule"), ("not-ready", "NoExecute")}),
        ("Unknown", {("unreachable", "NoSchedule"), ("unreachable", "NoExecute")}),
    ],
)
def test_readiness(ready: str, taints: set[tuple[str, str]]) -> None:
    assert wanted_taints(make_node(ready=ready)) == {(PREFIX + key, effect) for key, effect in taints}


def test_a_node_that_never_reported_takes_no_pods() -> None:
    node = make_node()
    node.status.conditions = []
    assert wanted_taints(node) == {(PREFIX + "not-ready", "NoSchedule")}


def test_pressure_and_cordon() -> None:
    node = make_node(unschedulable=True)
    node.status.conditions.append(NodeCondition(type="DiskPressure", status="True"))
    node.status.conditions.append(NodeCondition(type="MemoryPressure", status="False"))
    assert wanted_taints(node) == {(PREFIX + "disk-pressure", "NoSchedule"), (PREFIX + "unschedulable", "NoSchedule")}


def tolerate(seconds: int | None = None, key: str = "a") -> Toleration:
    return Toleration(key=key, operator="Exists", toleration_seconds=seconds)


@pytest.mark.parametrize(
    ("tolerations", "delay"),
    [
        ([], 0),
        ([tolerate(key="b")], 0),
        ([tolerate()], None),
        ([tolerate(300)], 300),
        ([tolerate(300), tolerate(30)], 30),
        ([tolerate(300), tolerate()], 300),
        ([tolerate(-5)], 0),
    ],
)
def test_how_long_a_pod_may_stay(tolerations: list[Toleration], delay: float | None) -> None:
    assert eviction_delay(NO_EXECUTE, tolerations) == delay


def test_without_taints_for_ever() -> None:
    assert eviction_delay([], []) is None


def test_every_taint_has_to_be_tolerated() -> None:
    both = [*NO_EXECUTE, Taint(key="b", effect="NoExecute")]
    assert eviction_delay(both, [tolerate()]) == 0


def test_time_counts_from_the_taint() -> None:
    taint = Taint(key="a", effect="NoExecute", time_added="1970-01-01T00:16:40Z")
    assert eviction_delay([taint], [tolerate(300)], at=1100.0) == 200
    assert eviction_delay([taint], [tolerate(300)], at=2000.0) == 0


def test_a_pod_of_the_same_name_that_comes_while_another_is_evicted_has_an_eviction_of_its_own() -> None:
    class Api:
        async def patch(self, *args: Any, **options: Any) -> None:
            pass

        async def delete(self, *args: Any, **options: Any) -> None:
            pods._objects[key] = successor
            controller._on_pod(EventType.DELETED, evicted, evicted)
            controller._on_pod(EventType.ADDED, successor, None)

    async def evict() -> None:
        nodes._objects["", "node-1"] = make_node(taints=[{"key": "a", "effect": "NoExecute"}])
        pods._objects[key] = evicted
        controller._on_pod(EventType.ADDED, evicted, None)
        await controller._evict(key)
        assert controller._pending == {key: "second"}
        controller._queue.cancel(key)

    key = ("default", "web")
    for_a_while = [{"key": "a", "operator": "Exists", "tolerationSeconds": 300}]
    evicted, successor = (
        make_pod("web", uid=uid, nodeName="node-1", tolerations=for_a_while) for uid in ("first", "second")
    )
    client: Any = Api()
    informers = InformerSet(client)
    nodes, pods = informers.of(Node), informers.of(Pod)
    controller = TaintEvictionController(client, informers)
    asyncio.run(evict())
