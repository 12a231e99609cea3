"""Many clients at once: no update is lost, no event is missed, doubled or out of order, and nobody waits for the slow."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing
from itertools import pairwise
from typing import Any

import pytest
from tests.support.answers import told
from tests.support.api import Api
from tests.support.https import Https

from podling.api.core.v1 import ConfigMap, Container, Pod, PodSpec
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.apiserver.list_options import encode_token
from podling.client.client import Client, EventType
from podling.client.informer import Informer

Scenario = Callable[[Client], Coroutine[Any, Any, None]]


@pytest.fixture
def run(api: Api) -> Callable[[Scenario], None]:
    """Runs a coroutine with a client, 60 s at most."""

    def runner(scenario: Scenario) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(60), api.server.client() as client:
                await scenario(client)

        asyncio.run(bounded())

    return runner


def config_map(name: str, namespace: str, **data: str) -> ConfigMap:
    return ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace), data=data)


async def ended(informer: asyncio.Task[None]) -> None:
    informer.cancel()
    await asyncio.gather(informer, return_exceptions=True)


def test_no_guarded_update_is_lost(run: Callable[[Scenario], None], namespace: str) -> None:
    workers, rounds = 8, 15

    async def scenario(client: Client) -> None:
        await client.create(config_map("counter", namespace, count="0"))
        conflicts = 0

        async def count() -> None:
            nonlocal conflicts
            done = 0
            while done < rounds:
                current = await client.get(ConfigMap, "counter", namespace)
                current.data["count"] = str(int(current.data["count"]) + 1)
                try:
                    await client.update(current)
                except ApiError as error:
                    if error.code != 409:
                        raise
                    conflicts += 1
                else:
                    done += 1

        async with asyncio.TaskGroup() as group:
            for _ in range(workers):
                group.create_task(count())
        final = await client.get(ConfigMap, "counter", namespace)
        assert final.data["count"] == str(workers * rounds)
        assert conflicts > 0

    run(scenario)


def test_patches_of_different_fields_all_stay(run: Callable[[Scenario], None], namespace: str) -> None:
    async def scenario(client: Client) -> None:
        await client.create(config_map("shared", namespace))

        async def write(worker: int) -> None:
            for step in range(10):
                await client.patch(ConfigMap, "shared", namespace, {"data": {f"{worker}-{step}": "x"}})

        async with asyncio.TaskGroup() as group:
            for worker in range(10):
                group.create_task(write(worker))
        final = await client.get(ConfigMap, "shared", namespace)
        assert set(final.data) == {f"{worker}-{step}" for worker in range(10) for step in range(10)}

    run(scenario)


def test_one_of_many_creations_wins(run: Callable[[Scenario], None], namespace: str) -> None:
    async def scenario(client: Client) -> None:
        attempts = [client.create(config_map("one", namespace, by=str(number))) for number in range(20)]
        results = await asyncio.gather(*attempts, return_exceptions=True)
        winners = [result for result in results if isinstance(result, ConfigMap)]
        assert len(winners) == 1
        assert {result.code for result in results if isinstance(result, ApiError)} == {409}
        assert await client.get(ConfigMap, "one", namespace) == winners[0]

    run(scenario)


def test_watchers_see_every_change_once_and_in_order(run: Callable[[Scenario], None], namespace: str) -> None:
    objects, rounds, watchers = 10, 12, 10

    async def scenario(client: Client) -> None:
        start = (await client.list(ConfigMap, namespace)).resource_version
        seen: list[list[tuple[str, str, str]]] = [[] for _ in range(watchers)]

        async def watch(number: int) -> None:
            own = seen[number]
            # Half of them break off and resume from the last version that they saw.
            version, gone = start, 0
            while gone < objects:
                stream = client.watch(ConfigMap, namespace, resource_version=version, bookmarks=False)
                async with aclosing(stream):
                    async for event in stream:
                        metadata = event.object.metadata
                        version = metadata.resource_version
                        own.append((event.type, metadata.name, version))
                        gone += event.type == EventType.DELETED
                        if gone == objects or (number % 2 and len(own) % 17 == 0):
                            break

        async def write(name: str) -> None:
            await client.create(config_map(name, namespace))
            for step in range(rounds):
                await client.patch(ConfigMap, name, namespace, {"data": {"step": str(step)}})
            await client.delete(ConfigMap, name, namespace)

        async with asyncio.TaskGroup() as group:
            for number in range(watchers):
                group.create_task(watch(number))
            for number in range(objects):
                group.create_task(write(f"o{number}"))
        assert all(events == seen[0] for events in seen)
        versions = [int(version) for _, _, version in seen[0]]
        assert all(earlier < later for earlier, later in pairwise(versions))
        for number in range(objects):
            kinds = [kind for kind, name, _ in seen[0] if name == f"o{number}"]
            assert kinds == ["ADDED", *["MODIFIED"] * rounds, "DELETED"]

    run(scenario)


def test_list_and_watch_leave_no_gap(run: Callable[[Scenario], None], namespace: str) -> None:
    async def scenario(client: Client) -> None:
        writing = True

        async def write(worker: int) -> None:
            step = 0
            while writing:
                name = f"w{worker}-{step % 5}"
                try:
                    if step % 3 == 2:
                        await client.delete(ConfigMap, name, namespace)
                    else:
                        await client.create(config_map(name, namespace, step=str(step)))
                except ApiError as error:
                    if error.code not in (404, 409):
                        raise
                step += 1

        async def follow() -> dict[str, str]:
            known: dict[str, str] = {}
            token = ""
            while True:  # pages of one version, while others write
                listed = await client.list(ConfigMap, namespace, limit=3, continue_token=token)
                known |= {item.metadata.name: item.metadata.resource_version for item in listed.items}
                token = listed.continue_token
                if not token:
                    break
            stream = client.watch(ConfigMap, namespace, resource_version=listed.resource_version)
            async with aclosing(stream):
                async for event in stream:
                    if event.type == EventType.BOOKMARK:
                        continue
                    metadata = event.object.metadata
                    if metadata.name == "end":
                        return known
                    if event.type == EventType.DELETED:
                        del known[metadata.name]
                    else:
                        assert (metadata.name in known) is (event.type == EventType.MODIFIED)
                        known[metadata.name] = metadata.resource_version
            raise AssertionError("the watch ended")

        async with asyncio.TaskGroup() as group:
            writers = [group.create_task(write(worker)) for worker in range(4)]
            followers = []
            for _ in range(10):
                followers.append(group.create_task(follow()))
                await client.list(ConfigMap, namespace)
            writing = False
            await asyncio.wait(writers)
            final = await client.list(ConfigMap, namespace)
            await client.create(config_map("end", namespace))
        truth = {item.metadata.name: item.metadata.resource_version for item in final.items}
        for follower in followers:
            assert follower.result() == truth

    run(scenario)


def _big(api: Api, path: str, count: int) -> str:
    """Writes an object of 900 KB so many times; its last version."""
    version = ""
    for number in range(count):
        answer = api.patch(path, {"data": {"big": str(number) + "x" * 900_000}})
        assert answer.code == 200, answer.raw
        version = answer.json["metadata"]["resourceVersion"]
    return version


def test_a_watcher_that_does_not_read_holds_nobody_up(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "big"}})
    with socket.socket(socket.AF_UNIX) as lazy:
        lazy.connect(str(api.server.socket))
        lazy.sendall(f"GET {config_maps}?watch=1&timeoutSeconds=30 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert lazy.recv(12) == b"HTTP/1.1 200"
        with api.watch(config_maps) as events:
            assert next(events)["type"] == "ADDED"
            last = _big(api, f"{config_maps}/big", 20)
            versions = [next(events)["object"]["metadata"]["resourceVersion"] for _ in range(20)]
        assert versions[-1] == last
        # The lazy one begins to read, and has missed nothing.
        lazy.settimeout(20)
        with lazy.makefile("rb") as stream:
            lines = (line for line in stream if line.startswith(b'{"type"'))
            late = [json.loads(next(lines))["object"]["metadata"]["resourceVersion"] for _ in range(21)]
        assert late[1:] == versions


def test_a_version_that_is_compacted_is_gone_and_informers_go_on(
    api: Api, run: Callable[[Scenario], None], namespace: str, config_maps: str
) -> None:
    old = api.create(config_maps, {"metadata": {"name": "big"}})["metadata"]["resourceVersion"]

    async def scenario(client: Client) -> None:
        informer = Informer(client, ConfigMap, namespace)
        seen: list[tuple[EventType, str]] = []
        informer.add_handler(lambda kind, obj, _: seen.append((kind, obj.metadata.name)))
        task = asyncio.create_task(informer.run())
        await informer.synced()
        await ended(task)  # as a client that sleeps meanwhile
        await asyncio.to_thread(_big, api, f"{config_maps}/big", 110)
        await client.create(config_map("new", namespace))
        with api.watch(config_maps, resourceVersion=old) as events:
            error = next(events)
        assert (error["type"], error["object"]["code"], error["object"]["reason"]) == ("ERROR", 410, "Expired")
        assert error["object"]["message"].startswith(f"too old resource version: {old} (")
        exact = api.get(f"{config_maps}?resourceVersion={old}&resourceVersionMatch=Exact")
        text = "The resourceVersion for the provided list is too old."
        assert told(exact) == (410, "Expired", text)
        assert told(api.get(f"{config_maps}?resourceVersion={old}&limit=1")) == (410, "Expired", text)
        page = api.get(f"{config_maps}?limit=5&continue={encode_token(int(old), f'{namespace}/a')}")
        assert told(page)[:2] == (410, "Expired")
        assert page.message.startswith(
            "The provided continue parameter is too old to display a consistent list result. "
        )
        rest = api.get(f"{config_maps}?limit=5&continue={page.json['metadata']['continue']}")
        assert [item["metadata"]["name"] for item in rest.json["items"]] == ["big", "new"]
        arrived = asyncio.Event()
        informer.add_handler(lambda kind, obj, _: arrived.set() if obj.metadata.name == "new" else None)
        task = asyncio.create_task(informer.run())
        await arrived.wait()
        await ended(task)
        assert seen == [(EventType.ADDED, "big"), (EventType.MODIFIED, "big"), (EventType.ADDED, "new")]

    run(scenario)


@pytest.fixture
def idle_connections(api: Api) -> Iterator[list[ssl.SSLSocket]]:
    """Clients that connect, authenticate and then say nothing."""
    remote = Https(api.server.port, api.directory / "data" / "pki").administrator()
    opened = []
    for _ in range(60):
        plain = socket.create_connection(("127.0.0.1", api.server.port), timeout=10)
        opened.append(remote.context.wrap_socket(plain, server_hostname="localhost"))
    yield opened
    for each in opened:
        each.close()


def test_many_idle_clients_and_watches_cost_the_others_nothing(
    api: Api, idle_connections: list[ssl.SSLSocket], config_maps: str
) -> None:
    for each in idle_connections:
        each.sendall(f"GET {config_maps}?watch=1&timeoutSeconds=30 HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert each.recv(12) == b"HTTP/1.1 200"
    made = api.create(config_maps, {"metadata": {"name": "a"}})
    for each in idle_connections:
        received = b""
        while f'"resourceVersion":"{made["metadata"]["resourceVersion"]}"'.encode() not in received:
            chunk = each.recv(65536)
            assert chunk
            received += chunk


def test_a_huge_object_keeps_nobody_waiting(run: Callable[[Scenario], None], namespace: str) -> None:
    containers = [Container(name=f"c{number}", image="i", image_pull_policy="Never") for number in range(5_000)]
    huge = Pod(metadata=ObjectMeta(name="huge", namespace=namespace), spec=PodSpec(containers=containers))

    async def scenario(client: Client) -> None:
        await client.create(config_map("small", namespace))
        meanwhile = 0
        creation = asyncio.create_task(client.create(huge))
        while not creation.done():
            await client.get(ConfigMap, "small", namespace)
            meanwhile += 1
        await creation
        # Served one after the other there would be one or two.
        assert meanwhile > 5

    run(scenario)
