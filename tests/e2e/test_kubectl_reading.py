"""kubectl's reading verbs, and what it tells of the cluster itself, compared with what a Kubernetes cluster prints."""

from __future__ import annotations

import json
import re

import yaml
from tests.support.cluster import Cluster
from tests.support.kubectl import columns, error
from tests.support.pods import container, items, object_, pod

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
