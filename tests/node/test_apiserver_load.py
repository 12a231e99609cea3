"""Requests about much: long lists, lists that nobody reads, small changes of large objects. Others are served meanwhile.

The event loop of the server must not stand still for more than a tenth of a second. A machine that runs other tests beside
this one adds to that, so the limit here is half a second; before, these requests took it for seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.api import JSON_PATCH, MERGE, STRATEGIC, TABLE, Api, pod, started

from podling.api import codec, scheme
from podling.api.core.v1 import ConfigMap, Pod
from podling.api.meta.v1 import ObjectMeta
from podling.store.sqlite import SQLiteStore

STALL = 0.5
LARGE, LARGE_BYTES = 40, 1_000_000
SMALL = 30_000
READERS = 10
UID = "6a1d6ae5-6b0e-4d3c-9d53-{:012}"
LARGE_MAPS = "/api/v1/namespaces/large/configmaps"
PODS = "/api/v1/namespaces/small/pods"


async def seed(directory: Path) -> None:
    """What a server would need minutes for."""
    async with await SQLiteStore.open(directory / "state.db") as store:

        async def create(obj: Any, number: int) -> None:
            metadata = obj.metadata
            metadata.uid, metadata.creation_timestamp = UID.format(number), "2026-01-01T00:00:00Z"

            def encode(revision: int) -> bytes:
                metadata.resource_version = str(revision)
                return codec.encode(obj)

            await store.create(scheme.by_type(type(obj)).key(metadata.namespace, metadata.name), encode)

        for number in range(LARGE):
            metadata = ObjectMeta(name=f"m{number:03}", namespace="large")
            data = {"data": "x" * LARGE_BYTES}
            await create(ConfigMap(api_version="v1", kind="ConfigMap", metadata=metadata, data=data), number)
        template = pod()
        for begin in range(0, SMALL, 1000):
            async with asyncio.TaskGroup() as group:
                for number in range(begin, begin + 1000):
                    one = codec.convert(template, Pod)
                    name = f"p{number:05}"
                    labels = {"number": str(number)}
                    one.metadata = ObjectMeta(name=name, namespace="small", labels=labels)
                    group.create_task(create(one, LARGE + number))


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server with many objects and with large ones."""
    directory = tmp_path_factory.mktemp("full")
    (directory / "data").mkdir()
    asyncio.run(seed(directory / "data"))
    with started(directory) as running:
        yield running


@contextlib.contextmanager
def pulse(api: Api) -> Iterator[None]:
    """Fails if the server did not answer small requests while the block ran."""
    waits: list[float] = []
    over = threading.Event()

    def beat() -> None:
        connection = api.open()
        while True:
            begin = time.monotonic()
            connection.request("GET", "/version")
            connection.getresponse().read()
            waits.append(time.monotonic() - begin)
            if over.wait(0.01):
                break
        connection.close()

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert waits
    assert max(waits) < STALL


def memory(api: Api) -> int:
    return int(Path(f"/proc/{api.server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_lists_that_nobody_reads_cost_little(full: Api) -> None:
    """Ten of 40 MB each would be 400 MB; each costs a piece, and what is in the buffers."""
    assert full.get(f"{LARGE_MAPS}?limit=2").code == 200
    before = memory(full)
    connections: list[http.client.HTTPConnection] = []
    with pulse(full):
        for _ in range(READERS):
            connections.append(full.open())
            connections[-1].request("GET", LARGE_MAPS)
        for connection in connections:
            connection.getresponse()
        assert memory(full) - before < 100 << 20
    for connection in connections:
        connection.close()


def test_a_list_in_pieces_is_whole(full: Api) -> None:
    with pulse(full):
        answer = full.get(LARGE_MAPS)
    assert [item["metadata"]["name"] for item in answer.json["items"]] == [f"m{number:03}" for number in range(LARGE)]
    assert answer.json["kind"] == "ConfigMapList"
    assert len(answer.raw) > LARGE * LARGE_BYTES
    packed = full.get(LARGE_MAPS, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.raw) == answer.raw


@pytest.mark.parametrize("accept", ["", TABLE, TABLE.replace("Table", "PartialObjectMetadataList")])
def test_long_lists_leave_turns_to_others(full: Api, accept: str) -> None:
    with pulse(full):
        answer = full.get(PODS, headers={"Accept": accept} if accept else {})
    assert len(answer.json["rows" if accept == TABLE else "items"]) == SMALL
    assert answer.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("query", ["labelSelector=number=29999", "limit=1&labelSelector=number=29999"])
def test_selecting_among_many_leaves_turns_to_others(full: Api, query: str) -> None:
    with pulse(full):
        answer = full.get(f"{PODS}?{query}")
    assert [item["metadata"]["name"] for item in answer.json["items"]] == ["p29999"]
    assert "continue" not in answer.json["metadata"]


def test_pages_of_selected_objects_follow_one_another(full: Api) -> None:
    found, query = [], "limit=7&labelSelector=number%20in%20(" + ",".join(str(n * 997) for n in range(20)) + ")"
    token = ""
    while True:
        answer = full.get(f"{PODS}?{query}" + (f"&continue={token}" if token else "")).json
        found += [item["metadata"]["name"] for item in answer["items"]]
        token = answer["metadata"].get("continue", "")
        if not token:
            break
        assert len(answer["items"]) == 7
    assert found == [f"p{number * 997:05}" for number in range(20)]


def test_the_beginning_of_a_watch_leaves_turns_to_others(full: Api) -> None:
    with pulse(full), full.watch(PODS, labelSelector="number=29999") as events:
        assert next(events)["object"]["metadata"]["name"] == "p29999"


def test_yaml_lists_are_made_item_by_item(full: Api) -> None:
    accept = {"Accept": "application/yaml"}
    for query in ("limit=300", "labelSelector=none"):
        found = yaml.safe_load(full.get(f"{PODS}?{query}", headers=accept).raw)
        assert found == full.get(f"{PODS}?{query}").json
    with pulse(full):
        assert full.get(LARGE_MAPS, headers=accept).raw.count(b"\n- ") == LARGE


def many_keys(number: int) -> dict[str, Any]:
    return {"metadata": {"name": "keys"}, "data": {f"key-{each}": "v" for each in range(number)}}


@pytest.mark.parametrize("content_type", [MERGE, STRATEGIC, JSON_PATCH])
def test_a_small_patch_of_a_large_object_stalls_nobody(api: Api, config_maps: str, content_type: str) -> None:
    api.create(config_maps, many_keys(50_000))
    operation = [{"op": "add", "path": "/data/new", "value": "x"}]
    patch = operation if content_type == JSON_PATCH else {"data": {"new": "x"}}
    with pulse(api):
        answer = api.patch(f"{config_maps}/keys", patch, content_type)
    assert answer.json["data"]["new"] == "x"


def test_a_small_patch_of_a_large_pod_stalls_nobody(api: Api, pods: str) -> None:
    large = pod(metadata={"annotations": {"a": "x"}})
    large["spec"]["containers"][0]["env"] = [{"name": f"V{number}", "value": "v"} for number in range(15_000)]
    api.create(pods, large)
    with pulse(api):
        assert api.patch(f"{pods}/web", {"metadata": {"annotations": {"a": "y"}}}, STRATEGIC).code == 200
    with pulse(api):
        assert api.patch(f"{pods}/web?fieldValidation=Strict", {"metadata": {"labels": {"a": "y"}}}).code == 200
    with pulse(api):
        status = {"status": {"message": "m"}}
        assert api.patch(f"{pods}/web/status", status, STRATEGIC).json["status"]["message"] == "m"


def test_yaml_with_many_keys_costs_two_seconds_at_most(api: Api, config_maps: str) -> None:
    """Two seconds of a processor by what its issue allows; it was twenty. The loop is free meanwhile."""
    document = "metadata: {name: keys}\ndata:\n" + "".join(f"  key-{number}: v\n" for number in range(80_000))
    before = cpu(api)
    with pulse(api):
        answer = api.post(config_maps, document, content_type="application/yaml")
    assert answer.code in (201, 422)
    assert cpu(api) - before < 2


def cpu(api: Api) -> float:
    fields = Path(f"/proc/{api.server.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_the_log_has_nothing_to_say(full: Api, api: Api) -> None:
    for each in (full, api):
        assert "Traceback" not in (each.directory / "server.log").read_text()
        assert json.loads(each.get("/version").raw)
