"""kubectl with our OpenAPI documents, against a running server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from tests.support.api import Api, pod

PROTOBUF = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf"


@pytest.mark.parametrize("output", ["plaintext", "plaintext-openapiv2"])
def test_kubectl_explains_fields_with_types_and_descriptions(api: Api, output: str) -> None:
    done = api.kubectl("explain", "pod.spec.containers", "--output", output)
    assert done.returncode == 0, done.stderr
    assert "KIND:       Pod" in done.stdout or "KIND:     Pod" in done.stdout
    assert "List of containers belonging to the pod." in done.stdout
    for field, type_name in (("image", "string"), ("ports", r"\[\](ContainerPort|Object)"), ("tty", "boolean")):
        assert re.search(rf"^  +{field}\s+<{type_name}>", done.stdout, re.MULTILINE), field
    assert re.search(r"name\s+<string> -required-", done.stdout)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("pods.spec.containers.resources.limits", "<map[string]Quantity>"),
        ("pods.spec.containers.livenessProbe.httpGet.port", "<IntOrString>"),
        ("pod.metadata.creationTimestamp", "<string>"),
        ("pod.metadata.labels", "<map[string]string>"),
        ("leases.spec.leaseDurationSeconds", "<integer>"),
        ("events.involvedObject", "<ObjectReference>"),
        ("nodes.status.addresses.type", "<string>"),
    ],
)
def test_kubectl_explains_the_type_of(api: Api, field: str, expected: str) -> None:
    done = api.kubectl("explain", field)
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout


def test_kubectl_explains_everything_below_a_pod(api: Api) -> None:
    done = api.kubectl("explain", "pod", "--recursive")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 700


def test_kubectl_names_a_field_that_does_not_exist(api: Api) -> None:
    done = api.kubectl("explain", "pod.spec.contaners")
    assert done.returncode == 1
    assert 'field "contaners" does not exist' in done.stderr


def test_strict_apply_leaves_validation_to_the_server(api: Api, namespace: str) -> None:
    manifest = pod("strict")
    manifest["spec"]["contaners"] = []
    done = api.kubectl("apply", "-n", namespace, "--validate=strict", "-f", "-", stdin=yaml.safe_dump(manifest))
    assert done.returncode == 1
    assert 'strict decoding error: unknown field "spec.contaners"' in done.stderr


def test_apply_merges_lists_by_the_keys_in_the_schema(api: Api, namespace: str) -> None:
    """kubectl makes a strategic merge patch out of x-kubernetes-patch-merge-key; without it containers are replaced."""
    first = pod("merged", containers=("a",), metadata={"annotations": {"kept": "1"}})
    assert api.kubectl("apply", "-n", namespace, "-f", "-", stdin=yaml.safe_dump(first)).returncode == 0
    first["spec"]["containers"][0]["image"] = "nginx:1.28"
    done = api.kubectl("apply", "-n", namespace, "-f", "-", "-v=8", stdin=yaml.safe_dump(first))
    assert done.returncode == 0, done.stderr
    assert "application/strategic-merge-patch+json" in done.stderr
    assert "$setElementOrder/containers" in done.stderr


def test_the_documents_are_fetched_once(api: Api, tmp_path: Path) -> None:
    index = api.get("/openapi/v3").json["paths"]
    url = index["api/v1"]["serverRelativeURL"]
    first = api.get(url)
    assert first.headers["Cache-Control"] == "public, immutable"
    assert first.headers["ETag"] == f'"{url.partition("hash=")[2]}"'
    assert api.get("/openapi/v3/api/v1").headers["Cache-Control"] == "public"
    assert api.get(url, headers={"If-None-Match": first.headers["ETag"]}).code == 304


def test_openapi_v2_has_an_etag_for_each_form(api: Api) -> None:
    tags = set()
    for accept in ("application/json", PROTOBUF):
        answer = api.get("/openapi/v2", headers={"Accept": accept})
        assert (answer.code, len(answer.raw) > 100_000) == (200, True)
        tags.add(answer.headers["ETag"])
        assert api.get("/openapi/v2", headers={"Accept": accept, "If-None-Match": answer.headers["ETag"]}).code == 304
    assert len(tags) == 2


def test_what_is_not_there_is_404_and_what_is_not_served_406(api: Api) -> None:
    assert api.get("/openapi/v3/apis/none/v1").code == 404
    assert api.get("/openapi/v4").code == 404
    assert api.get("/openapi/v2", headers={"Accept": "text/html"}).code == 406
