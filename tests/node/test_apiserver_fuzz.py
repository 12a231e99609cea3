"""Whatever a client sends is answered: with what it asked for, or with a Status that says what is wrong. Never by a 5xx
without a reason, never by silence. What is accepted reads as it was written, and writing it again changes nothing.

Examples are derived from a fixed seed, so that every run sends the same ones.
"""

from __future__ import annotations

import copy
import http.client
import json
import random
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.api import JSON_PATCH, MERGE, STRATEGIC, Answer, Api

# One connection that is reused, since opening one costs more than most requests.
few = settings(
    derandomize=True,
    deadline=None,
    max_examples=600,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

POD = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"generateName": "fuzz-", "labels": {"app": "web"}, "annotations": {"note": "text"}},
    "spec": {
        "restartPolicy": "OnFailure",
        "terminationGracePeriodSeconds": 5,
        "nodeSelector": {"no": "where"},
        "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["a.example"]}],
        "securityContext": {"runAsUser": 1000, "sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "1 2"}]},
        "tolerations": [{"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3}],
        "affinity": {
            "nodeAffinity": {
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 5, "preference": {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}}
                ]
            }
        },
        "volumes": [
            {"name": "data", "emptyDir": {"sizeLimit": "64Mi"}},
            {"name": "conf", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}], "defaultMode": 420}},
        ],
        "initContainers": [{"name": "first", "image": "busybox"}],
        "containers": [
            {
                "name": "main",
                "image": "nginx:1.27",
                "command": ["sh"],
                "args": ["-c", "sleep 1"],
                "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}],
                "env": [
                    {"name": "A", "value": "b"},
                    {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                    {"name": "S", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
                ],
                "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "1", "memory": "64Mi"}},
                "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
                "securityContext": {"runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}},
            }
        ],
    },
}
SERVICE = {
    "apiVersion": "v1",
    "kind": "Service",
    "metadata": {"generateName": "fuzz-"},
    "spec": {
        "selector": {"app": "web"},
        "type": "ClusterIP",
        "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"}],
        "sessionAffinity": "ClientIP",
    },
}
SECRET = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"generateName": "fuzz-"},
    "type": "Opaque",
    "data": {"a": "YQ=="},
    "stringData": {"b": "c"},
    "immutable": False,
}
LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"generateName": "fuzz-"},
    "spec": {
        "holderIdentity": "me",
        "leaseDurationSeconds": 15,
        "renewTime": "2026-01-02T03:04:05.000006Z",
    },
}
KINDS: dict[str, dict[str, Any]] = {"pods": POD, "services": SERVICE, "secrets": SECRET, "leases": LEASE}

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    -(2**31) - 1,
    2**63,
    10**40,
    1.5,
    1e308,
    -0.0,
    "",
    " ",
    "a",
    "A",
    "-",
    "..",
    "../../etc/passwd",
    "/",
    "0",
    "1Gi",
    "-5m",
    "1e9999999",
    "NaN",
    "true",
    "null",
    "2026-13-45T99:99:99Z",
    "é",
    "\u0000",
    "\ud7ff\uffff",
    "😀",
    "x" * 64,
    "x" * 254,
    "%s%n{0}${A}$(A)",
    "<script>",
    "a\nb\r\nc",
    [],
    {},
    [None],
    [[]],
    [{}],
    {"": ""},
    {"a": None},
    {"name": "a"},
    [{"name": "a"}, {"name": "a"}],
)
"""Values that break code that expects others."""


VERSION_SET = "resourceVersion should not be set on objects to be created"
"""A client's mistake that upstream calls the server's, as it does strategic patches that make no sense (no reason)."""

PLAIN = ((404, b"404 page not found\n"),)
"""Errors that upstream's server does not put into a Status: paths outside of the API."""


class Talk:
    """Requests over one connection that is kept open; every answer is checked for its form."""

    def __init__(self, api: Api) -> None:
        self.server = api.server
        self._connection = api.open()

    def __call__(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        names = {key.replace("_", "-"): value for key, value in headers.items()}
        try:
            self._connection.request(method, path, body=data, headers={"Content-Type": "application/json", **names})
            response = self._connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except (http.client.HTTPException, OSError):
            self._connection.close()
            raise
        check(answer, head=method == "HEAD")
        return answer


def check(answer: Answer, *, head: bool = False) -> None:
    """Errors are Statuses whose code is that of the answer; none is the server's fault."""
    if answer.code < 400 or head:
        return
    if answer.code == 500:
        assert "reason" not in answer.json or VERSION_SET in answer.message, answer.raw
        return
    assert answer.code < 500, answer.raw
    if answer.headers["Content-Type"].startswith("text/plain"):
        assert (answer.code, answer.raw) in PLAIN
        return
    failure = answer.json
    assert (failure["kind"], failure["apiVersion"], failure["status"]) == ("Status", "v1", "Failure")
    assert failure["code"] == answer.code
    assert failure["reason"]
    assert failure["message"]
    for cause in failure.get("details", {}).get("causes", ()):
        assert cause["message"]
        assert cause["reason"]


@pytest.fixture
def talk(api: Api) -> Talk:
    return Talk(api)


def paths_of(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value of a document."""
    yield at
    items = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for key, value in items:
        yield from paths_of(value, (*at, key))


def mutate(document: Any, chance: random.Random) -> Any:
    """The document with one to three changes: a value replaced, removed, doubled, or a field added."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = chance.choice(list(paths_of(document))[1:] or [()])
        if not place:
            return chance.choice(ODD)
        holder = document
        for key in place[:-1]:
            holder = holder[key]
        key, change = place[-1], chance.randrange(6)
        if change == 0:
            del holder[key]
        elif change == 1 and isinstance(holder[key], list):
            holder[key] = holder[key] * chance.choice((2, 50))
        elif change == 2 and isinstance(holder[key], dict):
            holder[key][chance.choice(("zzz", "", "name", "a b", "/", "$patch"))] = copy.deepcopy(chance.choice(ODD))
        elif change == 3 and isinstance(holder[key], str):
            holder[key] = chance.choice((holder[key].upper(), holder[key] * 90, holder[key][::-1], holder[key] + " "))
        else:
            holder[key] = copy.deepcopy(chance.choice(ODD))
    return document


def collection(namespace: str, plural: str) -> str:
    root = "/apis/coordination.k8s.io/v1" if plural == "leases" else "/api/v1"
    return f"{root}/namespaces/{namespace}/{plural}"


@few
@given(st.sampled_from(sorted(KINDS)), st.randoms(use_true_random=True))
def test_what_is_accepted_reads_as_it_was_written(
    talk: Talk, namespace: str, plural: str, chance: random.Random
) -> None:
    path = collection(namespace, plural)
    created = talk("POST", path, mutate(KINDS[plural], chance))
    if created.code != 201:
        return
    made = created.json
    own = f"{path}/{made['metadata']['name']}"
    assert talk("GET", own).json == made
    written = talk("PUT", own, created.raw)
    assert (written.code, written.json) == (200, made), "writing what was read changes nothing, not even the version"
    bare = {key: value for key, value in made.items() if key != "status"}
    bare["metadata"] = {
        key: value for key, value in made["metadata"].items() if key in ("name", "labels", "annotations")
    }
    again = talk("PUT", own, bare)
    if again.code == 200:  # resourceVersion is not always optional
        assert {**again.json, "metadata": {}} == {**made, "metadata": {}}, "defaults are the same a second time"
    for kind in (MERGE, STRATEGIC):
        before = talk("GET", own).raw
        assert talk("PATCH", own, {}, Content_Type=kind).raw == before
    assert talk("DELETE", own).code == 200


def some_patch(document: Any, chance: random.Random) -> tuple[str, Any]:
    """A patch of one of three kinds; most of them can be applied."""
    places = [place for place in paths_of(document) if place]
    place = chance.choice(places)
    value = copy.deepcopy(chance.choice(ODD))
    if chance.random() < 0.4:
        pointer = "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in place)
        pointer += chance.choice(("", "", "", "/-", "/0", "/99999999999", "/-1", "~2", "/"))
        operation = chance.choice(("add", "remove", "replace", "move", "copy", "test", "fly", None, 1))
        source = "".join(f"/{part}" for part in chance.choice(places))
        return JSON_PATCH, [{"op": operation, "path": pointer, "value": value, "from": source}] * chance.choice(
            (1, 1, 3)
        )
    patch = value
    for part in reversed(place):
        if isinstance(part, int):
            element = patch if isinstance(patch, dict) else {"name": patch}
            if chance.random() < 0.5:
                element = {**element, "name": "main"}
            if chance.random() < 0.2:
                element["$patch"] = chance.choice(("delete", "replace", "merge", "x", 1, None))
            patch = [element]
        else:
            patch = {part: patch}
    if isinstance(patch, dict) and chance.random() < 0.2:
        directive = chance.choice(("$setElementOrder/containers", "$retainKeys", "$deleteFromPrimitiveList/finalizers"))
        patch[directive] = copy.deepcopy(chance.choice(ODD))
    return chance.choice((MERGE, STRATEGIC)), patch


@few
@given(st.randoms(use_true_random=True))
def test_patches_change_what_they_say_or_nothing(talk: Talk, namespace: str, chance: random.Random) -> None:
    path = collection(namespace, "pods")
    before = talk("POST", path, POD)
    assert before.code == 201
    name = before.json["metadata"]["name"]
    kind, patch = some_patch(before.json, chance)
    subresource = chance.choice(("", "", "/status"))
    patched = talk("PATCH", f"{path}/{name}{subresource}", patch, Content_Type=kind)
    after = talk("GET", f"{path}/{name}")
    if patched.code != 200:
        assert after.raw == before.raw
        return
    if after.code == 200 and not (subresource and "generateName" in str(patch)):  # unchecked there, upstream too
        assert after.json == patched.json
        assert talk("PUT", f"{path}/{name}", after.raw).json == after.json
    talk("DELETE", f"{path}/{name}")


WORDS = (
    "api",
    "apis",
    "v1",
    "v9",
    "apps",
    "namespaces",
    "default",
    "pods",
    "status",
    "log",
    "binding",
    "eviction",
    "finalize",
    "watch",
    "nodes",
    "events.k8s.io",
    "events",
    "..",
    ".",
    "%2e%2e",
    "%2F",
    "a%2Fb",
    "%00",
    "%zz",
    "%",
    "é",
    "*",
    "",
    "openapi",
    "v2",
    "v3",
    "healthz",
    "version",
    "x" * 300,
)
PARAMETERS = (
    "watch",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "timeoutSeconds",
    "allowWatchBookmarks",
    "sendInitialEvents",
    "fieldValidation",
    "dryRun",
    "gracePeriodSeconds",
    "propagationPolicy",
    "orphanDependents",
    "force",
    "fieldManager",
    "pretty",
    "container",
    "tailLines",
    "zzz",
)
VALUES = (
    "",
    "0",
    "1",
    "-1",
    "true",
    "false",
    "99999999999999999999",
    "1.5",
    "x",
    "a=b",
    "a in (b,c)",
    "a in",
    "!a",
    "a==b,",
    "metadata.name=x",
    "spec.nodeName!=",
    "Exact",
    "NotOlderThan",
    "All",
    "Strict",
    "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiIifQ",
    "\x00",
    "é",
    "a" * 3000,
)
ACCEPT = (
    "application/json",
    "*/*",
    "",
    "application/yaml",
    "text/html",
    "application/json;as=Table;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io",
    "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    "application/json;as=Nothing;v=v1;g=meta.k8s.io",
    "application/json;q=nan",
    "application/vnd.kubernetes.protobuf",
    ";;,,=",
    "a" * 2000,
)
CONTENT = (
    "application/json",
    "application/yaml",
    MERGE,
    STRATEGIC,
    JSON_PATCH,
    "application/apply-patch+yaml",
    "application/vnd.kubernetes.protobuf",
    "text/plain",
    "",
    "multipart/form-data",
    "application/json; charset=latin-1",
)
BODIES: tuple[str | bytes, ...] = (
    "",
    "{",
    "null",
    "[]",
    "5",
    '"x"',
    "{}",
    "{}{}",
    '{"a":1}x',
    '{"kind":"Pod","kind":"Node"}',
    '{"metadata":{"name":"a"},"metadata":{"name":"b"}}',
    '{"kind":5}',
    '{"metadata":null,"spec":null}',
    '{"metadata":{"labels":[]}}',
    b'{"metadata":{"name":"\xff\xfe"}}',
    '{"metadata":{"name":"\\ud800"}}',
    '{"metadata":{"generation":1e400}}',
    '{"metadata":{"generation":' + "9" * 5000 + "}}",
    '{"a":' * 3000 + "1" + "}" * 3000,
    "[" * 50_000,
    b"k8s\x00\x0a\x05\x0a\x02v1\x12\xff\xff\xff\xff\x0f",
    b"k8s\x00" + bytes(range(256)),
    "a: &a [*a, *a]",
    "a: &a [1]\n" + "\n".join(f"b{i}: &b{i} [*a, *a, *a, *a, *a]" for i in range(50)),
    "--- \n---\n",
    "? [a, b]\n: c",
    "!!python/object/apply:os.system [ls]",
    "\ufeff{}",
    "x: 2026-01-02\ny: 1_000\nz: .inf",
)


@few
@given(st.randoms(use_true_random=True))
def test_every_request_has_an_answer(talk: Talk, namespace: str, chance: random.Random) -> None:
    known = (
        f"/api/v1/namespaces/{namespace}/pods",
        f"/api/v1/namespaces/{namespace}/configmaps/a",
        f"/api/v1/namespaces/{namespace}/pods/a/log",
        f"/api/v1/namespaces/{namespace}/pods/a/eviction",
        f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token",
        f"/api/v1/namespaces/{namespace}/status",
        "/api/v1/nodes/a/status",
        "/api/v1/events",
        "/apis/events.k8s.io/v1/events",
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/apis/authentication.k8s.io/v1/tokenreviews",
        "/openapi/v2",
        "/openapi/v3/api/v1",
        "/apis",
    )
    path = chance.choice(known)
    if chance.random() < 0.4:
        path = "/" + "/".join(chance.choice(WORDS) for _ in range(chance.randrange(9)))
    elif chance.random() < 0.3:
        path += "/" + "/".join(chance.choice(WORDS) for _ in range(chance.randrange(3)))
    path = quote(path, safe="/%")
    pairs = [(chance.choice(PARAMETERS), chance.choice(VALUES)) for _ in range(chance.randrange(4))]
    query = "&".join(f"{key}={quote(value)}" for key, value in [*pairs, ("timeoutSeconds", "1")])
    method = chance.choice(("GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "PROPFIND"))
    if method == "DELETE" and namespace not in path:
        method = "GET"  # others' objects stay
    body = chance.choice(BODIES) if method in ("POST", "PUT", "PATCH", "DELETE") else None
    if isinstance(body, str):
        body = body.encode()
    headers = {"Accept": chance.choice(ACCEPT), "Content_Type": chance.choice(CONTENT)}
    answer = talk(method, f"{path}?{query}", body, **headers) if "watch" not in path + query else None
    if answer is not None and answer.code < 300 and method in ("POST", "PUT"):
        assert answer.json["kind"]
