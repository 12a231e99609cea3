"""A Pod author against the cluster's daemons: no Pod gets the API server's or the agent's port, by whatever spelling.

A hostPort redirects what comes to that port of the node, loopback included: whoever had one of these two would be the
API server for every client on the machine.
"""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.https import Https
from tests.support.pod_end import create, ended
from tests.support.pods import container, pod

TAKEN = "node(s) didn't have free ports for the requested pod ports"

PORTS: list[dict[str, Any]] = [
    {"containerPort": 80},
    {"containerPort": 80, "hostIP": "0.0.0.0"},
    {"containerPort": 80, "hostIP": "127.0.0.1"},
    {"containerPort": 80, "hostIP": "127.0.0.1", "protocol": "TCP"},
    {"containerPort": 80, "hostIP": "192.0.2.1"},
    {"containerPort": 80, "hostIP": "::"},
    {"containerPort": 80, "hostIP": "::1"},
    {"containerPort": 80, "name": "web", "protocol": "TCP"},
]
DAEMONS = pytest.mark.parametrize("daemon", ["server", "agent"])
SPELLINGS = pytest.mark.parametrize("port", PORTS, ids=lambda port: ",".join(f"{k}={v}" for k, v in port.items()))


def taking(cluster: Cluster, daemon: str, port: dict[str, Any], **spec: Any) -> dict[str, Any]:
    number = cluster.port if daemon == "server" else cluster.agent_port
    if spec.get("hostNetwork"):
        port = {**port, "containerPort": number}
    return pod("p", container(ports=[{**port, "hostPort": number}]), **spec)


def check_that_the_daemons_answer_themselves(cluster: Cluster) -> None:
    """On loopback, with certificates of this cluster."""
    for number in (cluster.port, cluster.agent_port):
        certificate = ssl.get_server_certificate(("127.0.0.1", number), timeout=10)
        assert certificate.startswith("-----BEGIN CERTIFICATE-----")
    assert cluster.kubectl("get", "--raw", "/readyz") == "ok"


@DAEMONS
@SPELLINGS
def test_a_pod_with_a_daemons_port_stays_pending(
    cluster: Cluster, admin: Https, namespace: str, daemon: str, port: dict[str, Any]
) -> None:
    create(admin, namespace, taking(cluster, daemon, port))
    cluster.wait("pod/p", "condition=PodScheduled=False")
    (condition,) = cluster.get("pod", "p")["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert condition["message"].startswith(f"0/1 nodes are available: 1 {TAKEN}.")
    check_that_the_daemons_answer_themselves(cluster)


@DAEMONS
@SPELLINGS
def test_a_pod_that_names_the_node_itself_is_rejected_by_the_kubelet(
    cluster: Cluster, admin: Https, namespace: str, daemon: str, port: dict[str, Any]
) -> None:
    create(admin, namespace, taking(cluster, daemon, port, nodeName=cluster.node))
    status = ended(admin, namespace, "p")["status"]
    message = f"Pod was rejected: Predicate NodePorts failed: {TAKEN}"
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "NodePorts", message)
    check_that_the_daemons_answer_themselves(cluster)


@DAEMONS
@pytest.mark.parametrize("where", ["containers", "sidecars"])
def test_a_pod_of_the_hosts_network_and_a_sidecar_count_too(
    cluster: Cluster, admin: Https, namespace: str, daemon: str, where: str
) -> None:
    body = taking(cluster, daemon, {}, hostNetwork=where == "containers")
    if where == "sidecars":
        (port,) = body["spec"]["containers"][0].pop("ports")
        sidecar = container("sidecar", ports=[{**port, "containerPort": 80}], restartPolicy="Always")
        body["spec"]["initContainers"] = [sidecar]
    create(admin, namespace, body)
    cluster.wait("pod/p", "condition=PodScheduled=False")
    assert TAKEN in cluster.get("pod", "p")["status"]["conditions"][0]["message"]
    check_that_the_daemons_answer_themselves(cluster)


@pytest.mark.parametrize("protocol", ["tcp", "Tcp", "ANY", "6", "TCP "])
def test_a_protocol_of_another_spelling_never_reaches_the_node(
    cluster: Cluster, admin: Https, namespace: str, protocol: str
) -> None:
    body = taking(cluster, "server", {"containerPort": 80, "protocol": protocol})
    answer = admin.request("POST", f"/api/v1/namespaces/{namespace}/pods", body)
    assert answer.code == 422
    assert [cause["field"] for cause in answer.json["details"]["causes"]] == ["spec.containers[0].ports[0].protocol"]


@DAEMONS
def test_the_same_number_of_another_protocol_redirects_nothing_of_theirs(
    cluster: Cluster, admin: Https, namespace: str, daemon: str
) -> None:
    create(admin, namespace, taking(cluster, daemon, {"containerPort": 80, "protocol": "UDP"}))
    cluster.wait("pod/p", "condition=Ready")
    check_that_the_daemons_answer_themselves(cluster)
