"""Discovery as kubectl and other clients use it, against a running server."""

from __future__ import annotations

import json

import pytest
from tests.support.api import Api

V2 = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
V2BETA1 = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList"


def test_kubectl_lists_the_resources(api: Api) -> None:
    lines = api.kubectl("api-resources", "-o", "wide", "--no-headers").stdout.splitlines()
    rows = {line.split()[0]: line.split() for line in lines}
    verbs = "create,delete,deletecollection,get,list,patch,update,watch"
    assert rows["pods"] == ["pods", "po", "v1", "true", "Pod", verbs, "all"]
    assert rows["leases"][1:4] == ["coordination.k8s.io/v1", "true", "Lease"]
    assert rows["bindings"] == ["bindings", "v1", "true", "Binding", "create"]
    assert rows["tokenreviews"] == ["tokenreviews", "authentication.k8s.io/v1", "false", "TokenReview", "create"]
    assert rows["localsubjectaccessreviews"][1:3] == ["authorization.k8s.io/v1", "true"]
    assert rows["namespaces"][5] == "create,delete,get,list,patch,update,watch"


@pytest.mark.parametrize(
    ("kind", "version", "spec"),
    [
        ("SelfSubjectReview", "authentication.k8s.io/v1", None),
        ("TokenReview", "authentication.k8s.io/v1", {"token": "x"}),
        ("SelfSubjectRulesReview", "authorization.k8s.io/v1", {"namespace": "default"}),
        (
            "SubjectAccessReview",
            "authorization.k8s.io/v1",
            {"user": "bob", "resourceAttributes": {"verb": "get", "resource": "pods"}},
        ),
    ],
)
def test_kubectl_creates_reviews(api: Api, kind: str, version: str, spec: object) -> None:
    manifest = {"apiVersion": version, "kind": kind, **({"spec": spec} if spec else {})}
    created = api.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(manifest))
    assert created.returncode == 0, created.stderr
    assert json.loads(created.stdout)["status"]


def test_kubectl_lists_the_api_versions(api: Api) -> None:
    assert api.kubectl("api-versions").stdout.split()[-1] == "v1"
    assert "coordination.k8s.io/v1" in api.kubectl("api-versions").stdout


@pytest.mark.parametrize("accept", [V2, V2BETA1])
@pytest.mark.parametrize("path", ["/api", "/apis"])
def test_a_client_that_has_the_document_gets_304(api: Api, path: str, accept: str) -> None:
    first = api.request("GET", path, headers={"Accept": accept})
    assert first.code == 200
    assert first.headers["Content-Type"] == accept
    assert "Accept" in first.headers["Vary"]
    again = api.request("GET", path, headers={"Accept": accept, "If-None-Match": first.headers["ETag"]})
    assert (again.code, again.raw) == (304, b"")
    assert api.request("GET", path, headers={"Accept": accept, "If-None-Match": '"other"'}).code == 200


def test_every_resource_that_is_listed_is_served(api: Api) -> None:
    versions = ["/api/v1"]
    for group in api.request("GET", "/apis").json["groups"]:
        versions += [f"/apis/{version['groupVersion']}" for version in group["versions"]]
    for version in versions:
        for resource in api.request("GET", version).json["resources"]:
            if "list" in resource["verbs"]:
                answer = api.request("GET", f"{version}/{resource['name']}?limit=1")
                assert answer.code == 200
                assert answer.json["kind"] == f"{resource['kind']}List"


def test_unknown_groups_and_versions_are_404(api: Api) -> None:
    for path in ("/apis/none.example.com", "/apis/apps/v9", "/api/v2"):
        answer = api.request("GET", path)
        assert (answer.code, answer.raw) == (404, b"404 page not found\n")


def test_discovery_is_yaml_for_those_who_ask(api: Api) -> None:
    answer = api.request("GET", "/api", headers={"Accept": "application/yaml"})
    assert answer.headers["Content-Type"] == "application/yaml"
    assert b"kind: APIVersions" in answer.raw


def test_kubectl_gets_raw_documents(api: Api) -> None:
    assert json.loads(api.kubectl("get", "--raw", "/api/v1").stdout)["groupVersion"] == "v1"
