"""Creating, reading and updating objects over HTTP."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

from tests.support.api import Api, pod


def test_create_fills_in_what_the_system_owns(api: Api, pods: str) -> None:
    sent = pod(metadata={"uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7})
    made = api.create(pods, {**sent, "status": {"phase": "Running"}})
    metadata = made["metadata"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", metadata["uid"])
    assert metadata["creationTimestamp"].startswith("20")
    assert not metadata["creationTimestamp"].startswith("2001")
    assert metadata["generation"] == 1
    assert made["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    assert api.get(f"{pods}/web").json == made


def test_defaults_and_admission_show_in_a_created_pod(api: Api, pods: str) -> None:
    spec = api.create(pods, pod())["spec"]
    assert spec["serviceAccountName"] == spec["serviceAccount"] == "default"
    assert spec["priority"] == 0
    assert spec["terminationGracePeriodSeconds"] == 30
    hasty = api.create(pods, pod("hasty", terminationGracePeriodSeconds=-1))
    assert hasty["spec"]["terminationGracePeriodSeconds"] == 1
    assert {toleration["key"] for toleration in spec["tolerations"]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    }


def test_generate_name_makes_different_names(api: Api, config_maps: str) -> None:
    names = {api.create(config_maps, {"metadata": {"generateName": "x-"}})["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(re.fullmatch("x-[bcdfghjklmnpqrstvwxz2456789]{5}", name) for name in names)


def test_a_dry_run_shows_the_object_and_stores_nothing(api: Api, pods: str) -> None:
    answer = api.post(f"{pods}?dryRun=All", pod())
    assert answer.code == 201
    assert answer.json["metadata"]["uid"]
    assert "resourceVersion" not in answer.json["metadata"]
    assert api.get(f"{pods}/web").code == 404
    api.create(pods, pod())
    assert api.post(f"{pods}?dryRun=All", pod()).code == 409
    assert api.patch(f"{pods}/web?dryRun=All", {"metadata": {"labels": {"a": "b"}}}).json["metadata"]["labels"] == {
        "a": "b"
    }
    assert api.delete(f"{pods}/web?dryRun=All").code == 200
    assert "labels" not in api.get(f"{pods}/web").json["metadata"]


def test_an_update_of_an_outdated_version_conflicts(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    newer = api.put(f"{config_maps}/c", {**made, "data": {"a": "2"}})
    assert newer.code == 200
    answer = api.put(f"{config_maps}/c", {**made, "data": {"a": "3"}})
    assert answer.code == 409
    assert answer.json["reason"] == "Conflict"
    assert answer.message == (
        'Operation cannot be fulfilled on configmaps "c": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_an_update_without_a_version_is_unconditional(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    answer = api.put(f"{config_maps}/c", {"metadata": {"name": "c"}, "data": {"a": "2"}})
    assert answer.code == 200
    assert answer.json["metadata"]["uid"] == made["metadata"]["uid"]
    assert answer.json["metadata"]["creationTimestamp"] == made["metadata"]["creationTimestamp"]


def test_an_update_that_changes_nothing_writes_nothing(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}, "data": {"a": "1"}})
    assert api.put(f"{config_maps}/c", made).json == made
    assert api.patch(f"{config_maps}/c", {"data": {"a": "1"}}).json == made


def test_generation_counts_changes_of_the_spec_only(api: Api, pods: str) -> None:
    api.create(pods, pod())
    labelled = api.patch(f"{pods}/web", {"metadata": {"labels": {"a": "b"}}}).json
    assert labelled["metadata"]["generation"] == 1
    changed = api.patch(f"{pods}/web", {"spec": {"activeDeadlineSeconds": 60}}).json
    assert changed["metadata"]["generation"] == 2


def test_status_and_spec_change_only_through_their_own_endpoints(api: Api, pods: str) -> None:
    api.create(pods, pod())
    main = api.patch(f"{pods}/web", {"status": {"phase": "Failed"}})
    assert main.json["status"]["phase"] == "Pending"
    status = api.patch(f"{pods}/web/status", {"status": {"phase": "Running"}, "spec": {"nodeName": "elsewhere"}})
    assert status.json["status"]["phase"] == "Running"
    assert "nodeName" not in status.json["spec"]


def test_the_name_and_namespace_of_an_object_must_be_those_of_the_path(api: Api, pods: str, namespace: str) -> None:
    made = api.create(pods, pod())
    wrong_name = api.put(f"{pods}/other", made)
    assert wrong_name.code == 400
    assert wrong_name.message == "the name of the object (web) does not match the name on the URL (other)"
    wrong_namespace = api.post(pods, pod("b", metadata={"namespace": "default"}))
    assert wrong_namespace.code == 400
    assert wrong_namespace.message == (
        "the namespace of the provided object does not match the namespace sent on the request"
    )


def test_put_creates_leases_and_no_pods(api: Api, namespace: str, pods: str) -> None:
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/n"
    lease = {"metadata": {"name": "n"}, "spec": {"holderIdentity": "n", "leaseDurationSeconds": 40}}
    assert api.put(path, lease).code == 201
    assert api.put(path, lease).code == 200
    assert api.put(f"{pods}/web", pod()).code == 404


def test_of_racing_updates_of_one_version_exactly_one_wins(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}})
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda i: api.put(f"{config_maps}/c", {**made, "data": {"i": str(i)}}).code, range(16))
    assert sorted(answers) == [200, *[409] * 15]


def test_racing_patches_all_win(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda i: api.patch(f"{config_maps}/c", {"data": {f"k{i}": "v"}}).code, range(16))
    assert set(answers) == {200}
    assert len(api.get(f"{config_maps}/c").json["data"]) == 16


def test_string_data_of_a_secret_becomes_data(api: Api, namespace: str) -> None:
    made = api.create(f"/api/v1/namespaces/{namespace}/secrets", {"metadata": {"name": "s"}, "stringData": {"a": "b"}})
    assert made["data"] == {"a": "Yg=="}
    assert "stringData" not in made


def test_yaml_is_read_and_written(api: Api, config_maps: str) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: y}\ndata: {when: 2020-01-01, on: 'yes'}\n"
    made = api.post(config_maps, text, content_type="application/yaml")
    assert made.code == 201, made.raw
    assert made.json["data"] == {"when": "2020-01-01", "true": "yes"}
    shown = api.get(f"{config_maps}/y", headers={"Accept": "application/yaml"})
    assert shown.headers["Content-Type"] == "application/yaml"
    assert b"when: '2020-01-01'" in shown.raw


def test_both_event_apis_show_the_same_events(api: Api, namespace: str) -> None:
    old, new = f"/api/v1/namespaces/{namespace}/events", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events"
    made = api.create(
        old,
        {
            "metadata": {"name": "e"},
            "involvedObject": {"kind": "Pod", "namespace": namespace, "name": "web"},
            "reason": "Started",
            "message": "said",
            "type": "Normal",
            "count": 3,
            "source": {"component": "kubelet"},
        },
    )
    shown = api.get(f"{new}/e").json
    assert shown["apiVersion"] == "events.k8s.io/v1"
    assert (shown["note"], shown["deprecatedCount"], shown["regarding"]["name"]) == ("said", 3, "web")
    assert api.patch(f"{new}/e", {"deprecatedCount": 4}).message.endswith("count: Invalid value: 4: field is immutable")
    assert api.patch(f"{old}/e", {"count": 4}).code == 200
    assert api.get(f"{new}/e").json["deprecatedCount"] == 4
    assert made["metadata"]["uid"] == shown["metadata"]["uid"]
