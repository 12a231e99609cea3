"""The options of list and watch: what each of them may be, and what upstream says of all else.

Source: the API reference of Kubernetes 1.36 (common parameters) and, for the texts, k8s.io/apimachinery's conversions and
ValidateListOptions, k8s.io/apiserver's DecodeContinue.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest
from tests.support.answers import Row, begin, rows, told
from tests.support.api import TABLE, Api, pod

NUMBER = 'strconv.ParseInt: parsing "{}": {}'
VERSION = 'invalid resource version: resourceVersion: Invalid value: "{0}": strconv.ParseUint: parsing "{0}": {1}'
TOKEN = "invalid continue token: continue key is not valid: "
SYNTAX, RANGE = "invalid syntax", "value out of range"
INVALID = 'ListOptions.meta.k8s.io "" is invalid: '
MATCH = "resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden "
UNKNOWN_MATCH = 'resourceVersionMatch: Unsupported value: "{}": supported values: "Exact", "NotOlderThan", ""'
WATCH_MATCH = 'resourceVersionMatch: Unsupported value: "{}": supported values: "NotOlderThan"'
NEEDS_MATCH = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
LABEL_NAME = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
    "character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is "
    "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
LABEL_VALUE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
LABEL = "unable to parse requirement: "
REQUIREMENT = f"{LABEL}<nil>: Invalid value: "


def token(**fields: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


V1 = "meta.k8s.io/v1"

OF_BOTH = (
    Row("limit=0"),
    Row("limit=-1"),
    Row("limit=9223372036854775807"),
    Row("limit=", 400, NUMBER.format("", SYNTAX)),
    Row("limit=x", 400, NUMBER.format("x", SYNTAX)),
    Row("limit=1.5", 400, NUMBER.format("1.5", SYNTAX)),
    Row("limit=9223372036854775808", 400, NUMBER.format("9223372036854775808", RANGE)),
    Row("limit=-9223372036854775809", 400, NUMBER.format("-9223372036854775809", RANGE)),
    Row("limit=1&limit=x"),
    Row("limit=x&limit=1", 400, NUMBER.format("x", SYNTAX)),
    Row("limit=%ff", 400, NUMBER.format("\\xff", SYNTAX)),
    Row("timeoutSeconds=0"),
    Row("timeoutSeconds=-1"),
    Row("timeoutSeconds=9223372036854775807"),
    Row("timeoutSeconds=", 400, NUMBER.format("", SYNTAX)),
    Row("timeoutSeconds=x", 400, NUMBER.format("x", SYNTAX)),
    Row("timeoutSeconds=9223372036854775808", 400, NUMBER.format("9223372036854775808", RANGE)),
    Row("timeoutSeconds=x&limit=y", 400, NUMBER.format("x", SYNTAX)),
    Row("timeoutSeconds=x&labelSelector=a%3D%3D%3Db", 400, NUMBER.format("x", SYNTAX)),
    Row("resourceVersion="),
    Row("resourceVersion=0"),
    Row("resourceVersion=1&resourceVersion=x"),
    Row("resourceVersion=x", 400, VERSION.format("x", SYNTAX)),
    Row("resourceVersion=-1", 400, VERSION.format("-1", SYNTAX)),
    Row("resourceVersion=%2B1", 400, VERSION.format("+1", SYNTAX)),
    Row("resourceVersion=1_0", 400, VERSION.format("1_0", SYNTAX)),
    Row("resourceVersion=18446744073709551616", 400, VERSION.format("18446744073709551616", RANGE)),
    Row("resourceVersion=%ff", 400, VERSION.format("\\xff", SYNTAX)),
    Row("resourceVersionMatch="),
    Row("labelSelector="),
    Row("labelSelector=a%3Db&labelSelector=%3D"),
    Row("labelSelector=a%3D%3D%3Db", 400, f"{LABEL}found '=', expected: identifier"),
    Row("labelSelector=a+b", 400, f"{LABEL}found 'b', expected: in, notin, =, ==, !=, gt, lt"),
    Row("labelSelector=%ff", 400, f'{REQUIREMENT}"\\xff": {LABEL_NAME}'),
    Row("labelSelector=a%3D%ff", 400, f'{LABEL}values[0][a]: Invalid value: "\\xff": {LABEL_VALUE}'),
    Row(f"labelSelector={'a' * 64}", 400, f'{REQUIREMENT}"{"a" * 64}": name part must be no more than 63 bytes'),
    Row("fieldSelector="),
    Row("fieldSelector=metadata.name%3Dweb&fieldSelector=x"),
    Row("fieldSelector=metadata.name%3D%ff"),
    Row("fieldSelector=x", 400, "invalid selector: 'x'; can't understand 'x'"),
    Row("fieldSelector=%ff", 400, "invalid selector: '\ufffd'; can't understand '\ufffd'"),
    Row("fieldSelector=a%3Db", 400, "field label not supported: a"),
    Row("fieldSelector=%ff%3Db", 400, "field label not supported: \ufffd"),
    Row("fieldSelector=a%3Db%5C", 400, 'invalid field selector: invalid escape sequence: "\\\\"'),
    Row("allowWatchBookmarks="),
    Row("allowWatchBookmarks=x"),
    Row("allowWatchBookmarks=%ff"),
    Row("pretty="),
    Row("pretty=x"),
    Row("pretty=true"),
    Row("%ff=%ff"),
)
OF_LISTS = (
    Row("watch=false"),
    Row("watch=0"),
    Row("watch=FALSE"),
    Row("continue="),
    Row("continue=x", 400, f"{TOKEN}illegal base64 data at input byte 0"),
    Row("continue=!", 400, f"{TOKEN}illegal base64 data at input byte 0"),
    Row("continue=abcde", 400, f"{TOKEN}illegal base64 data at input byte 4"),
    Row("continue=abc%3D", 400, f"{TOKEN}illegal base64 data at input byte 3"),
    Row("continue=%ff", 400, f"{TOKEN}illegal base64 data at input byte 0"),
    Row("continue=eHg", 400, f"{TOKEN}invalid character 'x' looking for beginning of value"),
    Row("continue=ew", 400, f"{TOKEN}unexpected end of JSON input"),
    Row("continue=e30", 400, f"{TOKEN}server does not recognize this encoded version "),
    Row(f"continue={token(v='v2', rv=1)}", 400, f"{TOKEN}server does not recognize this encoded version v2"),
    Row(
        f"continue={token(v=V1, rv=0, start='a')}",
        400,
        f"{TOKEN}incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
    ),
    Row(f"continue={token(v=V1, rv=1)}", 400, f"{TOKEN}encoded start key empty (version meta.k8s.io/v1)"),
    Row(f"continue={token(v=V1, rv=1, start='../secrets')}", 400, f"{TOKEN}../secrets"),
    Row(f"continue={token(v=V1, rv=1, start='a//b')}", 400, f"{TOKEN}a//b"),
    Row(f"continue={token(v=V1, rv=-1, start='a')}"),
    Row(f"continue={token(v=V1, rv=-1, start='a')}&resourceVersion=0"),
    Row(
        f"continue={token(v=V1, rv=-1, start='a')}&resourceVersion=1",
        400,
        "specifying resource version is not allowed when using continue",
    ),
    Row("continue=x&resourceVersion=1", 400, f"{TOKEN}illegal base64 data at input byte 0"),
    Row(
        "continue=x&resourceVersion=1&resourceVersionMatch=Exact",
        422,
        f"{INVALID}{MATCH}when continue is provided",
    ),
    Row("resourceVersion=1&resourceVersionMatch=NotOlderThan"),
    Row("resourceVersion=0&resourceVersionMatch=NotOlderThan"),
    Row("resourceVersionMatch=Exact", 422, f"{INVALID}{MATCH}unless resourceVersion is provided"),
    Row("resourceVersionMatch=NotOlderThan", 422, f"{INVALID}{MATCH}unless resourceVersion is provided"),
    Row(
        "resourceVersion=0&resourceVersionMatch=Exact",
        422,
        f'{INVALID}resourceVersionMatch: Forbidden: resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
    ),
    Row("resourceVersion=1&resourceVersionMatch=exact", 422, INVALID + UNKNOWN_MATCH.format("exact")),
    Row("resourceVersion=1&resourceVersionMatch=%ff", 422, INVALID + UNKNOWN_MATCH.format("\\xff")),
    Row("resourceVersion=x&resourceVersionMatch=y", 422, INVALID + UNKNOWN_MATCH.format("y")),
    Row(
        "resourceVersionMatch=x&continue=y",
        422,
        f"{INVALID}[{MATCH}unless resourceVersion is provided, {MATCH}when continue is provided, "
        f"{UNKNOWN_MATCH.format('x')}]",
    ),
    Row("resourceVersionMatch=x&labelSelector=a%3D%3D%3Db", 400, f"{LABEL}found '=', expected: identifier"),
    Row("resourceVersionMatch=x&fieldSelector=x", 400, "invalid selector: 'x'; can't understand 'x'"),
    Row(
        "sendInitialEvents=true", 422, f"{INVALID}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"
    ),
    Row("sendInitialEvents=0", 422, f"{INVALID}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
    Row("sendInitialEvents=", 422, f"{INVALID}sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list"),
    Row("timeout="),
    Row("timeout=-1s"),
    Row("timeout=1h1.5ms"),
    Row("timeout=1", 400, 'invalid timeout specified in the request URL - time: missing unit in duration "1"'),
    Row("timeout=1d", 400, 'invalid timeout specified in the request URL - time: unknown unit "d" in duration "1d"'),
    Row(
        "timeout=9223372037s",
        400,
        'invalid timeout specified in the request URL - time: invalid duration "9223372037s"',
    ),
    Row("timeout=x", 400, 'invalid timeout specified in the request URL - time: invalid duration "x"'),
    Row("timeout=%ff", 400, 'invalid timeout specified in the request URL - time: invalid duration "\\xff"'),
)
OF_WATCHES = (
    Row("timeout=x"),
    Row("resourceVersion=1&continue=x"),
    Row("continue=x", 422, f"{INVALID}{MATCH}when continue is provided"),
    Row("resourceVersion=0&continue=x", 422, f"{INVALID}{MATCH}when continue is provided"),
    Row("sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
    Row("sendInitialEvents=false&resourceVersionMatch=NotOlderThan"),
    Row("sendInitialEvents=true", 422, INVALID + NEEDS_MATCH),
    Row("sendInitialEvents=false", 422, INVALID + NEEDS_MATCH),
    Row("sendInitialEvents=", 422, INVALID + NEEDS_MATCH),
    Row(
        "sendInitialEvents=true&resourceVersionMatch=Exact",
        422,
        f"{INVALID}[{NEEDS_MATCH}, {WATCH_MATCH.format('Exact')}]",
    ),
    Row("resourceVersionMatch=NotOlderThan", 422, f"{INVALID}{MATCH}for watch unless sendInitialEvents is provided"),
    Row(
        "resourceVersionMatch=Exact&resourceVersion=1",
        422,
        f"{INVALID}[{MATCH}for watch unless sendInitialEvents is provided, {WATCH_MATCH.format('Exact')}]",
    ),
    Row(
        "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&continue=x",
        422,
        f"{INVALID}{MATCH}when continue is provided",
    ),
    Row("sendInitialEvents=true&labelSelector=a%3D%3D%3Db", 400, f"{LABEL}found '=', expected: identifier"),
)


@rows(*OF_BOTH, *OF_LISTS)
def test_lists(api: Api, row: Row) -> None:
    assert told(api.get(f"/api/v1/namespaces/default/pods?{row.query}")) == row.answer


@rows(*OF_BOTH, *OF_WATCHES)
def test_watches(api: Api, row: Row) -> None:
    assert told(begin(api, f"/api/v1/namespaces/default/pods?watch=true&{row.query}")) == row.answer


@rows(*OF_BOTH, *OF_LISTS)
def test_deletions_of_collections_refuse_what_lists_refuse(api: Api, row: Row) -> None:
    # Where there are none: the version is also what each of them would have to have.
    assert told(api.delete(f"/api/v1/namespaces/nowhere/pods?{row.query}")) == row.answer


@rows(
    Row("a%3Db", 400, '"a" is not a known field selector: only "metadata.name", "metadata.namespace"'),
    Row("%ff%3Db", 400, '"\\xff" is not a known field selector: only "metadata.name", "metadata.namespace"'),
)
def test_fields_of_kinds_that_have_no_special_ones(api: Api, row: Row) -> None:
    assert told(api.get(f"/api/v1/configmaps?fieldSelector={row.query}")) == row.answer


@pytest.mark.parametrize("query", ["watch", "watch=", "watch=true", "watch=1", "watch=x", "watch=true&watch=false"])
def test_a_watch_is_asked_for_by_any_word_but_false(api: Api, query: str) -> None:
    answer = begin(api, f"/api/v1/namespaces/default/pods?{query}")
    assert answer.headers["Transfer-Encoding"] == "chunked"


@pytest.mark.parametrize("path", ["/api/v1/pods", "/api/v1/namespaces/kube-system"])
def test_versions_that_are_yet_to_come_time_out(api: Api, path: str) -> None:
    answer = api.get(f"{path}?resourceVersion=1000000000000")
    assert (answer.code, answer.json["reason"], answer.headers["Retry-After"]) == (504, "Timeout", "1")
    assert answer.message.startswith("Timeout: Too large resource version: 1000000000000, current: ")
    assert answer.json["details"] == {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": 1,
    }


@rows(
    Row("includeObject="),
    Row("includeObject=Object"),
    Row(
        "includeObject=x",
        400,
        'Unable to convert to Table as requested: includeObject: Invalid value: "x": '
        "must be 'Metadata', 'Object', 'None', or empty",
    ),
)
@pytest.mark.parametrize("path", ["", "?watch=true"])
def test_tables(api: Api, path: str, row: Row) -> None:
    separator = "&" if path else "?"
    connection = api.open()
    connection.request("GET", f"/api/v1/pods{path}{separator}{row.query}", headers={"Accept": TABLE})
    response = connection.getresponse()
    assert response.status == row.code
    if row.message:
        assert json.loads(response.read())["message"] == row.message
    response.close()
    connection.close()


def test_a_watch_from_the_start_ends_its_first_events_with_a_bookmark_if_it_takes_any(api: Api, pods: str) -> None:
    api.create(pods, pod())
    for query in ("allowWatchBookmarks=true", "allowWatchBookmarks=true&resourceVersion=0"):
        with api.watch(f"{pods}?{query}") as events:
            assert next(events)["type"] == "ADDED"
            bookmark = next(events)
            assert bookmark["type"] == "BOOKMARK"
            assert bookmark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}


def test_what_a_deprecated_kind_warns_of_a_watch_warns_of_too(api: Api, namespace: str) -> None:
    path, body = f"/api/v1/namespaces/{namespace}/endpoints", {"metadata": {"name": "e"}}
    answers = [
        api.post(path, body),
        api.get(path),
        api.get(f"{path}/e"),
        api.put(f"{path}/e", body),
        api.patch(f"{path}/e", {}),
        begin(api, f"{path}?watch=true"),
        begin(api, f"/api/v1/watch/namespaces/{namespace}/endpoints"),
        api.delete(f"{path}/e"),
        api.delete(path),
        api.get(f"{path}/e"),
    ]
    warning = '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
    assert [answer.headers.get_all("Warning") for answer in answers] == [[warning]] * len(answers)
    assert begin(api, f"{path}?watch=true&limit=x").headers.get_all("Warning") == [warning]


@pytest.mark.parametrize(
    ("query", "user_agent", "indented"),
    [
        ("", "", False),
        ("pretty=", "", False),
        ("pretty=false", "", False),
        ("pretty=yes", "", False),
        ("pretty=true", "", True),
        ("pretty=1", "", True),
        ("pretty=true&pretty=false", "", True),
        ("", "curl/8.14.1", True),
        ("", "Wget/1.25", True),
        ("", "Mozilla/5.0 (X11)", True),
        ("", "kubectl/v1.36.2", False),
        ("pretty=false", "curl/8.14.1", False),
    ],
)
def test_answers_are_indented_for_people(api: Api, query: str, user_agent: str, indented: bool) -> None:
    for path in ("namespaces/default", "namespaces", "namespaces/nowhere", "namespaces?limit=x"):
        separator = "&" if "?" in path else "?"
        answer = api.get(f"/api/v1/{path}{separator}{query}", headers={"User-Agent": user_agent})
        dense = json.dumps(answer.json, separators=(",", ":"), ensure_ascii=False)
        expected = json.dumps(answer.json, indent=2, ensure_ascii=False) if indented else dense
        assert answer.raw.decode() == expected + "\n"
        assert int(answer.headers.get("Content-Length", len(answer.raw))) == len(answer.raw)  # a long list has none


def test_large_answers_are_indented_before_they_are_compressed(api: Api, config_maps: str) -> None:
    api.create(
        config_maps, {"metadata": {"name": "large"}, "data": {f"k{number}": "x" * 100 for number in range(3000)}}
    )
    answer = api.get(f"{config_maps}/large?pretty=true", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["Content-Encoding"] == "gzip"
    text = gzip.decompress(answer.raw).decode()
    assert text == json.dumps(json.loads(text), indent=2) + "\n"
