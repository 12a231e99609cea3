"""Watches: what they show, from where they start, how they end."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

from tests.support.api import TABLE, Api, pod

Events = Iterator[dict[str, Any]]


def _briefly(events: Events, count: int) -> list[tuple[str, str]]:
    return [(event["type"], event["object"]["metadata"]["name"]) for event in islice(events, count)]


def test_a_watch_without_a_version_begins_with_what_is_there(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "a"}})
    with api.watch(config_maps) as events:
        assert _briefly(events, 1) == [("ADDED", "a")]
        api.create(config_maps, {"metadata": {"name": "b"}})
        api.patch(f"{config_maps}/b", {"data": {"x": "y"}})
        api.delete(f"{config_maps}/a")
        assert _briefly(events, 3) == [("ADDED", "b"), ("MODIFIED", "b"), ("DELETED", "a")]


def test_a_watch_resumes_after_the_version_given(api: Api, config_maps: str) -> None:
    first = api.create(config_maps, {"metadata": {"name": "a"}})
    api.create(config_maps, {"metadata": {"name": "b"}})
    with api.watch(config_maps, resourceVersion=first["metadata"]["resourceVersion"]) as events:
        assert _briefly(events, 1) == [("ADDED", "b")]


def test_events_carry_the_object_as_get_shows_it(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "a"}, "data": {"x": "y"}})
    with api.watch(config_maps) as events:
        assert next(events) == {"type": "ADDED", "object": made}
        gone = api.delete(f"{config_maps}/a")
        assert gone.code == 200
        last = next(events)
    assert last["type"] == "DELETED"
    assert int(last["object"]["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


def test_a_selector_turns_changes_into_additions_and_deletions(api: Api, config_maps: str) -> None:
    with api.watch(config_maps, labelSelector="in=yes") as events:
        api.create(config_maps, {"metadata": {"name": "a"}})
        entered = api.patch(f"{config_maps}/a", {"metadata": {"labels": {"in": "yes"}}}).json
        api.patch(f"{config_maps}/a", {"data": {"x": "1"}})
        left = api.patch(f"{config_maps}/a", {"metadata": {"labels": {"in": "no"}}}).json
        seen = list(islice(events, 3))
    assert [event["type"] for event in seen] == ["ADDED", "MODIFIED", "DELETED"]
    assert seen[0]["object"] == entered
    assert seen[2]["object"]["metadata"]["labels"] == {"in": "yes"}
    assert seen[2]["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]


def test_pods_can_be_watched_by_node(api: Api, pods: str) -> None:
    api.create(pods, pod("other"))
    api.create(pods, pod("mine"))
    with api.watch(pods, fieldSelector="spec.nodeName=n1") as events:
        api.post(f"{pods}/mine/binding", {"target": {"kind": "Node", "name": "n1"}})
        event = next(events)
    assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "mine")


def test_a_watch_sees_only_its_namespace(api: Api, config_maps: str) -> None:
    with api.watch(config_maps) as events:
        api.create("/api/v1/namespaces/default/configmaps", {"metadata": {"generateName": "elsewhere-"}})
        api.create(config_maps, {"metadata": {"name": "here"}})
        assert _briefly(events, 1) == [("ADDED", "here")]


def test_initial_events_end_with_a_bookmark(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "a"}})
    query: dict[str, Any] = {
        "sendInitialEvents": "true",
        "resourceVersionMatch": "NotOlderThan",
        "allowWatchBookmarks": "true",
    }
    with api.watch(config_maps, **query) as events:
        assert next(events)["type"] == "ADDED"
        bookmark = next(events)
    assert bookmark["type"] == "BOOKMARK"
    assert bookmark["object"]["kind"] == "ConfigMap"
    assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_a_watch_ends_after_its_timeout(api: Api, config_maps: str) -> None:
    started = time.monotonic()
    with api.watch(f"{config_maps}?timeoutSeconds=1") as events:
        assert list(events) == []
    assert 0.5 < time.monotonic() - started < 60  # without one it lasts for half an hour


def test_a_watch_from_a_version_to_come_is_told_so(api: Api, config_maps: str) -> None:
    with api.watch(config_maps, resourceVersion=10**12) as events:
        event = next(events)
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 504
    assert event["object"]["message"].startswith("Timeout: Too large resource version: 1000000000000, current: ")


def test_the_columns_of_a_table_come_once_in_a_watch(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "a"}, "data": {"x": "y"}})
    api.create(config_maps, {"metadata": {"name": "b"}})
    connection = api.open()
    connection.request("GET", f"{config_maps}?watch=1&timeoutSeconds=5", headers={"Accept": TABLE})
    response = connection.getresponse()
    first, second = (json.loads(response.readline())["object"] for _ in range(2))
    connection.close()
    assert [column["name"] for column in first["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert first["rows"][0]["cells"][:2] == ["a", 1]
    assert second["columnDefinitions"] == []
    assert second["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


def test_the_python_client_follows_a_watch(api: Api, namespace: str, config_maps: str) -> None:
    from kubernetes import client, config, watch

    core = client.CoreV1Api(config.new_client_from_config(str(api.kubeconfig)))
    core.create_namespaced_config_map(namespace, client.V1ConfigMap(metadata=client.V1ObjectMeta(name="a")))
    seen = []
    stream = watch.Watch()
    for event in stream.stream(core.list_namespaced_config_map, namespace, timeout_seconds=20):
        seen.append((event["type"], event["object"].metadata.name))
        if len(seen) == 1:
            core.delete_namespaced_config_map("a", namespace)
        else:
            stream.stop()
    assert seen == [("ADDED", "a"), ("DELETED", "a")]
