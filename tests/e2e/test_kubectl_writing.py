"""kubectl's writing verbs, as typed by a person and compared with what a Kubernetes cluster prints."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from tests.support.cluster import Cluster, deletions
from tests.support.kubectl import columns, error
from tests.support.pods import container, items, object_, pod

NGINX = (Path(__file__).parents[2] / "examples" / "nginx.yaml").read_text()


# -- writing


def test_apply_creates_then_configures_then_leaves_unchanged(cluster: Cluster, namespace: str) -> None:
    assert cluster.apply(NGINX) == "pod/nginx created\n"
    assert cluster.apply(NGINX) == "pod/nginx unchanged\n"
    labelled = NGINX.replace("    app: nginx", "    app: nginx\n    tier: web")
    assert cluster.apply(labelled) == "pod/nginx configured\n"
    cluster.kubectl("label", "pod", "nginx", "by=hand")
    assert cluster.apply(NGINX) == "pod/nginx configured\n"
    # What was applied and is not any more goes; what others wrote stays.
    assert cluster.get("pod", "nginx")["metadata"]["labels"] == {"app": "nginx", "by": "hand"}
    with_image = NGINX.replace("image: nginx", "image: nginx:1.25")
    assert cluster.apply(with_image) == "pod/nginx configured\n"
    assert cluster.get("pod", "nginx")["spec"]["containers"][0]["image"] == "nginx:1.25"


def test_apply_merges_three_ways(cluster: Cluster, namespace: str) -> None:
    service = object_(
        "Service",
        "web",
        spec={
            "selector": {"app": "web", "tier": "front"},
            "ports": [{"name": "http", "port": 80}, {"name": "https", "port": 443}],
        },
    )
    config = object_("ConfigMap", "settings", data={"keep": "1", "drop": "2"})
    config["metadata"]["annotations"] = {"note": "a"}
    both = json.dumps(items(service, config))
    assert cluster.apply(both) == "service/web created\nconfigmap/settings created\n"
    before = cluster.get("service", "web")["spec"]
    cluster.kubectl("patch", "configmap", "settings", "--type=merge", "-p", '{"data": {"others": "3"}}')
    del service["spec"]["selector"]["tier"]
    service["spec"]["ports"].pop()
    del config["data"]["drop"]
    del config["metadata"]["annotations"]
    assert cluster.apply(items(service, config)) == "service/web configured\nconfigmap/settings configured\n"
    after = cluster.get("service", "web")["spec"]
    assert after["selector"] == {"app": "web"}
    assert [port["name"] for port in after["ports"]] == ["http"]
    assert after["clusterIP"] == before["clusterIP"]
    found = cluster.get("configmap", "settings")
    assert found["data"] == {"keep": "1", "others": "3"}
    assert set(found["metadata"]["annotations"]) == {"kubectl.kubernetes.io/last-applied-configuration"}


def test_apply_refuses_what_cannot_change_in_a_pod(cluster: Cluster, namespace: str) -> None:
    cluster.apply(NGINX)
    said = error(cluster, "apply", "-f", "-", stdin=NGINX.replace("containerPort: 80", "containerPort: 81"))
    assert 'The Pod "nginx" is invalid: spec: Forbidden: pod updates may not change fields other than' in said
    said = error(cluster, "apply", "-f", "-", stdin=NGINX.replace("image:", "imagee:"))
    assert 'strict decoding error: unknown field "spec.containers[0].imagee"' in said


def test_apply_of_a_directory_and_prune_by_hand(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(object_("ConfigMap", name, data={"k": name})))
    assert cluster.kubectl("apply", "-f", str(tmp_path)) == "configmap/a created\nconfigmap/b created\n"
    assert deletions(cluster.kubectl("delete", "-f", str(tmp_path))) == 'configmap "a" deleted\nconfigmap "b" deleted\n'
    assert cluster.kubectl("delete", "-f", str(tmp_path), "--ignore-not-found") == ""


def test_dry_run_and_diff_change_nothing(cluster: Cluster, namespace: str) -> None:
    assert cluster.apply(NGINX, "--dry-run=server") == "pod/nginx created (server dry run)\n"
    assert 'pods "nginx" not found' in error(cluster, "get", "pod", "nginx")
    cluster.apply(object_("ConfigMap", "c", data={"k": "old"}))
    changed = json.dumps(object_("ConfigMap", "c", data={"k": "new"}))
    done = cluster.try_kubectl("diff", "-f", "-", stdin=changed)
    assert done.returncode == 1, done.stderr
    assert "-  k: old" in done.stdout
    assert "+  k: new" in done.stdout
    assert cluster.get("configmap", "c")["data"] == {"k": "old"}


def test_create_and_its_errors(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    assert cluster.kubectl("create", "-f", "-", stdin=NGINX) == "pod/nginx created\n"
    said = error(cluster, "create", "-f", "-", stdin=NGINX)
    assert said == 'Error from server (AlreadyExists): error when creating "STDIN": pods "nginx" already exists'
    (tmp_path / "file").write_text("from file\n")
    (tmp_path / "env").write_text("A=1\nB=2\n")
    argv = ["create", "configmap", "c", "--from-literal=k=v", f"--from-file={tmp_path / 'file'}"]
    assert cluster.kubectl(*argv) == "configmap/c created\n"
    assert cluster.get("configmap", "c")["data"] == {"k": "v", "file": "from file\n"}
    assert error(cluster, *argv) == 'error: failed to create configmap: configmaps "c" already exists'
    cluster.kubectl("create", "configmap", "e", f"--from-env-file={tmp_path / 'env'}")
    assert cluster.get("configmap", "e")["data"] == {"A": "1", "B": "2"}
    assert cluster.kubectl("create", "serviceaccount", "robot") == "serviceaccount/robot created\n"
    token = cluster.kubectl("create", "token", "robot", "--duration=10m").strip()
    assert token.count(".") == 2
    assert cluster.kubectl("create", "service", "clusterip", "s", "--tcp=80:8080") == "service/s created\n"
    (port,) = cluster.get("service", "s")["spec"]["ports"]
    assert (port["name"], port["port"], port["targetPort"], port["protocol"]) == ("80-8080", 80, 8080, "TCP")
    other = f"{namespace}-other"
    assert cluster.kubectl("create", "namespace", other) == f"namespace/{other} created\n"
    assert cluster.kubectl("delete", "namespace", other) == f'namespace "{other}" deleted\n'


def test_create_secrets(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.kubectl("create", "secret", "generic", "g", "--from-literal=password=wonder land")
    generic = cluster.get("secret", "g")
    assert generic["type"] == "Opaque"
    assert base64.b64decode(generic["data"]["password"]) == b"wonder land"
    pki = cluster.data_dir / "pki"
    certificate, key = pki / "admin.crt", pki / "admin.key"
    cluster.kubectl("create", "secret", "tls", "t", f"--cert={certificate}", f"--key={key}")
    tls = cluster.get("secret", "t")
    assert (tls["type"], set(tls["data"])) == ("kubernetes.io/tls", {"tls.crt", "tls.key"})
    login = ["--docker-server=dregistry.azurecr.io", "--docker-username=alice", "--docker-password=wonderland"]
    argv = ["create", "secret", "docker-registry", "regsecret", *login, "--docker-email=alice@example.org"]
    assert cluster.kubectl(*argv) == "secret/regsecret created\n"
    registry = cluster.get("secret", "regsecret")
    assert registry["type"] == "kubernetes.io/dockerconfigjson"
    config = json.loads(base64.b64decode(registry["data"][".dockerconfigjson"]))
    assert config["auths"]["dregistry.azurecr.io"]["username"] == "alice"
    table = columns(cluster.kubectl("get", "secrets"))
    assert [row[:3] for row in table] == [
        ["NAME", "TYPE", "DATA"],
        ["g", "Opaque", "1"],
        ["regsecret", "kubernetes.io/dockerconfigjson", "1"],
        ["t", "kubernetes.io/tls", "2"],
    ]
    described = cluster.kubectl("describe", "secret", "g")
    assert "password:  11 bytes" in described
    assert "wonder land" not in described


def test_the_default_service_account_takes_image_pull_secrets(cluster: Cluster, namespace: str) -> None:
    patch = '{"imagePullSecrets": [{"name": "myregistrykey"}]}'
    assert cluster.kubectl("patch", "serviceaccount", "default", "-p", patch) == "serviceaccount/default patched\n"
    shown = yaml.safe_load(cluster.kubectl("get", "serviceaccounts", "default", "-o", "yaml"))
    assert shown["imagePullSecrets"] == [{"name": "myregistrykey"}]
    cluster.apply(pod("p"))
    assert cluster.get("pod", "p")["spec"]["imagePullSecrets"] == [{"name": "myregistrykey"}]


def test_run_and_expose(cluster: Cluster, namespace: str) -> None:
    argv = ["run", "web", "--image=nginx", "--port=80", "--labels=app=web", "--env=A=b"]
    assert cluster.kubectl(*argv) == "pod/web created\n"
    assert cluster.kubectl("expose", "pod", "web", "--port=8080", "--target-port=80") == "service/web exposed\n"
    spec = cluster.get("service", "web")["spec"]
    assert spec["selector"] == {"app": "web"}
    cluster.wait("pod/web", "condition=Ready")
    ip = cluster.get("pod", "web")["status"]["podIP"]
    cluster.wait("endpoints/web", f"jsonpath={{.subsets[0].addresses[0].ip}}={ip}")
    assert columns(cluster.kubectl("get", "endpoints", "web"))[1][:2] == ["web", f"{ip}:80"]
    assert columns(cluster.kubectl("get", "service", "web"))[1][:5] == [
        "web",
        "ClusterIP",
        spec["clusterIP"],
        "<none>",
        "8080/TCP",
    ]
    cluster.kubectl("run", "once", "--image=busybox", "--restart=Never", "--command", "--", "sh", "-c", "exit 4")
    cluster.wait("pod/once", "jsonpath={.status.phase}=Failed")
    assert columns(cluster.kubectl("get", "pod", "once"))[1][:4] == ["once", "0/1", "Error", "0"]


def test_label_and_annotate(cluster: Cluster, namespace: str) -> None:
    cluster.apply(object_("ConfigMap", "c"))
    assert cluster.kubectl("label", "configmap", "c", "a=1", "b=2") == "configmap/c labeled\n"
    said = error(cluster, "label", "configmap", "c", "a=2")
    assert said == "error: 'a' already has a value (1), and --overwrite is false"
    said = cluster.kubectl("label", "configmap", "c", "a=2", "b-", "--overwrite")
    assert said in ("configmap/c labeled\n", "configmap/c modified\n")  # before 1.33, since
    assert cluster.get("configmap", "c")["metadata"]["labels"] == {"a": "2"}
    assert cluster.kubectl("label", "configmap", "c", "a-") == "configmap/c unlabeled\n"
    assert cluster.kubectl("annotate", "configmap", "c", "note=some words") == "configmap/c annotated\n"
    assert cluster.get("configmap", "c")["metadata"]["annotations"]["note"] == "some words"
    assert "bad value" in error(cluster, "label", "configmap", "c", "bad value=x y")


def test_edit_with_an_editor(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    cluster.apply(object_("ConfigMap", "c", data={"colour": "red"}))
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's/colour: red/colour: blue/' \"$1\"\n")
    editor.chmod(0o755)
    os.environ["KUBE_EDITOR"] = str(editor)
    try:
        assert cluster.kubectl("edit", "configmap", "c") == "configmap/c edited\n"
        assert cluster.get("configmap", "c")["data"] == {"colour": "blue"}
        assert cluster.try_kubectl("edit", "configmap", "c").stderr == "Edit cancelled, no changes made.\n"
    finally:
        del os.environ["KUBE_EDITOR"]


def test_replace_and_its_conflicts(cluster: Cluster, namespace: str) -> None:
    cluster.apply(NGINX)
    uid = cluster.get("pod", "nginx")["metadata"]["uid"]
    config = object_("ConfigMap", "c", data={"a": "1"})
    assert 'configmaps "c" not found' in error(cluster, "replace", "-f", "-", stdin=json.dumps(config))
    cluster.kubectl("create", "-f", "-", stdin=json.dumps(config))
    stale = cluster.get("configmap", "c")
    config["data"] = {"b": "2"}
    assert cluster.kubectl("replace", "-f", "-", stdin=json.dumps(config)) == "configmap/c replaced\n"
    assert cluster.get("configmap", "c")["data"] == {"b": "2"}
    said = error(cluster, "replace", "-f", "-", stdin=json.dumps(stale))
    assert "Error from server (Conflict)" in said
    assert "the object has been modified; please apply your changes to the latest version and try again" in said
    moved = NGINX.replace("containerPort: 80", "containerPort: 81")
    argv = ("replace", "--force", "--grace-period=0", "-f", "-")
    assert deletions(cluster.kubectl(*argv, stdin=moved)) == 'pod "nginx" deleted\npod/nginx replaced\n'
    fresh = cluster.get("pod", "nginx")
    assert fresh["metadata"]["uid"] != uid
    assert fresh["spec"]["containers"][0]["ports"][0]["containerPort"] == 81


def test_patch_in_three_ways(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container("a"), container("b"), metadata={"labels": {"x": "1", "y": "2"}}))

    def patch(kind: str, change: Any) -> str:
        return cluster.kubectl("patch", "pod", "p", f"--type={kind}", "-p", json.dumps(change))

    # kubectl compares the whole object before and after: nobody else may write, so the Pod is Ready first.
    cluster.wait("pod/p", "condition=Ready")
    change: Any = {"spec": {"containers": [{"name": "b", "image": "busybox"}]}}
    assert patch("strategic", change) == "pod/p patched (no change)\n"
    change = {"spec": {"containers": [{"name": "b", "image": "busybox:1.36"}]}}
    assert patch("strategic", change) == "pod/p patched\n"
    assert [c["image"] for c in cluster.get("pod", "p")["spec"]["containers"]] == ["busybox", "busybox:1.36"]
    cluster.wait("pod/p", 'jsonpath={.status.containerStatuses[?(@.name=="b")].restartCount}=1')
    cluster.wait("pod/p", "condition=Ready")
    assert patch("strategic", change) == "pod/p patched (no change)\n"
    assert patch("merge", {"metadata": {"labels": {"x": None, "z": "3"}}}) == "pod/p patched\n"
    assert cluster.get("pod", "p")["metadata"]["labels"] == {"y": "2", "z": "3"}
    steps = [
        {"op": "test", "path": "/metadata/labels/y", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/y"},
        {"op": "add", "path": "/metadata/labels/w", "value": "4"},
    ]
    assert patch("json", steps) == "pod/p patched\n"
    assert cluster.get("pod", "p")["metadata"]["labels"] == {"z": "3", "w": "4"}
    said = error(cluster, "patch", "pod", "p", "--type=json", "-p", json.dumps(steps))
    assert "The request is invalid: the server rejected our request due to an error in our request" in said
    assert cluster.kubectl("set", "image", "pod/p", "a=busybox:1.28") == "pod/p image updated\n"


# -- deleting


def test_delete_in_all_ways(cluster: Cluster, namespace: str) -> None:
    names = ["one", "two", "three", "l1", "l2", "rest"]
    cluster.apply(items(*(pod(n, metadata={"labels": {"kind": n[0]}}) for n in names)))
    cluster.wait("pods", "condition=Ready", "--all")
    uids = {item["metadata"]["name"]: item["metadata"]["uid"] for item in cluster.get("pods")["items"]}
    assert deletions(cluster.kubectl("delete", "pod", "one", "--now")) == 'pod "one" deleted\n'
    assert deletions(cluster.kubectl("delete", "pod/two", "--grace-period=5")) == 'pod "two" deleted\n'
    assert cluster.leftovers(uids["one"], uids["two"]) == []
    forced = cluster.try_kubectl("delete", "pod", "three", "--grace-period=0", "--force")
    assert deletions(forced.stdout) == 'pod "three" force deleted\n'
    assert forced.stderr.startswith("Warning: Immediate deletion does not wait for confirmation")
    assert 'pods "one" not found' in error(cluster, "delete", "pod", "one")
    assert cluster.kubectl("delete", "pod", "one", "--ignore-not-found") == ""
    assert deletions(cluster.kubectl("delete", "pods", "-l", "kind=l")) == 'pod "l1" deleted\npod "l2" deleted\n'
    assert cluster.kubectl("get", "pods", "-o", "name") == "pod/rest\n"
    assert deletions(cluster.kubectl("delete", "pods", "--all")) == 'pod "rest" deleted\n'
    assert cluster.try_kubectl("delete", "pods", "--all").stdout == "No resources found\n"
    said = error(cluster, "delete", "pods")
    assert said == "error: resource(s) were provided, but no name was specified"


def test_delete_waits_for_the_end_unless_told_otherwise(cluster: Cluster, namespace: str) -> None:
    slow = "trap '' TERM; sleep 3600 & wait; wait"
    cluster.apply(pod("p", container(script=slow), terminationGracePeriodSeconds=3600))
    cluster.wait("pod/p", "condition=Ready")
    assert deletions(cluster.kubectl("delete", "pod", "p", "--wait=false")) == 'pod "p" deleted\n'
    assert columns(cluster.kubectl("get", "pod", "p"))[1][:3] == ["p", "1/1", "Terminating"]
    shown = cluster.kubectl("describe", "pod", "p")
    assert re.search(r"^Status: +Terminating \(lasts .*\)$", shown, re.MULTILINE)
    assert re.search(r"^Termination Grace Period: +3600s$", shown, re.MULTILINE)
    # A shorter grace period overtakes the longer one.
    with cluster.kubectl_lines("wait", "pod/p", "--for=delete", "--timeout=30s") as lines:
        assert deletions(cluster.kubectl("delete", "pod", "p", "--grace-period=2")) == 'pod "p" deleted\n'
        assert list(lines) == ["pod/p condition met"]
    assert 'pods "p" not found' in error(cluster, "get", "pod", "p")


def test_deleting_a_namespace_deletes_what_is_in_it(cluster: Cluster, namespace: str) -> None:
    other = f"{namespace}-x"
    cluster.kubectl("create", "namespace", other)
    cluster.apply(items(pod("p"), object_("ConfigMap", "c"), object_("Secret", "s")), "-n", other)
    cluster.wait("pod/p", "condition=Ready", "-n", other)
    uid = cluster.get("pod", "p", "-n", other)["metadata"]["uid"]
    cluster.kubectl("delete", "namespace", other)
    assert cluster.leftovers(uid) == []
    assert f'namespaces "{other}" not found' in error(cluster, "get", "namespace", other)
    said = error(cluster, "apply", "-n", other, "-f", "-", stdin=NGINX)
    assert f'namespaces "{other}" not found' in said
