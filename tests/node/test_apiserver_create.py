"""What a create takes from the client and what it does not, as upstream's kube-apiserver."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.api import MERGE, Api

EVENTS = "/api/v1/namespaces/default/events"
NEW_EVENTS = "/apis/events.k8s.io/v1/namespaces/default/events"
SERVICE = {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}


def config_map(**metadata: Any) -> dict[str, Any]:
    return {"metadata": {"generateName": "a-", **metadata}}


def event(**fields: Any) -> dict[str, Any]:
    return {
        "metadata": {"generateName": "e-"},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"},
        **fields,
    }


@pytest.mark.parametrize("version", ["v1", "0", "-1", "000", "1e3", str(2**64), "9" * 20, "9" * 30, "9" * 5000])
def test_a_version_that_no_object_can_have_means_nothing(api: Api, config_maps: str, version: str) -> None:
    made = api.create(config_maps, config_map(resourceVersion=version))
    assert made["metadata"]["resourceVersion"] not in (version, "")


@pytest.mark.parametrize("version", ["1", "0012", str(2**64 - 1)])
def test_the_version_of_a_stored_object_is_refused(api: Api, config_maps: str, version: str) -> None:
    answer = api.post(config_maps, config_map(resourceVersion=version))
    assert (answer.code, answer.message) == (500, "resourceVersion should not be set on objects to be created")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("uid", "b3d2d4e8-0000-4000-8000-000000000000"),
        ("creationTimestamp", "2001-01-01T00:00:00Z"),
        ("deletionTimestamp", "2001-01-01T00:00:00Z"),
        ("deletionGracePeriodSeconds", 7),
        ("selfLink", "/api/v1/x"),
        ("managedFields", [{"manager": "me", "operation": "Update"}]),
    ],
)
def test_what_the_server_sets_is_not_taken_from_the_client(
    api: Api, config_maps: str, name: str, value: object
) -> None:
    assert api.create(config_maps, config_map(**{name: value}))["metadata"].get(name) != value


def test_a_generation_stays_where_the_kind_does_not_count_its_own(api: Api, config_maps: str) -> None:
    assert api.create(config_maps, config_map(generation=7))["metadata"]["generation"] == 7
    answer = api.post(config_maps, config_map(generation=-1))
    assert answer.message.endswith("metadata.generation: Invalid value: -1: must be greater than or equal to 0")


def test_a_new_node_takes_no_pods_yet(api: Api) -> None:
    for number, given in enumerate(([], [{"key": "a", "effect": "NoExecute"}])):
        node = {"metadata": {"name": f"new-{number}"}, "spec": {"taints": given}}
        taints = api.create("/api/v1/nodes?dryRun=All", node)["spec"]["taints"]
        assert taints == [*given, {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]


def test_a_dry_run_shows_the_address_of_a_service_and_takes_none(api: Api, namespace: str) -> None:
    services = f"/api/v1/namespaces/{namespace}/services"
    shown = api.create(f"{services}?dryRun=All", SERVICE)["spec"]
    assert shown["clusterIPs"] == [shown["clusterIP"]]
    wanted = {**SERVICE, "spec": {**SERVICE["spec"], "clusterIP": shown["clusterIP"]}}  # type: ignore[dict-item]
    assert api.create(services, wanted)["spec"]["clusterIP"] == shown["clusterIP"]


def test_events_of_the_core_group_have_names_that_others_may_not_have(api: Api) -> None:
    made = api.create(f"{EVENTS}?dryRun=All", event(metadata={"name": "Not_Valid!"}))
    assert (made["eventTime"], made["reportingComponent"], made["reportingInstance"]) == (None, "", "")
    answer = api.post(EVENTS, event(metadata={"name": "a/b"}))
    assert answer.message == 'Event "a/b" is invalid: metadata.name: Invalid value: "a/b": may not contain \'/\''
    answer = api.post(EVENTS, event(metadata={"name": "a", "labels": {"x": "not valid"}}))
    assert (answer.code, answer.json["details"]["causes"][0]["field"]) == (422, "metadata.labels")


def test_events_of_the_new_group_are_held_to_its_rules(api: Api) -> None:
    given = {"metadata": {"name": "a"}, "regarding": event()["involvedObject"]}
    answer = api.post(NEW_EVENTS, given)
    fields = [cause["field"] for cause in answer.json["details"]["causes"]]
    assert (answer.code, fields) == (422, ["eventTime", "type"])


def test_a_time_may_not_be_empty(api: Api) -> None:
    answer = api.post(EVENTS, event(firstTimestamp=""))
    assert answer.code == 400
    assert answer.message.endswith('parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006"')


def test_bytes_may_be_a_list_of_numbers(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, {**config_map(), "binaryData": {"a": [104, 105, None], "b": []}})
    assert made["binaryData"] == {"a": "aGkA", "b": ""}
    answer = api.post(config_maps, {**config_map(), "binaryData": {"a": [256]}})
    assert "cannot unmarshal number 256 into Go struct field ConfigMap.binaryData of type uint8" in answer.message


def test_endpoints_are_deprecated_whatever_is_asked(api: Api) -> None:
    text = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    path = "/api/v1/namespaces/default/endpoints"
    for answer in (api.get(path), api.get(f"{path}/nothing"), api.post(path, {"metadata": 7})):
        assert answer.headers.get_all("Warning") == [text]


def test_warnings_about_a_body_come_with_its_refusal(api: Api, config_maps: str) -> None:
    answer = api.post(config_maps, {"metadata": {"name": "Not_Valid!"}, "colour": "red"})
    assert (answer.code, answer.headers.get_all("Warning")) == (422, ['299 - "unknown field \\"colour\\""'])


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("fieldValidation=Perhaps", 'Unsupported value: "Perhaps": supported values: "", "Ignore", "Strict", "Warn"'),
        ("dryRun=Some", 'Unsupported value: ["Some"]: supported values: "All"'),
        ("fieldManager=" + "x" * 129, "Too long: may not be more than 128 bytes"),
        ("fieldManager=a%0Ab", 'Invalid value: "a\\nb": invalid character U+000A (at position 1)'),
    ],
)
def test_wrong_options_are_named_with_their_kind(api: Api, config_maps: str, query: str, message: str) -> None:
    name = query.partition("=")[0]
    for method, path, kind in (
        ("POST", config_maps, "CreateOptions"),
        ("PUT", f"{config_maps}/a", "UpdateOptions"),
        ("PATCH", f"{config_maps}/a", "PatchOptions"),
    ):
        media_type = MERGE if method == "PATCH" else "application/json"
        answer = api.request(method, f"{path}?{query}", {"metadata": {"name": "a"}}, content_type=media_type)
        assert (answer.code, answer.message) == (422, f'{kind}.meta.k8s.io "" is invalid: {name}: {message}')


def test_what_is_no_character_is_replaced(api: Api, config_maps: str) -> None:
    made = api.create(config_maps, b'{"metadata":{"name":"broken"},"data":{"a":"x\xff","b":"\\ud800"}}')
    assert made["data"] == {"a": "x\ufffd", "b": "\ufffd"}
    patched = api.patch(f"{config_maps}/broken", b'{"data":{"c":"\xe4\xb8"}}')
    assert patched.json["data"]["c"] == "\ufffd\ufffd"


def test_json_ends_with_a_newline(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "line"}})
    for path in (config_maps, f"{config_maps}/line", f"{config_maps}/nothing", "/api", "/apis", "/api/v1"):
        raw = api.get(path).raw
        assert raw.endswith(b"}\n")
        assert not raw.endswith(b"\n\n")


def test_a_status_has_the_order_of_upstream(api: Api, config_maps: str) -> None:
    assert list(api.get(f"{config_maps}/nothing").json) == [
        *("kind", "apiVersion", "metadata", "status", "message", "reason", "details", "code")
    ]


def test_a_large_config_map_is_refused_in_upstreams_words(api: Api, config_maps: str) -> None:
    answer = api.post(config_maps, {"metadata": {"name": "large"}, "data": {"a": "x" * ((1 << 20) + 1)}})
    assert answer.message == 'ConfigMap "large" is invalid: []: Too long: may not be more than 1048576 bytes'


def test_server_side_apply_says_that_it_is_missing(api: Api, config_maps: str) -> None:
    for media_type in ("application/apply-patch+yaml", "application/apply-patch+cbor"):
        answer = api.patch(f"{config_maps}/a?fieldManager=me", {"metadata": {"name": "a"}}, media_type)
        assert answer.code == 415
        assert answer.message.startswith("server-side apply is not implemented by Podling yet - accepted media types")


def test_a_service_tells_that_it_carries_no_traffic(api: Api) -> None:
    path = "/api/v1/namespaces/default/services"
    given = {"metadata": {"generateName": "s-"}, "spec": {"ports": [{"port": 80}]}}
    assert api.post(f"{path}?dryRun=All", given).headers.get_all("Warning") is None
    (warning,) = api.post(path, given).headers.get_all("Warning") or [""]
    assert "the Service carries no traffic" in warning
    assert "not implemented by Podling yet" in warning


@pytest.mark.parametrize(
    ("path", "code", "what"),
    [
        ("/apis/apps/v1/namespaces/default/deployments", 404, "deployments.apps"),
        ("/apis/batch/v1/jobs", 404, "jobs.batch"),
        ("/api/v1/persistentvolumes/a", 404, "persistentvolumes"),
        ("/api/v1/namespaces/default/pods/a/exec?command=ls", 501, "pods/exec"),
        ("/api/v1/namespaces/default/pods/a/attach", 501, "pods/attach"),
        ("/api/v1/namespaces/default/pods/a/portforward", 404, "pods/portforward"),
        ("/api/v1/namespaces/default/services/a/proxy", 404, "services/proxy"),
    ],
)
def test_what_is_missing_is_named(api: Api, path: str, code: int, what: str) -> None:
    for method in ("GET", "POST"):
        answer = api.request(method, path, {} if method == "POST" else None)
        assert (answer.code, answer.json["code"]) == (code, code)
        assert answer.message.endswith(f"{what} is not implemented by Podling yet")


@pytest.mark.parametrize(
    "path", ["/apis/apps/v1/namespaces/default/gadgets", "/api/v1/namespaces/default/pods/a/gadget"]
)
def test_what_nobody_has_is_not_found(api: Api, path: str) -> None:
    answer = api.get(path)
    assert (answer.code, answer.message) == (404, "the server could not find the requested resource")
