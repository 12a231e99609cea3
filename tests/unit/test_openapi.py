from __future__ import annotations

import gzip
import importlib.resources
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from tools import generate_openapi

from podling.api import shape
from podling.api.scheme import SERVED
from podling.api.status import ApiError
from podling.apiserver import discovery, openapi
from podling.apiserver.openapi import gnostic, operations
from podling.apiserver.openapi.handler import PROTOBUF
from podling.apiserver.strategies import table
from podling.apiserver.strategies.service import ServiceStrategy
from podling.apiserver.strategy import Strategy

VERSIONS = sorted({resource.root for resource in SERVED})
CLIENT_GO = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


def load(path: str, accept: str = "application/json") -> Any:
    document = openapi.handle(path, {}, accept)
    assert document is not None
    return json.loads(document.body)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from references(item)


def test_the_file_is_what_the_generator_makes() -> None:
    packed = (importlib.resources.files("podling.apiserver.openapi") / "schemas.json.gz").read_bytes()
    assert json.loads(gzip.decompress(packed)) == generate_openapi.definitions()


@pytest.mark.parametrize("root", VERSIONS)
def test_every_reference_of_a_version_leads_somewhere(root: str) -> None:
    document = load(f"/openapi/v3{root}")
    schemas = document["components"]["schemas"]
    found = set(references(document))
    assert found == {f"#/components/schemas/{name}" for name in schemas}, "all that is referred to, nothing else"


def test_every_reference_of_v2_leads_somewhere() -> None:
    document = load("/openapi/v2")
    targets = {f"#/definitions/{name}" for name in document["definitions"]}
    targets |= {f"#/parameters/{name}" for name in document["parameters"]}
    assert set(references(document)) == targets


@pytest.mark.parametrize("root", VERSIONS)
def test_the_paths_are_those_of_discovery(root: str) -> None:
    methods = {
        "create": "post",
        "delete": "delete",
        "deletecollection": "delete",
        "get": "get",
        "list": "get",
        "patch": "patch",
        "update": "put",
    }
    expected = set()
    listed = discovery.handle(root, "")
    assert listed is not None
    for resource in json.loads(listed.body)["resources"]:
        plural, _, part = resource["name"].partition("/")
        base = f"{root}/namespaces/{{namespace}}/{plural}" if resource["namespaced"] else f"{root}/{plural}"
        for verb in set(resource["verbs"]) & set(methods):
            if part:
                expected.add((f"{base}/{{name}}/{part}", methods[verb]))
            elif verb in ("create", "list", "deletecollection"):
                expected.add((base, methods[verb]))
                if verb == "list":
                    expected.add((f"{root}/{plural}", "get"))
            else:
                expected.add((f"{base}/{{name}}", methods[verb]))
    paths = load(f"/openapi/v3{root}")["paths"]
    assert {(path, method) for path, item in paths.items() for method in item if method != "parameters"} == expected
    in_v2 = load("/openapi/v2")["paths"]
    for path, item in paths.items():
        assert in_v2[path].keys() == item.keys()


@pytest.mark.parametrize("root", VERSIONS)
def test_kubectl_finds_out_that_patches_are_validated_here(root: str) -> None:
    """As its verifier looks: a query parameter fieldValidation of the patch operation of the kind."""
    paths = load(f"/openapi/v3{root}")["paths"]
    for resource in SERVED:
        if resource.root != root or "patch" not in resource.verbs:
            continue
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        patches = [item["patch"] for item in paths.values() if "patch" in item]
        (patch, *_) = (item for item in patches if item["x-kubernetes-group-version-kind"] == kind)
        assert {"fieldValidation", "dryRun"} <= {p["name"] for p in patch["parameters"] if p["in"] == "query"}
        assert patch["x-kubernetes-action"] == "patch"


def test_operation_ids_are_unique_and_named_as_upstreams() -> None:
    ids = [
        operation["operationId"]
        for path in load("/openapi/v2")["paths"].values()
        for method, operation in path.items()
        if method != "parameters"
    ]
    assert len(ids) == len(set(ids))
    assert {
        "listCoreV1NamespacedPod",
        "listCoreV1PodForAllNamespaces",
        "createCoreV1NamespacedPodBinding",
        "deleteCoreV1CollectionNamespacedConfigMap",
        "readCoreV1NamespacedPodLog",
        "patchCoreV1NodeStatus",
        "replaceCoordinationV1NamespacedLease",
        "deleteCoreV1Namespace",
    } <= set(ids)


@pytest.mark.parametrize("resource", SERVED, ids=lambda resource: resource.qualified)
def test_the_schemas_know_the_fields_of_the_types(resource: Any) -> None:
    """The types and the schemas come from the same definitions; a field that only one of them has was forgotten."""
    schemas = load(f"/openapi/v3{resource.root}")["components"]["schemas"]
    schema = schemas[operations.definition(resource.type)]
    assert set(schema["properties"]) == set(shape.fields(resource.type))
    kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
    assert schema["x-kubernetes-group-version-kind"] == [kind]


def test_lists_have_their_merge_keys() -> None:
    schemas = load("/openapi/v3/api/v1")["components"]["schemas"]
    containers = schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"]
    assert containers["x-kubernetes-patch-merge-key"] == "name"
    assert containers["x-kubernetes-patch-strategy"] == "merge"
    assert containers["x-kubernetes-list-map-keys"] == ["name"]
    assert containers["description"]


def test_a_reference_in_v3_has_nothing_beside_it() -> None:
    def check(value: Any) -> None:
        if isinstance(value, dict):
            assert not isinstance(value.get("$ref"), str) or len(value) == 1
            value = list(value.values())
        if isinstance(value, list):
            for item in value:
                check(item)

    check(load("/openapi/v3/api/v1"))


def test_the_index_names_every_version_with_the_hash_of_its_document() -> None:
    index = load("/openapi/v3")["paths"]
    assert sorted(index) == [root.strip("/") for root in VERSIONS]
    for name, entry in index.items():
        path, _, tag = entry["serverRelativeURL"].partition("?hash=")
        assert path == f"/openapi/v3/{name}"
        document = openapi.handle(path, {"hash": tag}, "")
        assert document is not None
        assert (document.etag, document.immutable) == (tag, True)
        stale = openapi.handle(path, {"hash": "old"}, "")
        assert stale is not None
        assert not stale.immutable


def test_a_client_that_has_a_document_costs_nothing() -> None:
    for path in ("/openapi/v2", "/openapi/v3/api/v1"):
        document = openapi.handle(path, {}, "application/json")
        assert document is not None
        again = openapi.handle(path, {}, "application/json", f'"{document.etag}"')
        assert again is not None
        assert (again.etag, again.body) == (document.etag, b"")


# gnostic's protobuf, read back with a reader of our own that knows only the wire format


def fields(message: bytes) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        if key & 7 == 0:
            found.setdefault(key >> 3, []).append(varint())
        else:
            assert key & 7 == 2
            size = varint()
            found.setdefault(key >> 3, []).append(message[at : at + size])
            at += size
    assert at == len(message)
    return found


def named(message: bytes, number: int = 1) -> dict[str, bytes]:
    pairs = (fields(item) for item in fields(message)[number])
    return {pair[1][0].decode(): pair[2][0] for pair in pairs}


def schema_of(message: bytes) -> dict[str, Any]:
    """A Schema message as JSON."""
    found = fields(message)
    result: dict[str, Any] = {}
    for number, name in ((1, "$ref"), (2, "format"), (4, "description")):
        if number in found:
            result[name] = found[number][0].decode()
    if 5 in found:
        result["default"] = json.loads(fields(found[5][0])[2][0])
    if 19 in found:
        result["required"] = [item.decode() for item in found[19]]
    if 21 in found:
        result["additionalProperties"] = schema_of(fields(found[21][0])[1][0])
    if 22 in found:
        result["type"] = fields(found[22][0])[1][0].decode()
    if 23 in found:
        result["items"] = schema_of(fields(found[23][0])[1][0])
    if 25 in found:
        result["properties"] = {name: schema_of(value) for name, value in named(found[25][0]).items()}
    for extension in found.get(31, ()):
        pair = fields(extension)
        result[pair[1][0].decode()] = json.loads(fields(pair[2][0])[2][0])
    return result


def test_the_protobuf_holds_the_same_schemas_as_the_json() -> None:
    document = openapi.handle("/openapi/v2", {}, CLIENT_GO)
    assert document is not None
    assert document.content_type == PROTOBUF
    found = fields(document.body)
    expected = load("/openapi/v2")
    assert found[1] == [b"2.0"]
    assert {name: schema_of(value) for name, value in named(found[9][0]).items()} == expected["definitions"]
    assert named(found[8][0], 2).keys() == expected["paths"].keys()
    assert named(found[10][0]).keys() == expected["parameters"].keys()


def test_the_protobuf_holds_the_operations() -> None:
    document = openapi.handle("/openapi/v2", {}, CLIENT_GO)
    assert document is not None
    item = fields(named(fields(document.body)[8][0], 2)["/api/v1/namespaces/{namespace}/pods/{name}"])
    assert set(item) == {2, 3, 5, 8, 9}
    patch = fields(item[8][0])
    assert patch[5] == [b"patchCoreV1NamespacedPod"]
    extensions = {fields(e)[1][0]: json.loads(fields(fields(e)[2][0])[2][0]) for e in patch[13]}
    assert extensions[b"x-kubernetes-group-version-kind"] == {"group": "", "version": "v1", "kind": "Pod"}
    query = [fields(fields(p)[2][0])[1][0].decode() for p in patch[8] if 2 in fields(p)]
    assert query == ["#/parameters/dryRun", "#/parameters/fieldValidation"]


def test_what_protobuf_has_no_place_for_is_an_error_and_not_lost() -> None:
    with pytest.raises(ValueError, match="no place for 'oneOf'"):
        gnostic.encode({"definitions": {"X": {"oneOf": []}}})


@pytest.mark.parametrize("path", ["/openapi", "/openapi/v3/api", "/openapi/v3/api/v2", "/openapi/v2/x", "/openapi/v4"])
def test_there_is_nothing_elsewhere(path: str) -> None:
    assert openapi.handle(path, {}, "") is None


@pytest.mark.parametrize(
    ("path", "accept"),
    [("/openapi/v2", "text/html"), ("/openapi/v3/api/v1", CLIENT_GO), ("/openapi/v3", "application/yaml")],
)
def test_other_media_types_are_406(path: str, accept: str) -> None:
    with pytest.raises(ApiError) as error:
        openapi.handle(path, {}, accept)
    assert error.value.code == 406


def test_descriptions_are_not_ours_to_lose() -> None:
    text = json.dumps(load("/openapi/v3/api/v1")["components"]["schemas"])
    assert len(re.findall('"description"', text)) > 1000


def test_the_answer_to_a_deletion_is_documented_as_the_server_gives_it() -> None:
    strategies = {resource.plural: table._BY_TYPE.get(resource.type, Strategy) for resource in SERVED}
    strategies["services"] = ServiceStrategy
    returned = {plural for plural, strategy in strategies.items() if strategy.returns_deleted}
    assert returned == operations.RETURNED_WHEN_DELETED
