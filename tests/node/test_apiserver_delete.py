"""Deletion: at once, gracefully, when finalizers are gone; preconditions; collections; namespaces."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.support.api import Api, pod


@pytest.fixture
def running(api: Api, pods: str) -> str:
    """The path of a Pod that is bound to a node, so that it is deleted gracefully."""
    api.create(pods, pod("web", terminationGracePeriodSeconds=20))
    assert api.post(f"{pods}/web/binding", {"target": {"kind": "Node", "name": "n1"}}).code == 201
    return f"{pods}/web"


def _left(metadata: dict[str, Any]) -> float:
    """Seconds until the deletion timestamp."""
    return (datetime.fromisoformat(metadata["deletionTimestamp"]) - datetime.now(UTC)).total_seconds()


def test_an_unscheduled_pod_goes_at_once(api: Api, pods: str) -> None:
    api.create(pods, pod())
    answer = api.delete(f"{pods}/web")
    assert answer.code == 200
    assert answer.json["kind"] == "Pod"
    assert api.get(f"{pods}/web").code == 404


def test_a_running_pod_gets_its_grace_period(api: Api, running: str) -> None:
    metadata = api.delete(running).json["metadata"]
    assert metadata["deletionGracePeriodSeconds"] == 20
    assert 15 < _left(metadata) <= 20
    assert metadata["generation"] == 2
    assert api.get(running).json["metadata"]["deletionTimestamp"] == metadata["deletionTimestamp"]


def test_a_grace_period_can_be_shortened_and_not_lengthened(api: Api, running: str) -> None:
    api.delete(running)
    shorter = api.delete(running, {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 5})
    assert shorter.json["metadata"]["deletionGracePeriodSeconds"] == 5
    assert 0 < _left(shorter.json["metadata"]) <= 5
    assert api.delete(f"{running}?gracePeriodSeconds=60").json["metadata"]["deletionGracePeriodSeconds"] == 5
    assert api.delete(running).json["metadata"]["deletionGracePeriodSeconds"] == 5


def test_a_grace_period_of_zero_deletes_at_once(api: Api, running: str) -> None:
    api.delete(running)
    assert api.delete(f"{running}?gracePeriodSeconds=0").code == 200
    assert api.get(running).code == 404


def test_a_finished_pod_goes_at_once(api: Api, running: str) -> None:
    api.patch(f"{running}/status", {"status": {"phase": "Succeeded"}})
    assert api.delete(running).code == 200
    assert api.get(running).code == 404


def test_deletion_is_refused_for_another_uid_or_version(api: Api, running: str) -> None:
    metadata = api.get(running).json["metadata"]
    other = api.delete(running, {"preconditions": {"uid": "other"}})
    assert other.code == 409
    assert other.message == (
        'Operation cannot be fulfilled on Pod "web": the UID in the precondition (other) does not match the UID in '
        f"record ({metadata['uid']}). The object might have been deleted and then recreated"
    )
    assert api.delete(running, {"preconditions": {"resourceVersion": "1"}}).code == 409
    right = {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]}
    assert api.delete(running, {"preconditions": right, "gracePeriodSeconds": 0}).code == 200


def test_finalizers_hold_an_object_until_they_are_taken_out(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c", "finalizers": ["example.com/hold"]}})
    held = api.delete(f"{config_maps}/c").json
    assert held["metadata"]["deletionTimestamp"]
    assert held["metadata"]["deletionGracePeriodSeconds"] == 0
    again = api.delete(f"{config_maps}/c").json
    assert again["metadata"]["resourceVersion"] == held["metadata"]["resourceVersion"]
    with api.watch(config_maps, resourceVersion=held["metadata"]["resourceVersion"]) as events:
        api.patch(f"{config_maps}/c", {"metadata": {"finalizers": None}})
        assert next(events)["type"] == "DELETED"
    assert api.get(f"{config_maps}/c").code == 404


def test_a_pod_with_finalizers_outlives_its_grace_period(api: Api, running: str) -> None:
    api.patch(running, {"metadata": {"finalizers": ["example.com/hold"]}})
    assert api.delete(f"{running}?gracePeriodSeconds=0").json["metadata"]["deletionGracePeriodSeconds"] == 0
    assert api.get(running).code == 200
    api.patch(running, {"metadata": {"finalizers": []}})
    assert api.get(running).code == 404


@pytest.mark.parametrize(("policy", "finalizer"), [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")])
def test_propagation_policies_leave_their_finalizer(api: Api, config_maps: str, policy: str, finalizer: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    held = api.delete(f"{config_maps}/c", {"propagationPolicy": policy}).json
    assert held["metadata"]["finalizers"] == [finalizer]
    assert held["metadata"]["deletionTimestamp"]


def test_what_is_deleted_at_once_is_answered_with_a_status(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}})
    answer = api.delete(f"{config_maps}/c").json
    assert answer["status"] == "Success"
    assert answer["details"] == {"name": "c", "kind": "configmaps", "uid": made["metadata"]["uid"]}


def test_a_collection_is_deleted_by_selector(api: Api, config_maps: str) -> None:
    for name, colour in (("a", "red"), ("b", "blue"), ("c", "red")):
        api.create(config_maps, {"metadata": {"name": name, "labels": {"colour": colour}}})
    answer = api.delete(f"{config_maps}?labelSelector=colour%3Dred").json
    assert answer["kind"] == "ConfigMapList"
    assert sorted(item["metadata"]["name"] for item in answer["items"]) == ["a", "c"]
    assert [item["metadata"]["name"] for item in api.get(config_maps).json["items"]] == ["b"]


def test_a_namespace_terminates_until_it_is_finalized(api: Api, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}"
    terminating = api.delete(path).json
    assert terminating["status"]["phase"] == "Terminating"
    refused = api.post(f"{path}/configmaps", {"metadata": {"name": "late"}})
    assert refused.code == 403
    assert refused.message == (
        f'configmaps "late" is forbidden: unable to create new content in namespace {namespace} '
        "because it is being terminated"
    )
    assert refused.json["details"]["causes"] == [
        {
            "reason": "NamespaceTerminating",
            "message": f"namespace {namespace} is being terminated",
            "field": "metadata.namespace",
        }
    ]
    assert api.put(f"{path}/finalize", {**terminating, "spec": {"finalizers": []}}).code == 200
    assert api.get(path).code == 404


def test_the_system_namespaces_stay(api: Api) -> None:
    for name in ("default", "kube-system", "kube-public"):
        answer = api.delete(f"/api/v1/namespaces/{name}")
        assert answer.code == 403
        assert answer.message == f'namespaces "{name}" is forbidden: this namespace may not be deleted'
    assert api.delete("/api/v1/namespaces").code == 405


def test_wrong_delete_options_are_refused(api: Api, running: str) -> None:
    assert api.delete(f"{running}?gracePeriodSeconds=soon").code == 400
    policy = api.delete(running, {"propagationPolicy": "Sideways"})
    assert policy.code == 422
    assert api.delete(running, {"propagationPolicy": "Orphan", "orphanDependents": True}).code == 422
    assert "deletionTimestamp" not in api.get(running).json["metadata"]


def test_of_racing_deletions_exactly_one_deletes(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: api.delete(f"{config_maps}/c").code, range(8)))
    assert sorted(codes) == [200, *[404] * 7]
