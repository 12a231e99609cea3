"""Lists: pages, selectors, versions, tables."""

from __future__ import annotations

import gzip
from urllib.parse import quote

import pytest
from tests.support.api import TABLE, Api, pod


def _names(items: list[dict[str, dict[str, str]]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def test_pages_are_of_one_moment(api: Api, config_maps: str) -> None:
    for name in "abcde":
        api.create(config_maps, {"metadata": {"name": name}})
    first = api.get(f"{config_maps}?limit=2").json
    assert _names(first["items"]) == ["a", "b"]
    assert first["metadata"]["remainingItemCount"] == 3
    api.delete(f"{config_maps}/d")
    api.create(config_maps, {"metadata": {"name": "cc"}})
    second = api.get(f"{config_maps}?limit=2&continue={first['metadata']['continue']}").json
    third = api.get(f"{config_maps}?limit=2&continue={second['metadata']['continue']}").json
    assert _names(second["items"]) == ["c", "d"]
    assert _names(third["items"]) == ["e"]
    assert "continue" not in third["metadata"]
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1


def test_a_limit_counts_selected_objects(api: Api, config_maps: str) -> None:
    for number in range(10):
        api.create(config_maps, {"metadata": {"name": f"c{number}", "labels": {"odd": str(number % 2)}}})
    first = api.get(f"{config_maps}?limit=3&labelSelector=odd%3D1").json
    assert _names(first["items"]) == ["c1", "c3", "c5"]
    assert "remainingItemCount" not in first["metadata"]
    token = first["metadata"]["continue"]
    rest = api.get(f"{config_maps}?limit=3&labelSelector=odd%3D1&continue={token}").json
    assert _names(rest["items"]) == ["c7", "c9"]


def test_an_exact_version_shows_the_past(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "a"}})
    then = api.get(config_maps).json["metadata"]["resourceVersion"]
    api.create(config_maps, {"metadata": {"name": "b"}})
    api.delete(f"{config_maps}/a")
    past = api.get(f"{config_maps}?resourceVersion={then}&resourceVersionMatch=Exact").json
    assert _names(past["items"]) == ["a"]
    assert past["metadata"]["resourceVersion"] == then
    newer = api.get(f"{config_maps}?resourceVersion={then}&resourceVersionMatch=NotOlderThan").json
    assert _names(newer["items"]) == ["b"]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("status.phase=Pending", ["a", "b"]),
        ("metadata.name=a", ["a"]),
        ("metadata.name!=a", ["b"]),
        ("spec.nodeName=n1", ["b"]),
        ("spec.nodeName=", ["a"]),
        ("spec.restartPolicy=Never,status.phase=Pending", ["a"]),
        ("spec.serviceAccountName=default,spec.schedulerName=default-scheduler", ["a", "b"]),
    ],
)
def test_pods_are_selected_by_field(api: Api, pods: str, selector: str, expected: list[str]) -> None:
    api.create(pods, pod("a", restartPolicy="Never"))
    api.create(pods, pod("b"))
    api.post(f"{pods}/b/binding", {"target": {"kind": "Node", "name": "n1"}})
    assert _names(api.get(f"{pods}?fieldSelector={quote(selector)}").json["items"]) == expected


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier in (web,db)", ["a", "b"]),
        ("tier notin (web)", ["b", "c"]),
        ("!tier", ["c"]),
        ("tier", ["a", "b"]),
        ("tier=web,app==x", ["a"]),
        ("tier!=web", ["b", "c"]),
    ],
)
def test_objects_are_selected_by_label(api: Api, config_maps: str, selector: str, expected: list[str]) -> None:
    for name, labels in (("a", {"tier": "web", "app": "x"}), ("b", {"tier": "db"}), ("c", {"app": "y"})):
        api.create(config_maps, {"metadata": {"name": name, "labels": labels}})
    assert _names(api.get(f"{config_maps}?labelSelector={quote(selector)}").json["items"]) == expected


def test_events_and_secrets_are_selected_by_their_own_fields(api: Api, namespace: str) -> None:
    root = f"/api/v1/namespaces/{namespace}"
    for name in ("a", "b"):
        involved = {"kind": "Pod", "namespace": namespace, "name": name}
        event = {"metadata": {"name": f"{name}.1"}, "involvedObject": involved, "reason": "R", "type": "Normal"}
        api.create(f"{root}/events", event)
    found = api.get(f"{root}/events?fieldSelector=involvedObject.name%3Db,involvedObject.kind%3DPod").json
    assert _names(found["items"]) == ["b.1"]
    api.create(f"{root}/secrets", {"metadata": {"name": "s"}, "type": "example.com/mine"})
    assert _names(api.get(f"{root}/secrets?fieldSelector=type%3Dexample.com/mine").json["items"]) == ["s"]


def test_events_are_selected_by_the_fields_of_the_api_that_is_asked(api: Api, namespace: str) -> None:
    for name, about, controller in (("e1", "a", "kubelet"), ("e2", "b", "scheduler")):
        regarding = {"kind": "Pod", "name": about, "namespace": namespace}
        event = {"metadata": {"name": name}, "involvedObject": regarding, "reportingComponent": controller}
        api.create(f"/api/v1/namespaces/{namespace}/events", {**event, "reason": "R", "type": "Normal"})
    new, old = (f"{root}/namespaces/{namespace}/events" for root in ("/apis/events.k8s.io/v1", "/api/v1"))
    for path, selector, expected in (
        (new, "regarding.name=b", ["e2"]),
        (new, "regarding.kind=Pod,reportingController=kubelet", ["e1"]),
        (new, "reason=R,type=Normal", ["e1", "e2"]),
        (old, "involvedObject.name=b", ["e2"]),
        (old, "reportingComponent=kubelet", ["e1"]),
    ):
        assert _names(api.get(f"{path}?fieldSelector={quote(selector)}").json["items"]) == expected
    for path, field in ((new, "involvedObject.name"), (new, "source"), (old, "regarding.name")):
        answer = api.get(f"{path}?fieldSelector={field}%3Db")
        assert (answer.code, answer.message) == (400, f"field label not supported: {field}")


@pytest.mark.parametrize(
    ("query", "code", "message"),
    [
        (
            "timeout=invalid",
            400,
            'invalid timeout specified in the request URL - time: invalid duration "invalid"',
        ),
        ("fieldSelector=spec.color%3Dred", 400, "field label not supported: spec.color"),
        ("labelSelector=a+b", 400, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("resourceVersion=1&resourceVersionMatch=Sometimes", 422, 'supported values: "Exact", "NotOlderThan", ""'),
        ("resourceVersion=new", 400, 'strconv.ParseUint: parsing "new": invalid syntax'),
        ("continue=%21", 400, "continue key is not valid"),
        ("limit=many", 400, 'strconv.ParseInt: parsing "many": invalid syntax'),
        ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
        ("watch=1&resourceVersionMatch=Exact&resourceVersion=1", 422, "forbidden for watch unless sendInitialEvents"),
    ],
)
def test_wrong_options_are_refused(api: Api, pods: str, query: str, code: int, message: str) -> None:
    answer = api.get(f"{pods}?{query}")
    assert answer.code == code
    assert message in answer.message


def test_tables_have_upstreams_columns(api: Api, pods: str) -> None:
    api.create(pods, pod("a"))
    table = api.get(pods, headers={"Accept": f"{TABLE},application/json"}).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == [
        *("Name", "Ready", "Status", "Restarts", "Age"),
        *("IP", "Node", "Nominated Node", "Readiness Gates"),
    ]
    assert table["rows"][0]["cells"][:4] == ["a", "0/1", "Pending", "0"]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    whole = api.get(f"{pods}?includeObject=Object", headers={"Accept": TABLE}).json
    assert whole["rows"][0]["object"]["kind"] == "Pod"
    bare = api.get(f"{pods}?includeObject=None", headers={"Accept": TABLE}).json
    assert "object" not in bare["rows"][0] or bare["rows"][0]["object"] is None


def test_partial_objects_have_metadata_only(api: Api, pods: str) -> None:
    made = api.create(pods, pod("a"))
    accept = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    listed = api.get(pods, headers={"Accept": accept}).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert listed["items"] == [
        {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": made["metadata"]}
    ]


def test_large_answers_are_compressed_for_those_who_ask(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "big"}, "data": {"x": "y" * 300_000}})
    plain = api.get(config_maps)
    assert "Content-Encoding" not in plain.headers
    packed = api.get(config_maps, headers={"Accept-Encoding": "gzip"})
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.raw) < len(plain.raw) / 10
    assert gzip.decompress(packed.raw) == plain.raw


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_both_versions_of_tables_and_partial_objects_are_served(api: Api, config_maps: str, version: str) -> None:
    api.create(config_maps, {"metadata": {"name": "a"}, "data": {"k": "v"}})

    def accept(kind: str) -> dict[str, str]:
        return {"Accept": f"application/json;as={kind};v={version};g=meta.k8s.io"}

    of_list = api.get(config_maps, headers=accept("Table")).json
    of_one = api.get(f"{config_maps}/a", headers=accept("Table")).json
    for table in (of_list, of_one):
        assert (table["kind"], table["apiVersion"]) == ("Table", f"meta.k8s.io/{version}")
        row = table["rows"][0]["object"]
        assert (row["kind"], row["apiVersion"]) == ("PartialObjectMetadata", f"meta.k8s.io/{version}")
    partial = api.get(config_maps, headers=accept("PartialObjectMetadataList")).json
    assert {item["apiVersion"] for item in (partial, *partial["items"])} == {f"meta.k8s.io/{version}"}
    with api.watch(config_maps, headers=accept("Table")) as events:
        assert next(events)["object"]["apiVersion"] == f"meta.k8s.io/{version}"
    assert api.get(config_maps, headers={"Accept": "application/json;as=Table;v=v2;g=meta.k8s.io"}).code == 406
