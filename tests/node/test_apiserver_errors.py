"""What wrong requests are answered with: code, reason and upstream's words. The server survives all of them."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.api import JSON_PATCH, STRATEGIC, Api, pod

APPLY = "application/apply-patch+yaml"


def test_what_is_missing_is_not_found(api: Api, pods: str) -> None:
    answer = api.get(f"{pods}/web")
    assert answer.code == 404
    assert answer.json == {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": 'pods "web" not found',
        "reason": "NotFound",
        "details": {"name": "web", "kind": "pods"},
        "code": 404,
    }


@pytest.mark.parametrize("path", ["/api/v1/bananas", "/apis/apps/v9/deployments", "/api/v1/namespaces/default/nodes"])
def test_unknown_resources_are_not_found(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.code == 404
    assert answer.message == "the server could not find the requested resource"


def test_unknown_paths_are_not_found(api: Api) -> None:
    answer = api.get("/bananas")
    assert (answer.code, answer.raw) == (404, b"404 page not found\n")


def test_objects_in_a_missing_namespace_are_refused(api: Api) -> None:
    answer = api.post("/api/v1/namespaces/nowhere/pods", pod())
    assert answer.code == 404
    assert answer.message == 'namespaces "nowhere" not found'


def test_names_are_taken_once(api: Api, pods: str) -> None:
    api.create(pods, pod())
    answer = api.post(pods, pod())
    assert (answer.code, answer.json["reason"]) == (409, "AlreadyExists")
    assert answer.message == 'pods "web" already exists'


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_a_collection_cannot_be_updated(api: Api, pods: str, method: str) -> None:
    answer = api.request(method, pods, pod())
    assert answer.code == 405
    assert answer.message == "the server does not allow this method on the requested resource"


def test_every_mistake_is_told_at_once(api: Api, pods: str) -> None:
    wrong = pod("Web_1", containers=("main", "main"))
    wrong["spec"]["restartPolicy"] = "Sometimes"
    answer = api.post(pods, wrong)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    causes = {(cause["field"], cause["reason"]) for cause in answer.json["details"]["causes"]}
    assert causes >= {
        ("metadata.name", "FieldValueInvalid"),
        ("spec.containers[1].name", "FieldValueDuplicate"),
        ("spec.restartPolicy", "FieldValueNotSupported"),
    }
    assert answer.message.startswith('Pod "Web_1" is invalid: [')


def test_unknown_fields_are_refused_warned_of_or_ignored(api: Api, pods: str) -> None:
    odd = {**pod(), "colour": "red"}
    strict = api.post(f"{pods}?fieldValidation=Strict&dryRun=All", odd)
    assert strict.code == 400
    assert strict.message == (
        'Pod in version "v1" cannot be handled as a Pod: strict decoding error: unknown field "colour"'
    )
    warned = api.post(f"{pods}?fieldValidation=Warn&dryRun=All", odd)
    assert warned.code == 201
    assert warned.headers.get_all("Warning") == ['299 - "unknown field \\"colour\\""']
    ignored = api.post(f"{pods}?fieldValidation=Ignore&dryRun=All", odd)
    assert ignored.code == 201
    assert ignored.headers.get_all("Warning") is None
    assert api.post(f"{pods}?fieldValidation=Perhaps", odd).code == 422


def test_duplicate_fields_are_refused_when_strict(api: Api, config_maps: str) -> None:
    text = '{"metadata":{"name":"a"},"data":{"x":"1"},"data":{"x":"2"}}'
    answer = api.post(f"{config_maps}?fieldValidation=Strict", text)
    assert answer.code == 400
    assert 'duplicate field "data"' in answer.message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a"}}, "cannot be handled as a Pod"),
        ({"apiVersion": "v7", "kind": "Pod"}, "the API version in the data (v7) does not match the expected"),
        ("{", "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; json parse error"),
        ("[]", "json: cannot unmarshal array into Go value of type"),
        ("\x00\xff", "the object provided is unrecognized (must be of type Pod)"),
        ({"kind": 5}, "json: cannot unmarshal number into Go struct field TypeMeta.kind of type string"),
        ({"spec": {"containers": {"name": "main"}}}, "json: cannot unmarshal object into Go struct field"),
        ({"metadata": "web"}, "json: cannot unmarshal string into Go struct field"),
        ({"spec": {"containers": [{"name": "a", "resources": {"limits": {"cpu": "lots"}}}]}}, "quantities must match"),
    ],
)
def test_bodies_that_are_no_pod_are_bad_requests(api: Api, pods: str, body: Any, message: str) -> None:
    answer = api.post(pods, body)
    assert (answer.code, answer.json["reason"]) == (400, "BadRequest")
    assert message in answer.message


def test_deep_nesting_is_a_bad_request(api: Api, pods: str) -> None:
    assert api.post(pods, '{"spec":' * 50_000 + "1" + "}" * 50_000).code == 400
    assert api.post(pods, "[" * 100_000).code == 400


def test_bodies_over_three_megabytes_are_too_large(api: Api, config_maps: str) -> None:
    answer = api.post(config_maps, b" " * (3 << 20) + b"x")
    assert (answer.code, answer.json["reason"]) == (413, "RequestEntityTooLarge")
    assert answer.message == "Request entity is too large: limit is 3145728"


def test_unknown_media_types_are_refused(api: Api, pods: str) -> None:
    for media_type in ("text/plain", "application/cbor", "application/x-www-form-urlencoded"):
        answer = api.post(pods, pod(), content_type=media_type)
        assert (answer.code, answer.json["reason"]) == (415, "UnsupportedMediaType")


def test_protobuf_is_read_and_never_written(api: Api, pods: str) -> None:
    broken = api.post(pods, b"k8s\x00\x07", content_type="application/vnd.kubernetes.protobuf")
    assert (broken.code, broken.json["reason"]) == (400, "BadRequest")
    only = api.get(pods, headers={"Accept": "application/vnd.kubernetes.protobuf"})
    assert (only.code, only.json["reason"]) == (406, "NotAcceptable")
    either = api.get(pods, headers={"Accept": "application/vnd.kubernetes.protobuf,application/json"})
    assert either.code == 200


def test_server_side_apply_is_an_unsupported_media_type(api: Api, pods: str) -> None:
    answer = api.patch(f"{pods}/web", "{}", APPLY)
    assert answer.code == 415
    assert "application/strategic-merge-patch+json" in answer.message


def test_patches_keep_to_their_kind(api: Api, pods: str) -> None:
    api.create(pods, pod(containers=("a", "b")))
    image = {"spec": {"containers": [{"name": "b", "image": "nginx:2"}]}}
    merged = api.patch(f"{pods}/web", image, STRATEGIC).json
    assert [item["image"] for item in merged["spec"]["containers"]] == ["nginx:1.27", "nginx:2"]
    replaced = api.patch(f"{pods}/web", image)
    assert replaced.code == 422
    assert "spec.containers: Forbidden: pod updates may not add or remove containers" in replaced.message
    moved = api.patch(f"{pods}/web", [{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}], JSON_PATCH)
    assert moved.json["metadata"]["labels"] == {"a": "b"}
    unmet = api.patch(f"{pods}/web", [{"op": "test", "path": "/metadata/labels/a", "value": "c"}], JSON_PATCH)
    assert unmet.code == 422
    assert api.patch(f"{pods}/web", [{"op": "fly", "path": "/metadata"}], JSON_PATCH).code == 400
    assert api.patch(f"{pods}/web", "{", JSON_PATCH).code == 400
    outdated = api.patch(f"{pods}/web", {"metadata": {"resourceVersion": "1", "labels": {"a": "z"}}})
    assert outdated.code == 409


def test_a_pod_without_its_service_account_is_refused(api: Api, pods: str, namespace: str) -> None:
    answer = api.post(pods, pod(serviceAccountName="robot"))
    assert answer.code == 403
    assert answer.message == (
        f'pods "web" is forbidden: error looking up service account {namespace}/robot: serviceaccount "robot" not found'
    )


def test_pull_secrets_come_from_the_service_account(api: Api, pods: str, namespace: str) -> None:
    account = {"metadata": {"name": "puller"}, "imagePullSecrets": [{"name": "registry"}]}
    api.create(f"/api/v1/namespaces/{namespace}/serviceaccounts", account)
    made = api.create(pods, pod(serviceAccountName="puller"))
    assert made["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    own = api.create(pods, pod("own", serviceAccountName="puller", imagePullSecrets=[{"name": "mine"}]))
    assert own["spec"]["imagePullSecrets"] == [{"name": "mine"}]


def test_priorities_come_from_system_classes_only(api: Api, pods: str) -> None:
    made = api.create(pods, pod(priorityClassName="system-node-critical"))
    assert made["spec"]["priority"] == 2000001000
    unknown = api.post(pods, pod("b", priorityClassName="vip"))
    assert unknown.code == 403
    assert unknown.message == 'pods "b" is forbidden: no PriorityClass with name vip was found'
    assert api.post(pods, pod("c", priority=5)).code == 403


def test_of_many_warnings_the_first_are_sent(api: Api, pods: str) -> None:
    wrong = {**pod(), **{f"unknown{number:03}": 1 for number in range(300)}}
    answer = api.post(f"{pods}?fieldValidation=Warn&dryRun=All", wrong)
    assert answer.code == 201
    warnings = answer.headers.get_all("Warning") or []
    assert warnings[0] == '299 - "unknown field \\"unknown000\\""'
    assert 50 < len(warnings) < 80
    assert sum(map(len, warnings)) < 8192
