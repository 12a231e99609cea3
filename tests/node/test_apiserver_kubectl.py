"""Unmodified kubectl against the API server alone (no scheduler, no kubelet)."""

from __future__ import annotations

import json

import pytest
from tests.support.api import Api, pod
from tests.support.cluster import deletions

NGINX = """\
apiVersion: v1
kind: Pod
metadata:
  name: nginx
  labels:
    app: nginx
spec:
  containers:
  - name: nginx
    image: nginx
    ports:
    - containerPort: 80
"""


def _run(api: Api, namespace: str, *argv: str, stdin: str | None = None) -> str:
    done = api.kubectl("-n", namespace, *argv, stdin=stdin)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _fail(api: Api, namespace: str, *argv: str, stdin: str | None = None) -> str:
    done = api.kubectl("-n", namespace, *argv, stdin=stdin)
    assert done.returncode != 0, done.stdout
    return done.stderr


def test_apply_creates_changes_and_leaves_alone(api: Api, namespace: str) -> None:
    assert _run(api, namespace, "apply", "-f", "-", stdin=NGINX) == "pod/nginx created\n"
    assert _run(api, namespace, "apply", "-f", "-", stdin=NGINX) == "pod/nginx unchanged\n"
    changed = NGINX.replace("app: nginx", "tier: web")
    assert _run(api, namespace, "apply", "-f", "-", stdin=changed) == "pod/nginx configured\n"
    labels = _run(api, namespace, "get", "pod", "nginx", "-o", "jsonpath={.metadata.labels}")
    assert json.loads(labels) == {"tier": "web"}


def test_get_prints_tables_names_json_and_yaml(api: Api, namespace: str) -> None:
    _run(api, namespace, "create", "-f", "-", stdin=NGINX)
    table = _run(api, namespace, "get", "pods").splitlines()
    assert table[0].split() == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert table[1].split()[:4] == ["nginx", "0/1", "Pending", "0"]
    wide = _run(api, namespace, "get", "pods", "-o", "wide").splitlines()[0]
    assert wide.split()[5:] == ["IP", "NODE", "NOMINATED", "NODE", "READINESS", "GATES"]
    assert _run(api, namespace, "get", "pods", "-o", "name") == "pod/nginx\n"
    assert json.loads(_run(api, namespace, "get", "pod", "nginx", "-o", "json"))["kind"] == "Pod"
    assert "image: nginx\n" in _run(api, namespace, "get", "pod", "nginx", "-o", "yaml")
    assert "nginx" in _run(api, namespace, "get", "all", "-l", "app=nginx")
    assert _run(api, namespace, "get", "pods", "--field-selector", "status.phase=Running", "-o", "name") == ""
    columns = ("-o", "custom-columns=N:.metadata.name,P:.status.phase", "--no-headers")
    assert _run(api, namespace, "get", "pods", *columns).split() == ["nginx", "Pending"]


def test_get_asks_for_large_lists_in_pages(api: Api, namespace: str, config_maps: str) -> None:
    for number in range(7):
        api.create(config_maps, {"metadata": {"name": f"c{number}"}})
    names = _run(api, namespace, "get", "configmaps", "--chunk-size=3", "-o", "name").split()
    assert names == [f"configmap/c{number}" for number in range(7)]


def test_label_annotate_patch_and_replace(api: Api, namespace: str) -> None:
    _run(api, namespace, "create", "-f", "-", stdin=NGINX)
    _run(api, namespace, "label", "pod", "nginx", "a=b")
    assert "already has a value (b)" in _fail(api, namespace, "label", "pod", "nginx", "a=c")
    _run(api, namespace, "label", "pod", "nginx", "a-")
    _run(api, namespace, "annotate", "pod", "nginx", "note=hello")
    _run(api, namespace, "patch", "pod", "nginx", "-p", '{"spec":{"activeDeadlineSeconds":60}}')
    _run(
        api, namespace, "patch", "pod", "nginx", "--type=json", "-p", '[{"op":"remove","path":"/metadata/annotations"}]'
    )
    now = json.loads(_run(api, namespace, "get", "pod", "nginx", "-o", "json"))
    assert now["metadata"]["labels"] == {"app": "nginx"}
    assert "annotations" not in now["metadata"]
    assert now["spec"]["activeDeadlineSeconds"] == 60
    now["metadata"]["labels"]["x"] = "y"
    assert _run(api, namespace, "replace", "-f", "-", stdin=json.dumps(now)) == "pod/nginx replaced\n"
    assert "the object has been modified" in _fail(api, namespace, "replace", "-f", "-", stdin=json.dumps(now))


def test_typed_create_commands_work(api: Api, namespace: str) -> None:
    _run(api, namespace, "create", "configmap", "c", "--from-literal=a=b")
    _run(api, namespace, "create", "secret", "generic", "s", "--from-literal=k=v")
    _run(api, namespace, "create", "serviceaccount", "robot")
    _run(api, namespace, "create", "service", "nodeport", "np", "--tcp=80:8080")
    assert _run(api, namespace, "get", "cm", "c", "-o", "jsonpath={.data.a}") == "b"
    assert _run(api, namespace, "get", "secret", "s", "-o", "jsonpath={.data.k}") == "dg=="
    assert _run(api, namespace, "get", "service", "np", "-o", "jsonpath={.spec.ports[0].targetPort}") == "8080"
    assert _run(api, namespace, "create", "token", "robot").count(".") == 2
    assert "already exists" in _fail(api, namespace, "create", "serviceaccount", "robot")


def test_delete_by_name_label_and_all(api: Api, namespace: str, pods: str) -> None:
    for name, colour in (("a", "red"), ("b", "red"), ("c", "blue"), ("d", "blue")):
        api.create(pods, pod(name, labels={"colour": colour}))
    assert deletions(_run(api, namespace, "delete", "pod", "a", "--now")) == 'pod "a" deleted\n'
    assert _run(api, namespace, "delete", "pods", "-l", "colour=red").split()[1] == '"b"'
    assert 'pod "c" force deleted' in _run(api, namespace, "delete", "pod", "c", "--force", "--grace-period=0")
    _run(api, namespace, "delete", "pods", "--all")
    assert _run(api, namespace, "get", "pods", "-o", "name") == ""
    assert 'Error from server (NotFound): pods "a" not found' in _fail(api, namespace, "delete", "pod", "a")


def test_wait_and_run(api: Api, namespace: str) -> None:
    _run(api, namespace, "run", "web", "--image=nginx", "--labels=a=b")
    _run(api, namespace, "wait", "pod/web", "--for=jsonpath={.status.phase}=Pending", "--timeout=10s")
    assert "timed out" in _fail(api, namespace, "wait", "pod/web", "--for=condition=Ready", "--timeout=1s")
    _run(api, namespace, "delete", "pod", "web", "--wait=false")
    _run(api, namespace, "wait", "pod/web", "--for=delete", "--timeout=10s")


def test_describe_shows_events(api: Api, namespace: str, pods: str) -> None:
    made = api.create(pods, pod())
    metadata = made["metadata"]
    involved = {"apiVersion": "v1", "kind": "Pod", "namespace": namespace, "name": "web", "uid": metadata["uid"]}
    api.create(
        f"/api/v1/namespaces/{namespace}/events",
        {
            "metadata": {"name": "web.1"},
            "involvedObject": involved,
            "reason": "FailedScheduling",
            "message": "0/1 nodes are available",
            "type": "Warning",
            "source": {"component": "default-scheduler"},
            "firstTimestamp": metadata["creationTimestamp"],
            "lastTimestamp": metadata["creationTimestamp"],
            "count": 1,
        },
    )
    described = _run(api, namespace, "describe", "pod", "web")
    assert "FailedScheduling" in described
    assert "0/1 nodes are available" in described
    assert "FailedScheduling" in _run(api, namespace, "get", "events")
    assert "FailedScheduling" in _run(api, namespace, "events", "--for", "pod/web")


def test_auth_commands_answer(api: Api, namespace: str) -> None:
    assert "kubernetes-admin" in _run(api, namespace, "auth", "whoami")
    assert _run(api, namespace, "auth", "can-i", "delete", "pods") == "yes\n"
    denied = api.kubectl("-n", namespace, "--as=bob", "auth", "can-i", "delete", "pods")
    assert (denied.stdout, denied.returncode) == ("no\n", 1)
    assert 'User "bob" cannot list resource "pods"' in _fail(api, namespace, "--as=bob", "get", "pods")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("image: nginx\n", "image: nginx\n    colour: red\n"), 'unknown field "spec.containers[0].colour"'),
        (("name: nginx\n  labels", "name: Nginx\n  labels"), "a lowercase RFC 1123 subdomain must consist of"),
        (("containerPort: 80\n", "containerPort: eighty\n"), "cannot unmarshal string into Go struct field"),
        (("containerPort: 80\n", "containerPort: 80000\n"), "must be between 1 and 65535, inclusive"),
        (("kind: Pod", "kind: Pad"), 'no matches for kind "Pad" in version "v1"'),
    ],
)
def test_wrong_manifests_are_explained(api: Api, namespace: str, change: tuple[str, str], message: str) -> None:
    assert message in _fail(api, namespace, "apply", "-f", "-", stdin=NGINX.replace(*change))


def test_cluster_commands_work(api: Api, namespace: str) -> None:
    assert "Server Version: v1.36.0+podling" in _run(api, namespace, "version")
    assert f"is running at {api.server.url}" in _run(api, namespace, "cluster-info")
    assert _run(api, namespace, "get", "--raw", "/readyz") == "ok"
    assert "default" in _run(api, namespace, "get", "namespaces", "-o", "name")
