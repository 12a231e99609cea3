"""Requests that are too big, in no namespace, for what does not exist, or updates that may not be; the server goes on."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import yaml
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.refusal import COLLECTIONS, apply, pod, strip
from tests.support.verdict import FORBIDDEN, INVALID, REQUIRED, TOO_LONG

UPDATABLE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n"
)


# -- size


def test_annotations_have_a_limit(cluster: Cluster, admin: Https) -> None:
    big = {
        "kind": "ConfigMap",
        "apiVersion": "v1",
        "metadata": {"name": "big", "annotations": {"a": "x" * (256 << 10)}},
    }
    answer = admin.request("POST", COLLECTIONS["ConfigMap"], big)
    text = "Too long: may not be more than 262144 bytes"
    assert strip(answer.json["details"]["causes"]) == [(TOO_LONG, "metadata.annotations", text)]
    told = apply(cluster, json.dumps(big))
    assert told == (1, "", f'The ConfigMap "big" is invalid: metadata.annotations: {text}\n')


def test_a_config_map_holds_a_megabyte(cluster: Cluster, admin: Https) -> None:
    big = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "big"}, "data": {"a": "x" * ((1 << 20) + 1)}}
    answer = admin.request("POST", COLLECTIONS["ConfigMap"], big)
    assert answer.code == 422
    assert answer.json["details"]["causes"][0]["message"] == "Too long: may not be more than 1048576 bytes"
    done = cluster.try_kubectl("create", "-f", "-", stdin=json.dumps(big))
    assert done.returncode == 1
    assert "Too long: may not be more than 1048576 bytes" in done.stderr


def test_a_request_holds_three_megabytes(cluster: Cluster) -> None:
    data = base64.b64encode(bytes(3 << 20)).decode()
    big = {"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "big"}, "data": {"a": data}}
    done = cluster.try_kubectl("create", "-f", "-", stdin=json.dumps(big))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Request entity is too large: limit is 3145728" in done.stderr


# -- where it may not be


def test_there_has_to_be_a_namespace(cluster: Cluster, admin: Https) -> None:
    manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: nowhere}"
    answer = admin.request("POST", "/api/v1/namespaces/nowhere/configmaps", yaml.safe_load(manifest))
    assert (answer.code, answer.json["reason"]) == (404, "NotFound")
    assert answer.json["details"] == {"name": "nowhere", "kind": "namespaces"}
    message = 'namespaces "nowhere" not found'
    assert apply(cluster, manifest) == (
        1,
        "",
        f'Error from server (NotFound): error when creating "STDIN": {message}\n',
    )


def test_nothing_is_created_in_a_namespace_that_goes(cluster: Cluster, admin: Https) -> None:
    name = unique("going")
    held = {"metadata": {"name": name, "finalizers": ["example.com/hold"]}}
    assert admin.request("POST", "/api/v1/namespaces", held).code == 201
    assert admin.request("DELETE", f"/api/v1/namespaces/{name}").code == 200
    try:
        answer = admin.request("POST", f"/api/v1/namespaces/{name}/configmaps", {"metadata": {"name": "a"}})
        message = (
            f'configmaps "a" is forbidden: unable to create new content in namespace {name} because it is being '
            "terminated"
        )
        assert (answer.code, answer.json["reason"], answer.message) == (403, "Forbidden", message)
        cause = ("NamespaceTerminating", "metadata.namespace", f"namespace {name} is being terminated")
        assert strip(answer.json["details"]["causes"]) == [cause]
        manifest = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, namespace: {name}}}"
        told = apply(cluster, manifest)
        assert told == (1, "", f'Error from server (Forbidden): error when creating "STDIN": {message}\n')
    finally:
        cluster.kubectl("patch", "namespace", name, "--type=merge", "-p", '{"metadata":{"finalizers":null}}')


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_the_first_namespaces_stay(cluster: Cluster, name: str) -> None:
    done = cluster.try_kubectl("delete", "namespace", name)
    assert done.returncode == 1
    assert done.stderr == (
        f'Error from server (Forbidden): namespaces "{name}" is forbidden: this namespace may not be deleted\n'
    )


# -- updates


@pytest.fixture(scope="module")
def waiting(cluster: Cluster) -> Iterator[str]:
    """The name of a Pod that no node can take."""
    name = unique("waiting")
    cluster.kubectl("apply", "-f", "-", stdin=_waiting(name))
    yield name
    cluster.kubectl("delete", "pod", name, "--now")


def _waiting(name: str, spec: str = "") -> str:
    return pod(
        f"{{nodeSelector: {{no: where}}, containers: [{{name: a, image: busybox}}], {spec}}}", metadata=f"name: {name}"
    )


@pytest.mark.parametrize(
    "spec",
    [
        "restartPolicy: Never",
        "hostNetwork: true",
        "serviceAccountName: other",
        "volumes: [{name: v, emptyDir: {}}]",
        "containers: [{name: b, image: busybox}]",
        "containers: [{name: a, image: busybox, command: [sh]}]",
        "containers: [{name: a, image: busybox, env: [{name: A, value: b}]}]",
        "terminationGracePeriodSeconds: 5",
    ],
)
def test_most_of_a_pod_is_immutable(cluster: Cluster, waiting: str, spec: str) -> None:
    code, out, told = apply(cluster, _waiting(waiting, spec))
    assert (code, out) == (1, "")
    assert told.startswith(f'The Pod "{waiting}" is invalid: ')
    assert f"spec: Forbidden: {UPDATABLE}" in told


class Update(NamedTuple):
    """A merge patch of the waiting Pod."""

    patch: str
    causes: tuple[tuple[str, str, str], ...]


@pytest.mark.parametrize(
    "case",
    [
        Update('{"metadata":{"uid":"1"}}', ((INVALID, "metadata.uid", 'Invalid value: "1": field is immutable'),)),
        Update(
            '{"spec":{"containers":null}}',
            (
                (REQUIRED, "spec.containers", "Required value"),
                (FORBIDDEN, "spec.containers", "Forbidden: pod updates may not add or remove containers"),
            ),
        ),
        Update(
            '{"spec":{"activeDeadlineSeconds":0}}',
            (
                (
                    INVALID,
                    "spec.activeDeadlineSeconds",
                    "Invalid value: 0: must be between 1 and 2147483647, inclusive",
                ),
            ),
        ),
    ],
)
def test_wrong_patches_of_a_pod(cluster: Cluster, admin: Https, waiting: str, case: Update) -> None:
    path = f"{COLLECTIONS['Pod']}/{waiting}"
    answer = admin.request("PATCH", path, case.patch, content_type="application/merge-patch+json")
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert strip(answer.json["details"]["causes"]) == list(case.causes)
    done = cluster.try_kubectl("patch", "pod", waiting, "--type=merge", "-p", case.patch)
    lines = [f"{field}: {message}" for _, field, message in case.causes]
    listed = lines[0] if len(lines) == 1 else "".join(f"\n* {line}" for line in lines)
    assert (done.returncode, done.stderr) == (1, f'The Pod "{waiting}" is invalid: {listed}\n')


@pytest.mark.parametrize(
    ("kind", "patch", "stderr"),
    [
        (
            "merge",
            '{"metadata":{"name":"x"}}',
            "Error from server (BadRequest): the name of the object (x) does not match",
        ),
        (
            "merge",
            '{"metadata":{"namespace":"x"}}',
            "Error from server (BadRequest): the namespace of the object (x) does",
        ),
        (
            "merge",
            '{"metadata":{"resourceVersion":"1"}}',
            'Error from server (Conflict): Operation cannot be fulfilled on pods "',
        ),
        (
            "strategic",
            '{"spec":{"containers":[{"image":"x"}]}}',
            "Error from server: map: map[image:x] does not contain ",
        ),
        (
            "json",
            '[{"op":"replace","path":"/spec/nope","value":1}]',
            "The request is invalid: the server rejected our request due to an error in our request\n",
        ),
        (
            "json",
            '[{"op":"test","path":"/spec/restartPolicy","value":1}]',
            "The request is invalid: the server rejected our request due to an error in our request\n",
        ),
    ],
)
def test_patches_that_do_not_apply(cluster: Cluster, waiting: str, kind: str, patch: str, stderr: str) -> None:
    done = cluster.try_kubectl("patch", "pod", waiting, f"--type={kind}", "-p", patch)
    assert done.returncode == 1
    last = [line for line in done.stderr.splitlines(keepends=True) if not line.startswith("Warning: ")]
    assert "".join(last).startswith(stderr)


@pytest.mark.parametrize(
    ("subresource", "missing"),
    [("resize", True), ("ephemeralcontainers", True), ("scale", False), ("nothing", False)],
)
def test_subresources_that_are_not_served_do_not_exist(
    cluster: Cluster, admin: Https, waiting: str, subresource: str, missing: bool
) -> None:
    answer = admin.request("PATCH", f"{COLLECTIONS['Pod']}/{waiting}/{subresource}", {})
    tail = f": pods/{subresource} is not implemented by Podling yet" if missing else ""
    assert (answer.code, answer.message) == (404, f"the server could not find the requested resource{tail}")
    served = [item["name"] for item in admin.request("GET", "/api/v1").json["resources"]]
    assert f"pods/{subresource}" not in served


def test_what_is_immutable_stays(cluster: Cluster) -> None:
    name = unique("fixed")
    cluster.kubectl("create", "configmap", name, "--from-literal=a=b")
    cluster.kubectl("patch", "configmap", name, "-p", '{"immutable":true}')
    changed = cluster.try_kubectl("patch", "configmap", name, "-p", '{"data":{"a":"c"}}')
    text = "Forbidden: field is immutable when `immutable` is set"
    assert changed.stderr == f'The ConfigMap "{name}" is invalid: data: {text}\n'
    thawed = cluster.try_kubectl("patch", "configmap", name, "-p", '{"immutable":false}')
    assert thawed.stderr == f'The ConfigMap "{name}" is invalid: immutable: {text}\n'
    cluster.kubectl("delete", "configmap", name)


def test_a_secret_keeps_its_type_and_a_service_its_address(cluster: Cluster) -> None:
    name = unique("fixed")
    cluster.kubectl("create", "secret", "generic", name)
    changed = cluster.try_kubectl("patch", "secret", name, "-p", '{"type":"example.com/other"}')
    assert changed.stderr == (
        f'The Secret "{name}" is invalid: type: Invalid value: "example.com/other": field is immutable\n'
    )
    cluster.kubectl("create", "service", "clusterip", name, "--tcp=80")
    address = cluster.service_cidr.replace("0/24", "99")
    moved = cluster.try_kubectl("patch", "service", name, "-p", json.dumps({"spec": {"clusterIP": address}}))
    assert moved.stderr == (
        f'The Service "{name}" is invalid: spec.clusterIPs[0]: Invalid value: ["{address}"]: may not change once set\n'
    )
    cluster.kubectl("delete", f"secret/{name}", f"service/{name}")


def test_finalizers_of_a_namespace_have_names(cluster: Cluster, admin: Https) -> None:
    name = unique("final")
    cluster.kubectl("create", "namespace", name)
    wrong = {"metadata": {"name": name}, "spec": {"finalizers": ["kubernetes", "no such"]}}
    answer = admin.request("PUT", f"/api/v1/namespaces/{name}/finalize", wrong)
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert {cause["field"] for cause in answer.json["details"]["causes"]} == {"spec.finalizers[1]"}
    cluster.kubectl("delete", "namespace", name)


# -- names, selectors


@pytest.mark.parametrize(
    ("argv", "stderr"),
    [
        (("get", "pod", "nope"), 'Error from server (NotFound): pods "nope" not found\n'),
        (("delete", "pod", "nope"), 'Error from server (NotFound): pods "nope" not found\n'),
        (("get", "pood"), 'error: the server doesn\'t have a resource type "pood"\n'),
        (
            ("create", "namespace", "default"),
            'Error from server (AlreadyExists): namespaces "default" already exists\n',
        ),
        (
            ("get", "pods", "-l", "a in"),
            'Error from server (BadRequest): Unable to find "/v1, Resource=pods" that match label selector "a in", field '
            "selector \"\": unable to parse requirement: found '' expected: '('\n",
        ),
        (
            ("get", "pods", "--field-selector", "spec.colour=red"),
            'Error from server (BadRequest): Unable to find "/v1, Resource=pods" that match label selector "", field '
            'selector "spec.colour=red": field label not supported: spec.colour\n',
        ),
        (
            ("get", "pods", "--as", "bob"),
            'Error from server (Forbidden): pods is forbidden: User "bob" cannot list resource "pods" in API group "" in '
            'the namespace "default"\n',
        ),
    ],
)
def test_wrong_questions_are_answered_as_upstream_does(cluster: Cluster, argv: tuple[str, ...], stderr: str) -> None:
    done = cluster.try_kubectl(*argv)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", stderr)


def test_the_server_serves_on(cluster: Cluster, admin: Https) -> None:
    assert admin.request("GET", "/livez").raw == b"ok"
    assert cluster.kubectl("get", "namespace", "default", "-o", "name") == "namespace/default\n"
