"""The options of pods/log: what each may be, and what upstream says of all else.

Source: the API reference of Kubernetes 1.36 (read log of the specified Pod) and, for the texts, ValidatePodLogOptions.
`stream` is read as upstream reads it with its gate PodLogsQuerySplitStreams on.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.answers import Row, rows, told
from tests.support.api import Api, new_namespace, pod

NUMBER = 'strconv.ParseInt: parsing "{}": {}'
SYNTAX, RANGE = "invalid syntax", "value out of range"
INVALID = 'PodLogOptions "web" is invalid: '
TIME = 'parsing time "{}" as "2006-01-02T15:04:05Z07:00": cannot parse "{}" as "{}"'
STREAM = 'stream: Unsupported value: "{}": supported values: "All", "Stderr", "Stdout"'
SPLIT_TAIL = "<nil>: Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"
TWO_TIMES = "<nil>: Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
POSITIVE, NOT_NEGATIVE = "must be greater than 0", "must be greater than or equal to 0"

TABLE = (
    *(
        Row(f"{name}{value}")
        for name in ("follow", "previous", "timestamps")
        for value in ("", "=", "=0", "=x", "=%FF")
    ),
    Row("insecureSkipTLSVerifyBackend=x"),
    Row("container="),
    Row("container=main"),
    Row("container=main&container=x"),
    Row("container=x", 400, "container x is not valid for pod web"),
    Row("container=%FF", 400, "container \ufffd is not valid for pod web"),
    Row("sinceSeconds=1"),
    Row("sinceSeconds=9223372036854775807"),
    Row("sinceSeconds=0", 422, f"{INVALID}sinceSeconds: Invalid value: 0: {POSITIVE}"),
    Row("sinceSeconds=-1", 422, f"{INVALID}sinceSeconds: Invalid value: -1: {POSITIVE}"),
    Row("sinceSeconds=", 400, NUMBER.format("", SYNTAX)),
    Row("sinceSeconds=1m", 400, NUMBER.format("1m", SYNTAX)),
    Row("sinceSeconds=9223372036854775808", 400, NUMBER.format("9223372036854775808", RANGE)),
    Row("sinceTime="),
    Row("sinceTime=null"),
    Row("sinceTime=2026-01-02T03:04:05Z"),
    Row("sinceTime=2026-01-02T03:04:05.678%2B01:00"),
    Row("sinceTime=x", 400, TIME.format("x", "x", "2006")),
    Row("sinceTime=%FF", 400, TIME.format("\\xff", "\\xff", "2006")),
    Row("sinceTime=2026-01-02", 400, TIME.format("2026-01-02", "", "T")),
    Row("sinceTime=2026-01-02T03:04:05", 400, TIME.format("2026-01-02T03:04:05", "", "Z07:00")),
    Row("sinceTime=2026-13-02T03:04:05Z", 400, 'parsing time "2026-13-02T03:04:05Z": month out of range'),
    Row("sinceTime=2026-01-02T03:04:05Z&sinceSeconds=1", 422, INVALID + TWO_TIMES),
    Row("sinceTime=&sinceSeconds=0", 422, INVALID + TWO_TIMES),
    Row("sinceTime=x&sinceSeconds=y", 400, NUMBER.format("y", SYNTAX)),
    Row("tailLines=0"),
    Row("tailLines=9223372036854775807"),
    Row("tailLines=-1", 422, f"{INVALID}tailLines: Invalid value: -1: {NOT_NEGATIVE}"),
    Row("tailLines=", 400, NUMBER.format("", SYNTAX)),
    Row("tailLines=x", 400, NUMBER.format("x", SYNTAX)),
    Row("tailLines=1&tailLines=x"),
    Row("limitBytes=1"),
    Row("limitBytes=0", 422, f"{INVALID}limitBytes: Invalid value: 0: {POSITIVE}"),
    Row("limitBytes=-1", 422, f"{INVALID}limitBytes: Invalid value: -1: {POSITIVE}"),
    Row("limitBytes=x", 400, NUMBER.format("x", SYNTAX)),
    Row(
        "sinceSeconds=0&limitBytes=0&tailLines=-1&stream=x",
        422,
        f"{INVALID}[tailLines: Invalid value: -1: {NOT_NEGATIVE}, limitBytes: Invalid value: 0: {POSITIVE}, "
        f"sinceSeconds: Invalid value: 0: {POSITIVE}, {STREAM.format('x')}, {SPLIT_TAIL}]",
    ),
    Row("stream=All"),
    Row("stream=Stdout"),
    Row("stream=Stderr"),
    Row("stream=All&tailLines=1"),
    Row("stream=stdout", 422, INVALID + STREAM.format("stdout")),
    Row("stream=", 422, INVALID + STREAM.format("")),
    Row("stream=Stdout&tailLines=1", 422, INVALID + SPLIT_TAIL),
    Row("timeout=x"),
    Row("pretty=x"),
)


@pytest.fixture(scope="module")
def log(api: Api) -> Iterator[str]:
    """The path of the log of a Pod that waits for a node: it is empty."""
    pods = f"/api/v1/namespaces/{new_namespace(api)}/pods"
    api.create(pods, pod("web"))
    yield f"{pods}/web/log"
    api.delete(f"{pods}/web")


@rows(*TABLE)
def test_log_options(api: Api, log: str, row: Row) -> None:
    assert told(api.get(f"{log}?{row.query}")) == row.answer


@rows(
    Row("tailLines=-1", 422, 'PodLogOptions "none" is invalid: tailLines: Invalid value: -1: ' + NOT_NEGATIVE),
    Row("tailLines=x", 400, NUMBER.format("x", SYNTAX)),
    Row("container=x", 404, 'pods "none" not found'),
)
def test_options_are_read_before_the_pod(api: Api, pods: str, row: Row) -> None:
    assert told(api.get(f"{pods}/none/log?{row.query}")) == row.answer
