"""A client with numbers at and beyond the limits, through every door: nothing it sends harms what others see."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.support.api import TABLE, Answer, Api, new_namespace, pod

MAX64, MIN64 = 2**63 - 1, -(2**63)
LAST = "9999-12-31T23:59:59Z"
PROTOBUF = "application/vnd.kubernetes.protobuf"
YAML = "application/yaml"


@pytest.fixture
def namespace(api: Api) -> str:
    return new_namespace(api)


def _varint(number: int) -> bytes:
    number &= 2**64 - 1
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _protobuf_options(seconds: int) -> bytes:
    options = b"\x08" + _varint(seconds)  # DeleteOptions.gracePeriodSeconds
    return b"k8s\x00\x12" + _varint(len(options)) + options


DELETE_DOORS: dict[str, Callable[[Api, str, int], Answer]] = {
    "json": lambda api, path, seconds: api.delete(path, {"gracePeriodSeconds": seconds}),
    "yaml": lambda api, path, seconds: api.delete(path, f"gracePeriodSeconds: {seconds}\n", content_type=YAML),
    "protobuf": lambda api, path, seconds: api.delete(path, _protobuf_options(seconds), content_type=PROTOBUF),
    "query": lambda api, path, seconds: api.delete(f"{path}?gracePeriodSeconds={seconds}"),
}


def _everybody_sees(api: Api, pods: str) -> None:
    """The reads of kubectl and of informers go on, and the Pod can be removed."""
    listed = api.get(pods).json["items"]
    assert {item["metadata"]["name"] for item in listed} == {"bad", "good"}
    table = api.get(pods, headers={"Accept": TABLE})
    assert len(table.json["rows"]) == 2
    assert api.get(f"{pods}?labelSelector=app%3Dx&fieldSelector=status.phase%3DPending").code == 200
    with api.watch(pods) as events:
        assert {next(events)["object"]["metadata"]["name"] for _ in range(2)} == {"bad", "good"}
    assert api.patch(f"{pods}/bad", {"metadata": {"labels": {"a": "b"}}}).code == 200
    assert api.patch(f"{pods}/bad/status", {"status": {"message": "m"}}).code == 200
    assert api.delete(f"{pods}/bad", {"gracePeriodSeconds": 0}).code == 200
    assert api.get(f"{pods}/bad").code == 404


@pytest.mark.parametrize("seconds", [252_000_000_000, 253_402_300_800, 300_000_000_000, MAX64])
@pytest.mark.parametrize("door", DELETE_DOORS)
def test_a_deletion_with_a_grace_period_beyond_all_times(api: Api, pods: str, door: str, seconds: int) -> None:
    api.create(pods, pod("good"))
    api.create(pods, pod("bad", nodeName="n1"))
    answer = DELETE_DOORS[door](api, f"{pods}/bad", seconds)
    assert answer.code == 200, answer.raw
    metadata = answer.json["metadata"]
    assert metadata["deletionTimestamp"] == LAST
    assert metadata["deletionGracePeriodSeconds"] == seconds
    shorter = api.delete(f"{pods}/bad", {"gracePeriodSeconds": 30}).json["metadata"]
    left = datetime.fromisoformat(shorter["deletionTimestamp"]) - datetime.now(UTC)
    assert timedelta(0) < left <= timedelta(seconds=30)
    _everybody_sees(api, pods)


@pytest.mark.parametrize("seconds", [-1, MIN64])
@pytest.mark.parametrize("door", DELETE_DOORS)
def test_a_deletion_with_a_negative_grace_period(api: Api, pods: str, door: str, seconds: int) -> None:
    api.create(pods, pod("good"))
    api.create(pods, pod("bad", nodeName="n1"))
    answer = DELETE_DOORS[door](api, f"{pods}/bad", seconds)
    assert answer.code == 200, answer.raw
    assert answer.json["metadata"]["deletionGracePeriodSeconds"] == 1
    _everybody_sees(api, pods)


@pytest.mark.parametrize("seconds", [MAX64 + 1, MIN64 - 1, 10**30])
@pytest.mark.parametrize("door", [door for door in DELETE_DOORS if door != "protobuf"])
def test_a_grace_period_of_more_than_64_bits_is_refused(api: Api, pods: str, door: str, seconds: int) -> None:
    api.create(pods, pod("bad", nodeName="n1"))
    answer = DELETE_DOORS[door](api, f"{pods}/bad", seconds)
    assert answer.code == 400, answer.raw
    assert "deletionTimestamp" not in api.get(f"{pods}/bad").json["metadata"]


@pytest.mark.parametrize("seconds", [999_999_999_999, MAX64])
def test_a_pod_with_a_grace_period_beyond_all_times(api: Api, pods: str, seconds: int) -> None:
    api.create(pods, pod("good"))
    api.create(pods, pod("bad", nodeName="n1", terminationGracePeriodSeconds=seconds))
    answer = api.delete(f"{pods}/bad")
    assert answer.json["metadata"]["deletionTimestamp"] == LAST
    _everybody_sees(api, pods)


def test_an_eviction_with_a_grace_period_beyond_all_times(api: Api, pods: str) -> None:
    api.create(pods, pod("good"))
    api.create(pods, pod("bad", nodeName="n1"))
    body = {"metadata": {"name": "bad"}, "deleteOptions": {"gracePeriodSeconds": MAX64}}
    answer = api.post(f"{pods}/bad/eviction", {"apiVersion": "policy/v1", "kind": "Eviction", **body})
    assert answer.code == 201, answer.raw
    _everybody_sees(api, pods)


@pytest.mark.parametrize("time", ["0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z", LAST])
def test_an_event_of_the_first_or_the_last_year(api: Api, namespace: str, time: str) -> None:
    events = f"/api/v1/namespaces/{namespace}/events"
    involved = {"kind": "Pod", "namespace": namespace, "name": "a"}
    api.create(
        events, {"metadata": {"name": "e"}, "involvedObject": involved, "firstTimestamp": time, "lastTimestamp": time}
    )
    table = api.get(events, headers={"Accept": TABLE})
    assert table.code == 200, table.raw
    assert len(table.json["rows"]) == 1


@pytest.mark.parametrize(
    "time", ["10000-01-01T00:00:00Z", "9999-12-31T23:59:59-01:00", "-001-01-01T00:00:00Z", "99999999999999999999"]
)
def test_a_time_beyond_the_last_year_is_refused(api: Api, namespace: str, time: str) -> None:
    events = f"/api/v1/namespaces/{namespace}/events"
    involved = {"kind": "Pod", "namespace": namespace, "name": "a"}
    body: dict[str, Any] = {"metadata": {"name": "e"}, "involvedObject": involved, "lastTimestamp": time}
    assert api.post(events, body).code == 400
    assert api.get(events).json["items"] == []


@pytest.mark.parametrize("number", [MAX64 + 1, MIN64 - 1, "1_0", "%20" + "1", "%D9%A1", "1.5", "9" * 5000])
@pytest.mark.parametrize("option", ["limit", "timeoutSeconds"])
def test_a_query_option_that_is_not_a_number_of_64_bits_is_refused(
    api: Api, pods: str, option: str, number: object
) -> None:
    answer = api.get(f"{pods}?{option}={number}")
    assert answer.code == 400, answer.raw
    assert "strconv.ParseInt" in answer.message


@pytest.mark.parametrize("seconds", [MAX64, 2**31, 10**12])
def test_a_watch_may_be_asked_to_last_for_ever(api: Api, pods: str, seconds: int) -> None:
    with api.watch(pods, timeoutSeconds=seconds) as events:
        api.create(pods, pod("good"))
        assert next(events)["object"]["metadata"]["name"] == "good"


@pytest.mark.parametrize("query", [f"limit={MAX64}", f"limit={MIN64}", f"timeoutSeconds={MIN64}"])
def test_a_list_with_options_at_their_limits(api: Api, pods: str, query: str) -> None:
    api.create(pods, pod("good"))
    assert len(api.get(f"{pods}?{query}").json["items"]) == 1


@pytest.mark.parametrize("count", [2**31, MAX64, MAX64 + 1, 10**30])
def test_a_restart_count_of_more_than_32_bits_is_refused(api: Api, pods: str, count: int) -> None:
    api.create(pods, pod("good"))
    state = {"name": "main", "restartCount": count, "image": "i", "imageID": "", "ready": False}
    assert api.patch(f"{pods}/good/status", {"status": {"containerStatuses": [state]}}).code >= 400
    assert api.get(pods, headers={"Accept": TABLE}).code == 200


def test_an_object_of_the_last_generation_can_be_deleted(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/configmaps"
    metadata = {"name": "c", "generation": MAX64, "finalizers": ["example.com/wait"]}
    api.create(path, {"metadata": metadata})
    answer = api.delete(f"{path}/c")
    assert (answer.code, answer.json["metadata"]["generation"]) == (200, MAX64)
    assert api.patch(f"{path}/c", {"metadata": {"finalizers": None}}).code == 200
    assert api.get(f"{path}/c").code == 404


def test_a_namespace_of_the_last_generation_can_be_deleted(api: Api) -> None:
    path = "/api/v1/namespaces/last-generation"
    api.create("/api/v1/namespaces", {"metadata": {"name": "last-generation", "generation": MAX64}})
    answer = api.delete(path)
    assert (answer.code, answer.json["status"]["phase"]) == (200, "Terminating")
    assert api.put(f"{path}/finalize", {"metadata": {"name": "last-generation"}, "spec": {}}).code == 200
    assert api.get(path).code == 404
