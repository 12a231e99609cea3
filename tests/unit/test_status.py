"""Field errors and API errors: the texts that people and scripts read."""

from __future__ import annotations

import json

import pytest

from podling.api import codec, field, scheme, status
from podling.api.core.v1 import Pod
from podling.api.field import FieldError, Path
from podling.api.go import human_duration, quote
from podling.api.meta.v1 import LabelSelector
from podling.api.quantity import Quantity

PODS = scheme.by_type(Pod)


def test_paths_name_fields_items_and_keys() -> None:
    path = Path("spec").child("containers").index(0).child("env", "x").key("a.b/c")
    assert path == "spec.containers[0].env.x[a.b/c]"
    assert Path().child("spec") == "spec"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (field.required("spec.x"), "spec.x: Required value"),
        (field.required("spec.x", "or else"), "spec.x: Required value: or else"),
        (field.invalid("a", 'x"y', "is bad"), 'a: Invalid value: "x\\"y": is bad'),
        (field.invalid("a", 5, "is bad"), "a: Invalid value: 5: is bad"),
        (field.invalid("a", True, "is bad"), "a: Invalid value: true: is bad"),
        (field.invalid("a", None, "is bad"), 'a: Invalid value: "null": is bad'),
        (field.invalid("a", Quantity("1024Mi"), "is bad"), 'a: Invalid value: "1Gi": is bad'),
        (field.invalid("a", ["x", "y"], "is bad"), 'a: Invalid value: ["x","y"]: is bad'),
        (
            field.invalid("a", LabelSelector(match_labels={"a": "b"}), "is bad"),
            'a: Invalid value: {"matchLabels":{"a":"b"}}: is bad',
        ),
        (field.not_supported("a", "x", ["y", "z"]), 'a: Unsupported value: "x": supported values: "y", "z"'),
        (field.duplicate("a", "x"), 'a: Duplicate value: "x"'),
        (field.not_found("a", "x"), 'a: Not found: "x"'),
        (field.forbidden("a", "no"), "a: Forbidden: no"),
        (field.too_long("a", 10), "a: Too long: may not be more than 10 bytes"),
        (field.too_long("a", -1), "a: Too long: value is too long"),
        (field.too_many("a", 5, 1), "a: Too many: 5: must have at most 1 item"),
        (field.too_many("a", -1, 3), "a: Too many: must have at most 3 items"),
        (field.internal("a", "oops"), "a: Internal error: oops"),
        (field.invalid("", "x", "is bad"), '<nil>: Invalid value: "x": is bad'),
    ],
)
def test_a_field_error_reads_as_upstreams(error: FieldError, text: str) -> None:
    assert str(error) == text


def test_an_invalid_object_names_all_causes_at_once() -> None:
    errors = [field.required("spec.a"), field.forbidden("spec.b", "no"), field.required("spec.a")]
    error = status.invalid(PODS, "x", errors)
    assert (error.code, error.reason) == (422, "Invalid")
    assert str(error) == 'Pod "x" is invalid: [spec.a: Required value, spec.b: Forbidden: no]'
    assert json.loads(codec.encode(error.status)) == {
        "apiVersion": "v1",
        "kind": "Status",
        "metadata": {},
        "status": "Failure",
        "code": 422,
        "reason": "Invalid",
        "message": str(error),
        "details": {
            "kind": "Pod",
            "name": "x",
            "causes": [
                {"field": "spec.a", "message": "Required value", "reason": "FieldValueRequired"},
                {"field": "spec.b", "message": "Forbidden: no", "reason": "FieldValueForbidden"},
                {"field": "spec.a", "message": "Required value", "reason": "FieldValueRequired"},
            ],
        },
    }
    assert str(status.invalid("Lease.coordination.k8s.io", "x", [errors[0]])) == (
        'Lease.coordination.k8s.io "x" is invalid: spec.a: Required value'
    )


@pytest.mark.parametrize(
    ("error", "code", "reason", "message"),
    [
        (status.not_found(PODS, "x"), 404, "NotFound", 'pods "x" not found'),
        (
            status.not_found("leases.coordination.k8s.io", "x"),
            404,
            "NotFound",
            'leases.coordination.k8s.io "x" not found',
        ),
        (status.no_route(), 404, "NotFound", "the server could not find the requested resource"),
        (status.already_exists(PODS, "x"), 409, "AlreadyExists", 'pods "x" already exists'),
        (
            status.conflict(PODS, "x"),
            409,
            "Conflict",
            'Operation cannot be fulfilled on pods "x": the object has been modified;'
            " please apply your changes to the latest version and try again",
        ),
        (status.unauthorized(), 401, "Unauthorized", "Unauthorized"),
        (status.forbidden(PODS, "x", "no"), 403, "Forbidden", 'pods "x" is forbidden: no'),
        (status.forbidden(PODS, "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (status.forbidden("", "", "no"), 403, "Forbidden", "forbidden: no"),
        (status.expired("too old"), 410, "Expired", "too old"),
        (status.too_old_resource_version(3, 9), 410, "Expired", "too old resource version: 3 (9)"),
        (
            status.too_large_resource_version(9, 3),
            504,
            "Timeout",
            "Timeout: Too large resource version: 9, current: 3",
        ),
        (
            status.method_not_supported(PODS, "patch"),
            405,
            "MethodNotAllowed",
            'patch is not supported on resources of kind "pods"',
        ),
        (
            status.unsupported_media_type(["a/b", "c/d"]),
            415,
            "UnsupportedMediaType",
            "the body of the request was in an unknown format - accepted media types include: a/b, c/d",
        ),
        (status.not_acceptable(["a/b"]), 406, "NotAcceptable", "only the following media types are accepted: a/b"),
        (status.internal("oops"), 500, "InternalError", "Internal error occurred: oops"),
        (
            status.server_timeout(PODS, "create"),
            500,
            "ServerTimeout",
            "The create operation against pods could not be completed at this time, please try again.",
        ),
        (status.too_many_requests("later", 5), 429, "TooManyRequests", "later"),
    ],
)
def test_an_api_error_reads_as_upstreams(error: status.ApiError, code: int, reason: str, message: str) -> None:
    assert (error.code, error.reason, str(error)) == (code, reason, message)


def test_details_name_group_and_resource() -> None:
    details = status.not_found("leases.coordination.k8s.io", "x").status.details
    assert details is not None
    assert (details.group, details.kind, details.name) == ("coordination.k8s.io", "leases", "x")


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ('"\\', '"\\"\\\\"'), ("\n\t\x01", '"\\n\\t\\x01"'), ("é☃", '"é☃"'), ("\u200b", '"\\u200b"')],
)
def test_texts_are_quoted_as_go_quotes_them(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1.5, "0s"),
        (0.9, "0s"),
        (119, "119s"),
        (120, "2m"),
        (303, "5m3s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11100, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600 + 59 * 60, "47h"),
        (48 * 3600, "2d"),
        (50 * 3600, "2d2h"),
        (8 * 86400, "8d"),
        (400 * 86400, "400d"),
        (2 * 365 * 86400, "2y"),
        (800 * 86400, "2y70d"),
        (9 * 365 * 86400, "9y"),
    ],
)
def test_durations_are_rounded_as_kubectl_shows_them(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text
