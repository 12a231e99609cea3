from __future__ import annotations

import json
from typing import Any

import pytest

from podling.api.scheme import SERVED
from podling.api.status import ApiError
from podling.apiserver import discovery
from podling.apiserver.document import matches

KUBECTL = (
    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,"
    "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
)


def load(path: str, accept: str = "application/json") -> Any:
    document = discovery.handle(path, accept, "127.0.0.1:6443")
    assert document is not None
    return json.loads(document.body)


def test_the_legacy_group_has_its_version_and_the_servers_address() -> None:
    assert load("/api") == {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": "127.0.0.1:6443"}],
    }


def test_a_group_alone_is_what_the_list_says_of_it() -> None:
    for group in load("/apis")["groups"]:
        alone = load(f"/apis/{group['name']}")
        assert alone == {"kind": "APIGroup", "apiVersion": "v1", **group}


def test_every_resource_and_subresource_is_listed_once_with_its_names() -> None:
    for resource in SERVED:
        listed = {item["name"]: item for item in load(resource.root)["resources"]}
        if resource.verbs:
            entry = listed[resource.plural]
            assert entry["verbs"] == sorted(resource.verbs)
            assert entry.get("shortNames", []) == list(resource.short_names)
            assert entry["singularName"] == resource.singular
        for item in resource.subresources:
            entry = listed[f"{resource.plural}/{item.name}"]
            assert (entry["kind"], entry["singularName"]) == (item.kind, "")


def test_aggregated_and_plain_discovery_agree() -> None:
    for root in ("/api", "/apis"):
        for group in load(root, KUBECTL)["items"]:
            name = group["metadata"].get("name", "")
            for version in group["versions"]:
                plain = load(f"/apis/{name}/{version['version']}" if name else f"/api/{version['version']}")
                names = []
                for resource in version["resources"]:
                    names += [resource["resource"]] if resource["verbs"] else []
                    names += [f"{resource['resource']}/{s['subresource']}" for s in resource.get("subresources", [])]
                assert names == [item["name"] for item in plain["resources"]]


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "APIGroupList"),
        ("*/*", "APIGroupList"),
        (KUBECTL, "APIGroupDiscoveryList"),
        ("application/json;q=0.9," + KUBECTL.partition(",")[0], "APIGroupDiscoveryList"),
        ("application/json," + KUBECTL, "APIGroupList"),
        ("application/json;g=apidiscovery.k8s.io;v=v9;as=APIGroupDiscoveryList,application/json", "APIGroupList"),
        ("application/vnd.kubernetes.protobuf;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,*/*", "APIGroupList"),
    ],
)
def test_the_accept_header_chooses(accept: str, kind: str) -> None:
    assert load("/apis", accept)["kind"] == kind


def test_the_content_type_names_the_version_served() -> None:
    document = discovery.handle("/apis", KUBECTL)
    assert document is not None
    assert document.content_type == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"


def test_a_media_type_that_is_not_served_is_406() -> None:
    with pytest.raises(ApiError) as error:
        discovery.handle("/apis", "application/xml")
    assert error.value.code == 406


@pytest.mark.parametrize("path", ["/apis/none", "/apis/apps/v9", "/api/v2", "/apis//v1", "/api/v1/pods/x/y"])
def test_there_is_nothing_elsewhere(path: str) -> None:
    assert discovery.handle(path, "") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [('"A"', True), ('W/"A"', True), ('"B", "A"', True), ("*", True), ('"B"', False), ("", False)],
)
def test_if_none_match(header: str, expected: bool) -> None:
    assert matches("A", header) is expected
