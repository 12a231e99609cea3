"""The options of create, update, patch and delete: what each may be, and what upstream says of all else.

Source: the API reference of Kubernetes 1.36 (common parameters, DeleteOptions) and, for the texts, the validations of
k8s.io/apimachinery/pkg/apis/meta/v1 and the conversions of k8s.io/apimachinery/pkg/runtime.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.answers import Row, rows, told
from tests.support.api import JSON_PATCH, MERGE, STRATEGIC, Api, pod

LONG = "fieldManager: Too long: may not be more than 128 bytes"
DRY_RUN = 'dryRun: Unsupported value: {}: supported values: "All"'
DRY_RUN_X = DRY_RUN.format('["x"]')
VALIDATION = 'fieldValidation: Unsupported value: "{}": supported values: "", "Ignore", "Strict", "Warn"'
MANAGER = 'fieldManager: Invalid value: "{}": invalid character {} (at position {})'
CONTROLS = "a\\nb\\x7f"
FORCE = "force: Forbidden: may not be specified for non-apply patch"
POLICY = 'propagationPolicy: Unsupported value: "{}": supported values: "Foreground", "Background", "Orphan", "nil"'
BOTH = 'propagationPolicy: Invalid value: "{}": orphanDependents and deletionPropagation cannot be both set'
NUMBER = 'strconv.ParseInt: parsing "{}": {}'
SYNTAX, RANGE = "invalid syntax", "value out of range"
CREATE, UPDATE, PATCH, DELETE = (
    f'{name}Options.meta.k8s.io "" is invalid: ' for name in ("Create", "Update", "Patch", "Delete")
)

CONFLICT = "Operation cannot be fulfilled on"

OF_WRITES = (
    ("dryRun=All", ""),
    ("dryRun=All&dryRun=All", ""),
    ("dryRun=", DRY_RUN.format('[""]')),
    ("dryRun=all", DRY_RUN.format('["all"]')),
    ("dryRun=All&dryRun=x", DRY_RUN.format('["All","x"]')),
    ("fieldManager=&dryRun=All", ""),
    (f"fieldManager={'m' * 128}&dryRun=All", ""),
    (f"fieldManager={'m' * 129}", LONG),
    (f"fieldManager={'%C3%A9' * 64}&dryRun=All", ""),
    (f"fieldManager={'%C3%A9' * 64}x", LONG),
    (f"fieldManager=a&fieldManager={'m' * 129}&dryRun=All", ""),
    ("fieldManager=%00", MANAGER.format("\\x00", "U+0000", 0)),
    ("fieldManager=%C3%A9%E2%80%8B", MANAGER.format("é\\u200b", "U+200B", 2)),
    ("fieldManager=a%0Ab%7F", f"[{MANAGER.format(CONTROLS, 'U+000A', 1)}, {MANAGER.format(CONTROLS, 'U+007F', 3)}]"),
    ("fieldManager=a%FFb&dryRun=All", ""),
    ("fieldManager=a%FF%0A", MANAGER.format("a\\xff\\n", "U+000A", 2)),
    (f"fieldManager={'%FF' * 129}", LONG),
    ("fieldValidation=&dryRun=All", ""),
    ("fieldValidation=Strict&dryRun=All", ""),
    ("fieldValidation=Warn&dryRun=All", ""),
    ("fieldValidation=Ignore&dryRun=All", ""),
    ("fieldValidation=strict", VALIDATION.format("strict")),
    ("fieldValidation=%FF", VALIDATION.format("\\xff")),
    ("fieldValidation=Warn&fieldValidation=x&dryRun=All", ""),
    (
        f"fieldManager={'m' * 129}&dryRun=x&fieldValidation=y",
        f"[{LONG}, {DRY_RUN_X}, {VALIDATION.format('y')}]",
    ),
    ("pretty=x&dryRun=All", ""),
)


def _row(kind: str, query: str, problem: str, *, code: int = 200) -> Row:
    return Row(query, 422, f"{kind}{problem}") if problem else Row(query, code)


@rows(*(_row(CREATE, *each, code=201) for each in OF_WRITES), Row("force=true&dryRun=All", 201))
def test_create(api: Api, config_maps: str, row: Row) -> None:
    assert told(api.post(f"{config_maps}?{row.query}", {"metadata": {"name": "c"}})) == row.answer


@rows(*(_row(UPDATE, *each) for each in OF_WRITES), Row("force=true&dryRun=All"))
def test_update(api: Api, config_maps: str, row: Row) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    assert told(api.put(f"{config_maps}/c?{row.query}", {"metadata": {"name": "c"}})) == row.answer


@rows(
    *(_row(PATCH, *each) for each in OF_WRITES),
    *(_row(PATCH, f"force{value}", FORCE) for value in ("", "=", "=true", "=false", "=x")),
    Row("force=true&dryRun=x", 422, f"{PATCH}[{FORCE}, {DRY_RUN_X}]"),
)
@pytest.mark.parametrize(("content_type", "patch"), [(MERGE, {}), (STRATEGIC, {}), (JSON_PATCH, [])])
def test_patch(api: Api, config_maps: str, row: Row, content_type: str, patch: Any) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    assert told(api.patch(f"{config_maps}/c?{row.query}", patch, content_type)) == row.answer


OF_DELETIONS = (
    Row("dryRun=All"),
    Row("dryRun=All&dryRun=All"),
    Row("dryRun=", 422, DELETE + DRY_RUN.format('[""]')),
    Row("dryRun=All&dryRun=x", 422, DELETE + DRY_RUN.format('["All","x"]')),
    Row("gracePeriodSeconds=0&dryRun=All"),
    Row("gracePeriodSeconds=-1&dryRun=All"),
    Row("gracePeriodSeconds=9223372036854775807&dryRun=All"),
    Row("gracePeriodSeconds=1&gracePeriodSeconds=x&dryRun=All"),
    Row("gracePeriodSeconds=", 400, NUMBER.format("", SYNTAX)),
    Row("gracePeriodSeconds=x", 400, NUMBER.format("x", SYNTAX)),
    Row("gracePeriodSeconds=1.5", 400, NUMBER.format("1.5", SYNTAX)),
    Row("gracePeriodSeconds=9223372036854775808", 400, NUMBER.format("9223372036854775808", RANGE)),
    Row("gracePeriodSeconds=%FF", 400, NUMBER.format("\\xff", SYNTAX)),
    Row("gracePeriodSeconds=x&propagationPolicy=y", 400, NUMBER.format("x", SYNTAX)),
    Row("propagationPolicy=Foreground&dryRun=All"),
    Row("propagationPolicy=Background&dryRun=All"),
    Row("propagationPolicy=Orphan&dryRun=All"),
    Row("propagationPolicy=Orphan&propagationPolicy=x&dryRun=All"),
    Row("propagationPolicy=", 422, DELETE + POLICY.format("")),
    Row("propagationPolicy=orphan", 422, DELETE + POLICY.format("orphan")),
    Row("propagationPolicy=%FF", 422, DELETE + POLICY.format("\\xff")),
    Row("orphanDependents=&dryRun=All"),
    Row("orphanDependents=x&dryRun=All"),
    Row("orphanDependents=false&dryRun=All"),
    Row("orphanDependents=true&propagationPolicy=Orphan", 422, DELETE + BOTH.format("Orphan")),
    Row("orphanDependents=0&propagationPolicy=Background", 422, DELETE + BOTH.format("Background")),
    Row("orphanDependents&propagationPolicy=x", 422, f"{DELETE}[{BOTH.format('x')}, {POLICY.format('x')}]"),
    Row(
        "dryRun=x&orphanDependents=true&propagationPolicy=Orphan",
        422,
        f"{DELETE}[{BOTH.format('Orphan')}, {DRY_RUN_X}]",
    ),
    # Ignored, as upstream does unless its gate AllowUnsafeMalformedObjectDeletion is on.
    Row("ignoreStoreReadErrorWithClusterBreakingPotential=true&dryRun=All"),
    Row("ignoreStoreReadErrorWithClusterBreakingPotential=true&gracePeriodSeconds=0&dryRun=All"),
    Row("timeout=x", 400, 'invalid timeout specified in the request URL - time: invalid duration "x"'),
)


@rows(*OF_DELETIONS)
@pytest.mark.parametrize("name", ["/c", ""], ids=["one", "collection"])
def test_delete_by_query(api: Api, config_maps: str, row: Row, name: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    assert told(api.delete(f"{config_maps}{name}?{row.query}")) == row.answer
    assert "deletionTimestamp" not in api.get(f"{config_maps}/c").json["metadata"]


UNREADABLE = 'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: json: cannot unmarshal '
BODIES = (
    ({"dryRun": ["All"]}, 200, ""),
    ({"dryRun": ["All"], "kind": "DeleteOptions", "apiVersion": "v1"}, 200, ""),
    ({"dryRun": ["All"], "kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}, 200, ""),
    ({"dryRun": ["All"], "kind": "DeleteOptions", "apiVersion": "apps/v1"}, 200, ""),
    ({"dryRun": ["All"], "unknown": 1}, 200, ""),
    ({"dryRun": ["All"], "preconditions": {}}, 200, ""),
    ({"dryRun": ["All"], "gracePeriodSeconds": -1}, 200, ""),
    ({"dryRun": ["All"], "gracePeriodSeconds": None, "orphanDependents": None, "propagationPolicy": None}, 200, ""),
    ({"dryRun": ["All"], "ignoreStoreReadErrorWithClusterBreakingPotential": True}, 200, ""),
    ({"dryRun": ["x"]}, 422, DELETE + DRY_RUN.format('["x"]')),
    ({"dryRun": "All"}, 400, f"{UNREADABLE}string into Go struct field DeleteOptions.dryRun of type []string"),
    (
        {"gracePeriodSeconds": "0"},
        400,
        f"{UNREADABLE}string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
    ),
    (
        {"gracePeriodSeconds": 2**63},
        400,
        f"{UNREADABLE}number 9223372036854775808 into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
    ),
    ({"propagationPolicy": ""}, 422, DELETE + POLICY.format("")),
    ({"propagationPolicy": "x"}, 422, DELETE + POLICY.format("x")),
    ({"propagationPolicy": "Orphan", "orphanDependents": False}, 422, DELETE + BOTH.format("Orphan")),
    (pod(), 400, 'Pod in version "v1" cannot be handled as a DeleteOptions: unknown conversion'),
    ("{", 400, "couldn't get version/kind; json parse error: unexpected end of JSON input"),
)


@pytest.mark.parametrize(("body", "code", "message"), BODIES, ids=[json.dumps(each[0])[:60] for each in BODIES])
@pytest.mark.parametrize("name", ["/c", ""], ids=["one", "collection"])
def test_delete_by_body(api: Api, config_maps: str, name: str, body: Any, code: int, message: str) -> None:
    api.create(config_maps, {"metadata": {"name": "c"}})
    # A body counts alone: what the query says beside it is not even read.
    answer = told(api.delete(f"{config_maps}{name}?propagationPolicy=x&gracePeriodSeconds=y", body))
    assert answer == Row("", code, message).answer
    assert "deletionTimestamp" not in api.get(f"{config_maps}/c").json["metadata"]


@pytest.mark.parametrize("name", ["/c", ""], ids=["one", "collection"])
def test_preconditions_of_a_query(api: Api, config_maps: str, name: str) -> None:
    made = api.create(config_maps, {"metadata": {"name": "c"}})["metadata"]
    uid, version = made["uid"], made["resourceVersion"]
    assert told(api.delete(f"{config_maps}{name}?uid=x&resourceVersion=1")) == (
        409,
        "Conflict",
        f'{CONFLICT} ConfigMap "c": the UID in the precondition (x) does not match the UID in record ({uid}). '
        "The object might have been deleted and then recreated",
    )
    assert told(api.delete(f"{config_maps}{name}?resourceVersion=1")) == (
        409,
        "Conflict",
        f'{CONFLICT} ConfigMap "c": the ResourceVersion in the precondition (1) does not match the ResourceVersion in '
        f"record ({version}). The object might have been modified",
    )
    right = api.delete(f"{config_maps}{name}?uid={uid}&resourceVersion={version}")
    assert right.code == 200
    assert api.get(f"{config_maps}/c").code == 404


def test_preconditions_of_a_namespace(api: Api, namespace: str) -> None:
    metadata = api.get(f"/api/v1/namespaces/{namespace}").json["metadata"]
    for what, query, found in (("UID", "uid", "uid"), ("ResourceVersion", "resourceVersion", "resourceVersion")):
        assert told(api.delete(f"/api/v1/namespaces/{namespace}?{query}=1")) == (
            409,
            "Conflict",
            f'{CONFLICT} namespaces "{namespace}": Precondition failed: {what} in precondition: 1, '
            f"{what} in object meta: {metadata[found]}",
        )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"propagationPolicy": "x"}, POLICY.format("x")),
        ({"dryRun": ["x"]}, DRY_RUN_X),
        ({"propagationPolicy": "Orphan", "orphanDependents": True}, BOTH.format("Orphan")),
    ],
)
def test_evictions_refuse_what_deletions_refuse(api: Api, pods: str, options: Any, message: str) -> None:
    api.create(pods, pod())
    eviction = {"metadata": {"name": "web"}, "deleteOptions": options}
    assert told(api.post(f"{pods}/web/eviction", eviction)) == (422, "Invalid", DELETE + message)
    assert api.get(f"{pods}/web").code == 200


YAML = (
    (b"a: \xff\n", "invalid leading UTF-8 octet", "613a20ff0a"),
    (b"\x80", "invalid leading UTF-8 octet", "80"),
    (b"a: \xc3\n", "invalid trailing UTF-8 octet", "613a20c30a"),
    (b"a: \xc3", "incomplete UTF-8 octet sequence", "613a20c3"),
    (b"a: \xed\xa0\x80", "invalid Unicode character", "613a20eda080"),
    (b"a: \xc0\x80", "invalid length of a UTF-8 sequence", "613a20c080"),
    (b"a: \x01", "control characters are not allowed", "613a2001"),
    (b"a: b: c", "mapping values are not allowed in this context", "613a20623a2063"),
    (b"x: 1\n a: 2", "line 2: mapping values are not allowed in this context", "783a20310a20613a2032"),
    (b"{a: 1", "line 1: did not find expected ',' or '}'", "{a: 1"),
    (b"\ta: 1", "found character that cannot start any token", "09613a2031"),
    (b"a: " + b"x" * 30 + b"\xff", "invalid leading UTF-8 octet", "613a20" + "78" * 27 + " ..."),
)


@pytest.mark.parametrize(("body", "problem", "shown"), YAML)
def test_broken_yaml(api: Api, config_maps: str, body: bytes, problem: str, shown: str) -> None:
    text = f"error converting YAML to JSON: yaml: {problem}"
    answer = told(api.post(config_maps, body, content_type="application/yaml"))
    refusal = f"the object provided is unrecognized (must be of type ConfigMap): {text} ({shown})"
    assert answer == (400, "BadRequest", refusal)
    assert told(api.delete(f"{config_maps}/c", body, content_type="application/yaml")) == (400, "BadRequest", text)


@pytest.mark.parametrize("header", ["Impersonate-User", "Accept", "Content-Encoding", "Content-Type"])
def test_headers_that_are_not_utf8_are_no_internal_error(api: Api, config_maps: str, header: str) -> None:
    answer = api.post(config_maps, {"metadata": {"name": "c"}}, headers={header: "\xff"})
    assert 400 <= answer.code < 500
    assert answer.json["kind"] == "Status"
