"""kubectl's reading and writing verbs, as typed by a person and compared with what a Kubernetes cluster prints."""

from __future__ import annotations

import base64
import json
import os
import re
from pathlib import Path
from typing import Any

import yaml
from tests.support.cluster import Cluster, deletions
from tests.support.pods import container, items, object_, pod

NGINX = (Path(__file__).parents[2] / "examples" / "nginx.yaml").read_text()


def columns(text: str) -> list[list[str]]:
    """The cells of a table, its head included; columns are at least two blanks apart, or three."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def error(cluster: Cluster, *argv: str, stdin: str | None = None) -> str:
    """What a command that fails says."""
    done = cluster.try_kubectl(*argv, stdin=stdin)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip()


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

    change: Any = {"spec": {"containers": [{"name": "b", "image": "busybox:1.36"}]}}
    assert patch("strategic", change) == "pod/p patched\n"
    assert [c["image"] for c in cluster.get("pod", "p")["spec"]["containers"]] == ["busybox", "busybox:1.36"]
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


# -- reading


def test_get_prints_pods_in_every_form(cluster: Cluster, namespace: str) -> None:
    fields = {"labels": {"app": "web", "n": "1"}}
    cluster.apply(items(pod("b", metadata=fields), pod("a", container("x"), container("y"))))
    cluster.wait("pods", "condition=Ready", "--all")
    head, a, b = columns(cluster.kubectl("get", "pods"))
    assert head == ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert a[:4] == ["a", "2/2", "Running", "0"]
    assert b[:4] == ["b", "1/1", "Running", "0"]
    assert re.fullmatch(r"\d+s", a[4])
    ip = cluster.get("pod", "b")["status"]["podIP"]
    wide = columns(cluster.kubectl("get", "pods", "-o", "wide"))
    assert wide[0][5:] == ["IP", "NODE", "NOMINATED NODE", "READINESS GATES"]
    assert wide[2][5:] == [ip, cluster.node, "<none>", "<none>"]
    assert columns(cluster.kubectl("get", "pod", "b", "--show-labels"))[1][-1] == "app=web,n=1"
    assert columns(cluster.kubectl("get", "pods", "-L", "app"))[0][-1] == "APP"
    assert cluster.kubectl("get", "pods", "-o", "name") == "pod/a\npod/b\n"
    assert cluster.kubectl("get", "pod", "b", "-o", "jsonpath={.status.phase}") == "Running"
    assert cluster.kubectl("get", "pods", "-o", "jsonpath={range .items[*]}{.metadata.name} {end}") == "a b "
    custom = cluster.kubectl("get", "pods", "-o", "custom-columns=N:.metadata.name,I:.spec.containers[*].image")
    assert columns(custom) == [["N", "I"], ["a", "busybox,busybox"], ["b", "busybox"]]
    template = "{{range .items}}{{.metadata.name}}={{.status.phase}};{{end}}"
    assert cluster.kubectl("get", "pods", "-o", f"go-template={template}") == "a=Running;b=Running;"
    shown = yaml.safe_load(cluster.kubectl("get", "pod", "b", "-o", "yaml"))
    assert (shown["apiVersion"], shown["kind"]) == ("v1", "Pod")
    assert "managedFields" not in shown["metadata"]
    assert shown == cluster.get("pod", "b")
    assert cluster.get("pods")["kind"] == "List"
    everywhere = columns(cluster.kubectl("get", "pods", "-A"))
    assert everywhere[0][:2] == ["NAMESPACE", "NAME"]
    assert [namespace, "b"] in [row[:2] for row in everywhere]
    combined = cluster.kubectl("get", "pod/b", "serviceaccount/default", "--no-headers")
    assert [line.split()[0] for line in combined.splitlines() if line] == ["pod/b", "serviceaccount/default"]
    assert "pod/a" in cluster.kubectl("get", "all")


def test_get_selects_sorts_and_pages(cluster: Cluster, namespace: str) -> None:
    objects = [object_("ConfigMap", f"c{i}", data={"k": str(9 - i)}) for i in range(7)]
    for i, item in enumerate(objects):
        item["metadata"]["labels"] = {"parity": "even" if i % 2 == 0 else "odd", f"only-{i}": ""}
    cluster.apply(items(*objects))

    def names(*argv: str) -> str:
        out = cluster.kubectl("get", "configmaps", "-o", "jsonpath={.items[*].metadata.name}", *argv)
        return out.replace("kube-root-ca.crt", "").strip()

    assert names("-l", "parity=odd") == "c1 c3 c5"
    assert names("-l", "parity in (odd),!only-3") == "c1 c5"
    assert names("-l", "parity!=odd,parity") == "c0 c2 c4 c6"
    assert names("--field-selector", "metadata.name=c4") == "c4"
    assert names("--field-selector", "metadata.name!=c4", "-l", "parity=even") == "c0 c2 c6"
    assert names("-l", "parity", "--sort-by={.data.k}") == "c6 c5 c4 c3 c2 c1 c0"
    assert names("-l", "parity", "--chunk-size=2") == "c0 c1 c2 c3 c4 c5 c6"
    paged = columns(cluster.kubectl("get", "configmaps", "-l", "parity", "--chunk-size=3"))
    assert [row[0] for row in paged] == ["NAME", *(f"c{i}" for i in range(7))]
    said = error(cluster, "get", "configmaps", "--field-selector", "data.k=1")
    assert said.endswith('"data.k" is not a known field selector: only "metadata.name", "metadata.namespace"')
    said = error(cluster, "get", "pods", "-l", "a=b=c")
    assert "found '=', expected: ',' or 'end of string'" in said


def test_get_pods_by_field(cluster: Cluster, namespace: str) -> None:
    cluster.apply(items(pod("runs"), pod("ends", container(script="exit 0"), restartPolicy="Never")))
    cluster.wait("pod/runs", "condition=Ready")
    cluster.wait("pod/ends", "jsonpath={.status.phase}=Succeeded")

    def names(selector: str) -> str:
        return cluster.kubectl("get", "pods", "-o", "jsonpath={.items[*].metadata.name}", "--field-selector", selector)

    assert names("status.phase=Running") == "runs"
    assert names("status.phase!=Running") == "ends"
    assert names(f"spec.nodeName={cluster.node}") == "ends runs"
    assert names("spec.nodeName=other") == ""
    assert names("spec.restartPolicy=Never") == "ends"
    ended = columns(cluster.kubectl("get", "pod", "ends", "-o", "wide"))[1]
    assert ended[:4] == ["ends", "0/1", "Completed", "0"]
    # It keeps the address that it had, however short its life.
    assert ended[5].startswith(cluster.pod_cidr.rpartition(".")[0])


def test_get_of_what_is_not_there(cluster: Cluster, namespace: str) -> None:
    assert error(cluster, "get", "pod", "x") == 'Error from server (NotFound): pods "x" not found'
    assert error(cluster, "get", "gadgets") == 'error: the server doesn\'t have a resource type "gadgets"'
    done = cluster.try_kubectl("get", "pods")
    assert (done.returncode, done.stderr) == (0, f"No resources found in {namespace} namespace.\n")
    assert cluster.kubectl("get", "pod", "x", "--ignore-not-found") == ""


def test_watch_shows_a_pod_from_birth_to_end(cluster: Cluster, namespace: str) -> None:
    with cluster.kubectl_lines("get", "pods", "-w", "--output-watch-events") as lines:
        cluster.apply(pod("p", container(script="sleep 0.2"), restartPolicy="Never"))
        seen = [columns(next(lines))[0], columns(next(lines))[0]]
        while seen[-1][3] != "Completed":
            seen.append(columns(next(lines))[0])
        cluster.kubectl("delete", "pod", "p")
        while seen[-1][0] != "DELETED":
            seen.append(columns(next(lines))[0])
    assert seen[0] == ["EVENT", "NAME", "READY", "STATUS", "RESTARTS", "AGE"]
    assert seen[1][:4] == ["ADDED", "p", "0/1", "Pending"]
    states = [row[3] for row in seen[1:]]
    # A Pod may start so fast that nobody ever sees it in creation.
    assert list(dict.fromkeys(state for state in states if state != "ContainerCreating")) == [
        "Pending",
        "Running",
        "Completed",
    ]
    assert ["MODIFIED", "p", "1/1", "Running"] in [row[:4] for row in seen]


def test_describe(cluster: Cluster, namespace: str) -> None:
    cluster.apply(
        pod(
            "p",
            container(
                ports=[{"containerPort": 80, "name": "http"}],
                env=[
                    {"name": "PLAIN", "value": "v"},
                    {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
                ],
                resources={"requests": {"cpu": "10m"}, "limits": {"memory": "32Mi"}},
                volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}],
            ),
            metadata={"labels": {"app": "p"}},
            volumes=[{"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}}],
        )
    )
    cluster.wait("pod/p", "condition=Ready")
    cluster.events("p", "Started")
    shown = cluster.kubectl("describe", "pod", "p")
    status = cluster.get("pod", "p")["status"]
    node_ip = status["hostIP"]
    for line in (
        r"Name: +p",
        rf"Namespace: +{namespace}",
        r"Priority: +0",
        r"Service Account: +default",
        rf"Node: +{cluster.node}/{re.escape(node_ip)}",
        r"Labels: +app=p",
        r"Status: +Running",
        rf"IP: +{re.escape(status['podIP'])}",
        r" +Container ID: +podling://[0-9a-f]{64}",
        r" +Image ID: +docker.io/library/busybox@sha256:[0-9a-f]{64}",
        r" +Port: +80/TCP( \(http\))?",
        r" +State: +Running",
        r" +Ready: +True",
        r" +Restart Count: +0",
        r" +memory: +32Mi",
        r" +cpu: +10m",
        r" +PLAIN: +v",
        r" +NODE: +\(v1:spec.nodeName\)",
        r" +/scratch from scratch \(rw\)",
        r" +PodReadyToStartContainers +True ?",
        r" +Ready +True ?",
        r" +SizeLimit: +1Mi",
        r"QoS Class: +Burstable",
        r"Tolerations: +node.kubernetes.io/not-ready:NoExecute op=Exists for 300s",
        rf" +Normal +Scheduled +\S+ +default-scheduler +Successfully assigned {namespace}/p to {cluster.node}",
        r" +Normal +Started +\S+ +kubelet +(spec.containers{main}: )?Container started",
    ):
        assert re.search(rf"^{line}$", shown, re.MULTILINE), f"{line}\n{shown}"
    cluster.apply(object_("ConfigMap", "c", data={"key": "some text"}))
    config = cluster.kubectl("describe", "configmap", "c")
    assert "key:\n----\nsome text\n" in config
    assert "Status:       Active" in cluster.kubectl("describe", "namespace", namespace)
    node = cluster.kubectl("describe", "node", cluster.node)
    assert re.search(r"^ +Ready +True .* KubeletReady +kubelet is posting ready status$", node, re.MULTILINE)
    assert re.search(rf"^ +{namespace} +p +10m \(0%\) +0 \(0%\) +32Mi \(0%\) +32Mi \(0%\) +\d+s$", node, re.MULTILINE)
    assert "Events:  <none>" not in shown


def test_events(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(image="busybox:1.28", imagePullPolicy="Always")))
    cluster.wait("pod/p", "condition=Ready")
    cluster.events("p", "Started")
    table = columns(cluster.kubectl("get", "events", "--sort-by=.metadata.creationTimestamp"))
    assert table[0] == ["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]
    assert [row[1:4] for row in table[1:]] == [
        ["Normal", reason, "pod/p"] for reason in ("Scheduled", "Pulling", "Pulled", "Created", "Started")
    ]
    messages = [row[4] for row in table[1:]]
    assert messages[0] == f"Successfully assigned {namespace}/p to {cluster.node}"
    assert messages[1] == 'Pulling image "busybox:1.28"'
    pulled = (
        r'Successfully pulled image "busybox:1.28" in [\d.]+m?s \([\d.]+m?s including waiting\). Image size: \d+ bytes.'
    )
    assert re.fullmatch(pulled, messages[2])
    assert messages[3:] == ["Container created", "Container started"]
    selected = cluster.kubectl(
        "get", "events", "--field-selector", "reason=Pulling,involvedObject.name=p", "-o", "name"
    )
    assert len(selected.splitlines()) == 1
    other = columns(cluster.kubectl("events", "--for", "pod/p"))
    assert sorted(row[2] for row in other[1:]) == ["Created", "Pulled", "Pulling", "Scheduled", "Started"]
    assert cluster.kubectl("events", "--types=Warning", "--for", "pod/p") == ""


def test_wait(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p"))
    assert cluster.wait("pod/p", "condition=Ready") == "pod/p condition met\n"
    assert cluster.wait("pod/p", "jsonpath={.status.phase}=Running") == "pod/p condition met\n"
    assert cluster.wait("pod/p", "jsonpath={.status.podIP}") == "pod/p condition met\n"
    said = error(cluster, "wait", "pod/p", "--for=condition=Ready=false", "--timeout=0s")
    assert said == "error: condition not met for pods/p"
    cluster.kubectl("delete", "pod", "p")
    assert cluster.wait("pod/p", "delete") == ""
    assert 'pods "x" not found' in error(cluster, "wait", "pod/x", "--for=condition=Ready", "--timeout=1s")


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


# -- the cluster itself


def test_discovery_commands(cluster: Cluster, namespace: str) -> None:
    rows = columns(cluster.kubectl("api-resources"))
    assert rows[0] == ["NAME", "SHORTNAMES", "APIVERSION", "NAMESPACED", "KIND"]
    assert ["pods", "po", "v1", "true", "Pod"] in rows
    assert ["nodes", "no", "v1", "false", "Node"] in rows
    assert ["secrets", "v1", "true", "Secret"] in rows
    namespaced = cluster.kubectl("api-resources", "--namespaced=false", "-o", "name").split()
    assert {"namespaces", "nodes"} <= set(namespaced)
    assert "pods" not in namespaced
    assert "v1" in cluster.kubectl("api-versions").split()
    shown = cluster.kubectl("explain", "pod.spec.containers.imagePullPolicy")
    assert "FIELD: imagePullPolicy <string>" in shown
    assert "Never" in shown
    assert "KIND:       ConfigMap" in cluster.kubectl("explain", "configmap")
    assert "restartPolicy\t<string>" in cluster.kubectl("explain", "pod.spec", "--recursive").replace("  ", "")


def test_version_and_cluster_info(cluster: Cluster, namespace: str) -> None:
    version = json.loads(cluster.kubectl("version", "-o", "json"))["serverVersion"]
    assert (version["major"], version["minor"]) == ("1", "36")
    info = cluster.kubectl("cluster-info")
    assert f"https://127.0.0.1:{cluster.port}" in info
    for path in ("/healthz", "/livez", "/readyz"):
        assert cluster.kubectl("get", "--raw", path) == "ok"
    assert json.loads(cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}"))["kind"] == "Namespace"
    assert "NotFound" in error(cluster, "get", "--raw", "/api/v1/gadgets")


def test_who_am_i_and_what_may_i(cluster: Cluster, namespace: str) -> None:
    identity = json.loads(cluster.kubectl("auth", "whoami", "-o", "json"))["status"]["userInfo"]
    assert "system:masters" in identity["groups"]
    assert cluster.kubectl("auth", "can-i", "create", "pods") == "yes\n"
    assert cluster.kubectl("auth", "can-i", "*", "*", "--all-namespaces") == "yes\n"
    robot = f"system:serviceaccount:{namespace}:default"
    refused = cluster.try_kubectl("auth", "can-i", "delete", "nodes", f"--as={robot}")
    assert (refused.returncode, refused.stdout) == (1, "no\n")
    said = error(cluster, "get", "nodes", f"--as={robot}")
    assert said.startswith(f'Error from server (Forbidden): nodes is forbidden: User "{robot}" cannot list resource')


def test_the_kubeconfig_names_cluster_user_and_context(cluster: Cluster, namespace: str) -> None:
    config = json.loads(cluster.kubectl("config", "view", "--minify", "--raw", "-o", "json"))
    assert config["clusters"][0]["cluster"]["server"] == f"https://127.0.0.1:{cluster.port}"
    assert cluster.kubectl("config", "current-context").strip() == config["contexts"][0]["name"]
    anonymous = ["--kubeconfig=/dev/null", f"--server=https://127.0.0.1:{cluster.port}", "--insecure-skip-tls-verify"]
    said = error(cluster, "get", "pods", *anonymous, "--username=", "--token=wrong")
    assert "You must be logged in to the server" in said


def test_nodes(cluster: Cluster, namespace: str) -> None:
    head, row = columns(cluster.kubectl("get", "nodes"))
    assert head == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    assert (row[0], row[1]) == (cluster.node, "Ready")
    assert row[4].startswith("v1.36")
    wide = columns(cluster.kubectl("get", "nodes", "-o", "wide"))
    assert wide[0][5:] == ["INTERNAL-IP", "EXTERNAL-IP", "OS-IMAGE", "KERNEL-VERSION", "CONTAINER-RUNTIME"]
    assert wide[1][5] == cluster.get("node", cluster.node)["status"]["addresses"][0]["address"]
    try:
        assert cluster.kubectl("label", "node", cluster.node, "disk=ssd") == f"node/{cluster.node} labeled\n"
        assert cluster.kubectl("get", "nodes", "-l", "disk=ssd", "-o", "name") == f"node/{cluster.node}\n"
        assert cluster.kubectl("annotate", "node", cluster.node, "a=b") == f"node/{cluster.node} annotated\n"
    finally:
        cluster.kubectl("label", "node", cluster.node, "disk-")
        cluster.kubectl("annotate", "node", cluster.node, "a-")
