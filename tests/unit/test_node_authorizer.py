"""The Node authorizer and its graph: what a node may read follows the Pods bound to it, at a cost that does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.objects import make_pod

from podling.api import codec, fields
from podling.api.core.v1 import Pod
from podling.apiserver.authorization import Attributes
from podling.apiserver.node_authorizer import NodeAuthorizer
from podling.apiserver.node_graph import NodeGraph
from podling.apiserver.user import authenticated, node_user
from podling.store.sqlite import SQLiteStore


def pod(name: str, node: str, **spec: Any) -> bytes:
    return codec.encode(make_pod(name, "ns", nodeName=node, serviceAccountName="account", **spec))


SECRET = {"name": "v", "secret": {"secretName": "secret"}}
CLAIM = {"name": "v", "persistentVolumeClaim": {"claimName": "claim"}}
EPHEMERAL = {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}


def scenario(directory: Path, steps: Callable[[SQLiteStore, NodeGraph], Awaitable[None]]) -> None:
    """Runs `steps` beside a graph that follows a store."""

    async def run() -> None:
        store = await SQLiteStore.open(directory / "state.db")
        graph = NodeGraph(store)
        try:
            await graph.load()
            async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
                following = tasks.create_task(graph.run())
                await steps(store, graph)
                following.cancel()
        finally:
            await store.close()

    asyncio.run(run())


async def write(store: SQLiteStore, name: str, value: bytes) -> None:
    """Returns when whoever watches has been told."""
    key = f"/registry/pods/ns/{name}"
    entry = store.get(key)
    if entry is None:
        await store.create(key, lambda revision: value)
    else:
        await store.update(key, lambda revision: value, expected=entry.revision)
    await asyncio.sleep(0)


async def remove(store: SQLiteStore, name: str) -> None:
    entry = store.get(f"/registry/pods/ns/{name}")
    assert entry is not None
    await store.delete(entry.key, lambda revision: entry.value, expected=entry.revision)
    await asyncio.sleep(0)


def test_a_node_uses_what_its_pods_refer_to_for_as_long_as_they_exist(tmp_path: Path) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        await write(store, "a", pod("a", "", volumes=[SECRET]))
        assert not graph.uses("n1", "secrets", "ns", "secret")
        await write(store, "a", pod("a", "n1", volumes=[SECRET]))
        await write(store, "b", pod("b", "n1", volumes=[SECRET]))
        for resource, name in (("secrets", "secret"), ("pods", "a"), ("serviceaccounts", "account")):
            assert graph.uses("n1", resource, "ns", name)
            assert not graph.uses("n2", resource, "ns", name)
            assert not graph.uses("n1", resource, "other", name)
            assert not graph.uses("n1", "configmaps", "ns", name)
        await remove(store, "a")
        assert graph.uses("n1", "secrets", "ns", "secret")
        assert not graph.uses("n1", "pods", "ns", "a")
        await remove(store, "b")
        assert not graph.uses("n1", "secrets", "ns", "secret")
        await write(store, "a", pod("a", "n2", volumes=[SECRET]))
        assert graph.uses("n2", "secrets", "ns", "secret")
        assert not graph.uses("n1", "secrets", "ns", "secret")

    scenario(tmp_path, steps)


@pytest.mark.parametrize(
    ("spec", "resource", "name"),
    [
        ({"imagePullSecrets": [{"name": "x"}]}, "secrets", "x"),
        ({"initContainers": [{"name": "i", "envFrom": [{"secretRef": {"name": "x"}}]}]}, "secrets", "x"),
        ({"ephemeralContainers": [{"name": "e", "envFrom": [{"configMapRef": {"name": "x"}}]}]}, "configmaps", "x"),
        (
            {"volumes": [{"name": "v", "csi": {"driver": "d", "nodePublishSecretRef": {"name": "x"}}}]},
            "secrets",
            "x",
        ),
        ({"volumes": [{"name": "v", "azureFile": {"secretName": "x", "shareName": "s"}}]}, "secrets", "x"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "x"}}]}}]}, "configmaps", "x"),
        ({"volumes": [CLAIM]}, "persistentvolumeclaims", "claim"),
        ({"volumes": [EPHEMERAL]}, "persistentvolumeclaims", "a-scratch"),
    ],
)
def test_every_kind_of_reference_counts(tmp_path: Path, spec: dict[str, object], resource: str, name: str) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        await write(store, "a", pod("a", "n1", **spec))
        assert graph.uses("n1", resource, "ns", name)

    scenario(tmp_path, steps)


def test_mirror_pods_give_their_node_nothing(tmp_path: Path) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        made = codec.decode(Pod, pod("a", "n1", volumes=[SECRET]))
        made.metadata.annotations["kubernetes.io/config.mirror"] = "x"
        await write(store, "a", codec.encode(made))
        assert graph.uses("n1", "pods", "ns", "a")
        assert not graph.uses("n1", "secrets", "ns", "secret")

    scenario(tmp_path, steps)


def test_a_pod_that_cannot_be_read_stops_nothing(tmp_path: Path) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        broken = pod("broken", "n1", volumes=[SECRET]).replace(b'"containers":[', b'"containers":[7,')
        await write(store, "broken", broken)
        await write(store, "noise", b"{")
        await write(store, "a", pod("a", "n1"))
        await remove(store, "broken")
        assert graph.uses("n1", "pods", "ns", "a")
        assert not graph.uses("n1", "secrets", "ns", "secret")

    scenario(tmp_path, steps)


def test_stored_pods_count_from_the_start_and_no_question_reads_the_store(tmp_path: Path) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        for number in range(300):
            await write(store, f"p{number}", pod(f"p{number}", f"n{number}", volumes=[SECRET]))
        fresh = NodeGraph(store)
        await fresh.load()
        fresh._store = None  # type: ignore[assignment]  # a question that reads it fails
        assert all(fresh.uses(f"n{number}", "secrets", "ns", "secret") for number in range(300))

    scenario(tmp_path, steps)


def test_a_pod_bound_before_it_was_answered_for_is_known_by_then(tmp_path: Path) -> None:
    """A kubelet asks for a Pod's Secrets as soon as it is told of the Pod."""

    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        async with asyncio.TaskGroup() as tasks:

            async def told(number: int) -> None:
                stream = store.watch(f"/registry/pods/ns/p{number}", since=store.revision)
                async for event in stream:
                    await asyncio.sleep(0)  # no answer reaches a client, and no request comes back, in the same turn
                    assert graph.uses("n1", "pods", "ns", f"p{number}"), event.key
                    break
                await stream.aclose()

            waiting = [tasks.create_task(told(number)) for number in range(50)]
            await asyncio.sleep(0)
            for number in range(50):
                await write(store, f"p{number}", pod(f"p{number}", "n1"))
            await asyncio.wait(waiting)

    scenario(tmp_path, steps)


@pytest.mark.parametrize(
    ("selector", "name", "allowed"),
    [
        ("spec.nodeName=n1", "", True),
        ("spec.nodeName==n1,status.phase=Running", "", True),
        ("spec.nodeName!=n1", "", False),
        ("spec.nodeName=n2", "", False),
        ("", "", False),
        ("metadata.name=mine", "mine", True),
        ("metadata.name=theirs", "theirs", False),
    ],
)
def test_pods_are_listed_by_node(tmp_path: Path, selector: str, name: str, allowed: bool) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        await write(store, "mine", pod("mine", "n1"))
        await write(store, "theirs", pod("theirs", "n2"))
        attributes = Attributes(
            verb="list", resource="pods", namespace="ns", name=name, field_selector=fields.parse(selector)
        )
        decision = NodeAuthorizer(graph).authorize(node_user("n1"), attributes)
        assert decision is not None
        assert decision.allowed is allowed

    scenario(tmp_path, steps)


def test_only_users_of_the_nodes_group_with_a_nodes_name_are_nodes(tmp_path: Path) -> None:
    async def steps(store: SQLiteStore, graph: NodeGraph) -> None:
        authorizer = NodeAuthorizer(graph)
        attributes = Attributes(verb="get", resource="nodes", name="n1")
        assert authorizer.authorize(authenticated("system:node:n1", ()), attributes) is None
        assert authorizer.authorize(authenticated("n1", ("system:nodes",)), attributes) is None
        nameless = authorizer.authorize(authenticated("system:node:", ("system:nodes",)), attributes)
        assert nameless is not None
        assert (nameless.allowed, nameless.reason) == (False, 'unknown node for user "system:node:"')

    scenario(tmp_path, steps)
