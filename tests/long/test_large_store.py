"""A store of several hundred megabytes: what requests about much of it cost the server, and everybody else."""

from __future__ import annotations

import asyncio
import http.client
import json
from collections.abc import Callable, Iterator

import pytest
from tests.support.api import JSON_PATCH, MERGE, STRATEGIC, TABLE, Answer, Api, pod, started
from tests.support.load import LARGE_BYTES, LARGE_MAPS, PODS, memory, pulse, seed

LARGE, SMALL = 300, 100_000
READERS = 10
LARGE_POD = "/api/v1/namespaces/default/pods"
AS_TABLE = {"Accept": TABLE}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    directory = tmp_path_factory.mktemp("full")
    (directory / "data").mkdir()
    asyncio.run(seed(directory / "data", large=LARGE, small=SMALL))
    with started(directory) as running:
        running.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        large = pod(name="large", metadata={"annotations": {"a": "x"}})
        large["spec"]["containers"][0]["env"] = [{"name": f"V{number}", "value": "v"} for number in range(15_000)]
        running.create(LARGE_POD, large)
        running.create("/api/v1/namespaces/default/configmaps", {
            "metadata": {"name": "keys", "finalizers": ["example.com/kept"]},
            "data": {f"key-{number}": "v" for number in range(50_000)},
        })  # fmt: skip
        yield running


def test_ten_lists_that_nobody_reads_cost_a_hundred_megabytes_at_most(full: Api) -> None:
    assert full.get(f"{LARGE_MAPS}?limit=2").code == 200
    before = memory(full)
    connections: list[http.client.HTTPConnection] = []
    with pulse(full) as others:
        for _ in range(READERS):
            connections.append(full.open())
            connections[-1].request("GET", LARGE_MAPS)
        for connection in connections:
            connection.getresponse()
        most = memory(full) - before
    for connection in connections:
        connection.close()
    print(json.dumps({"above the store, MiB": most >> 20, "longest stall, ms": round(others.longest * 1000)}))
    assert most < 100 << 20


def test_a_list_of_all_is_whole(full: Api) -> None:
    with pulse(full) as others:
        raw = full.get(LARGE_MAPS).raw
    print(json.dumps({"MB": len(raw) // 1_000_000, "longest stall, ms": round(others.longest * 1000)}))
    assert raw.count(b'"name":"m') == LARGE
    assert len(raw) > LARGE * LARGE_BYTES


KEYS = "/api/v1/namespaces/default/configmaps/keys"
REQUESTS: dict[str, Callable[[Api], Answer]] = {
    "list of all Pods": lambda api: api.get(PODS),
    "table of all Pods": lambda api: api.get(PODS, headers=AS_TABLE),
    "all Pods at an earlier revision": lambda api: api.get(f"{PODS}?resourceVersion=50000&resourceVersionMatch=Exact"),
    "one of all Pods by its label": lambda api: api.get(f"{PODS}?labelSelector=number=99999"),
    "large Pod": lambda api: api.get(f"{LARGE_POD}/large"),
    "large Pod as a table": lambda api: api.get(f"{LARGE_POD}/large", headers=AS_TABLE),
    "large Pods as a table": lambda api: api.get(LARGE_POD, headers=AS_TABLE),
    "large ConfigMap as a table": lambda api: api.get(KEYS, headers=AS_TABLE),
    "large ConfigMap as YAML": lambda api: api.get(KEYS, headers={"Accept": "application/yaml"}),
    "merge patch": lambda api: api.patch(KEYS, {"data": {"new": "1"}}, MERGE),
    "strategic patch": lambda api: api.patch(KEYS, {"data": {"new": "2"}}, STRATEGIC),
    "JSON patch": lambda api: api.patch(KEYS, [{"op": "add", "path": "/data/new", "value": "3"}], JSON_PATCH),
    "replacement": lambda api: api.put(KEYS, api.get(KEYS).json),
    "deletion on trial": lambda api: api.delete(f"{KEYS}?dryRun=All"),
    "deletion that waits for a finalizer": lambda api: api.delete(KEYS),
    "removal of the finalizer": lambda api: api.patch(KEYS, {"metadata": {"finalizers": None}}, MERGE),
    "deletion of the Pod by a grace period": lambda api: api.delete(f"{LARGE_POD}/large?gracePeriodSeconds=0"),
    "deletion of many Pods": lambda api: api.delete(f"{PODS}?limit=5000"),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_others_are_served_meanwhile(full: Api, name: str) -> None:
    with pulse(full) as others:
        answer = REQUESTS[name](full)
    print(json.dumps({name: f"{others.longest * 1000:.0f} ms"}))
    assert answer.code == 200, answer.raw[:1000]
