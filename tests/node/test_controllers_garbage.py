"""The controllers that collect garbage: Pods that nobody runs, dependents without owner, old Events."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from tests.support.api_server import ApiServer, running
from tests.support.controllers import Bench, Test, bench, run
from tests.support.objects import make_node, make_pod

from podling.api import codec
from podling.api.core.v1 import ConfigMap, Event, Node, Pod, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.api.time import from_seconds
from podling.client.informer import InformerSet
from podling.controllers import event_ttl
from podling.controllers.event_ttl import EventTTLController
from podling.controllers.pod_gc import PodGCController


def collecting(server: ApiServer, test: Test, **options: Any) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, server.client() as own, bench(client) as it:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace=it.namespace)))
            informers = InformerSet(own)
            controller = PodGCController(own, informers, **options)
            async with running(informers.run(), controller.run()):
                await test(it)

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
    kind = {"apiVersion": "v1", "kind": "ConfigMap", **({"blockOwnerDeletion": True} if block else {})}
    references = [{**kind, "name": owner.metadata.name, "uid": owner.metadata.uid} for owner in owners]
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


@pytest.mark.parametrize("names", ["a", "ab", "abcd"])
@pytest.mark.parametrize("deleted", ["one", "all"])
def test_a_circle_of_owners_that_block_each_other_is_resolved(server: ApiServer, names: str, deleted: str) -> None:
    async def test(it: Bench) -> None:
        made = {name: await it.client.create(owned(name, it.namespace)) for name in names}
        for name, owner in zip(names, [*names[1:], names[0]], strict=True):
            references = codec.to_builtins(owned(name, it.namespace, made[owner], block=True).metadata)
            patch = {"metadata": {"ownerReferences": references["ownerReferences"]}}
            await it.client.patch(ConfigMap, name, it.namespace, patch)
        for name in names if deleted == "all" else names[:1]:
            try:
                await it.client.delete(ConfigMap, name, it.namespace, propagation="Foreground")
            except ApiError as error:
                if error.code != 404:  # it went with the first
                    raise
        for name in names:
            await it.gone(ConfigMap, name)

    run(server, test)


def event(name: str, namespace: str, last: float) -> Event:
    """Last seen at that time, in seconds of the clock."""
    document = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"kind": "Pod", "name": "x", "namespace": namespace},
        "lastTimestamp": from_seconds(last),
    }
    return codec.convert(document, Event)


def test_events_go_when_their_time_is_over_and_not_before(server: ApiServer) -> None:
    async def scenario() -> None:
        async with asyncio.timeout(60), server.client() as client, bench(client) as it:
            for name, last in (("old", 10.0), ("new", 4e9)):
                await client.create(event(name, it.namespace, last))
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
                await client.create(event(name, it.namespace, time.time() + ahead))
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
