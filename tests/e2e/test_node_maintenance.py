"""Nodes in maintenance: cordon, drain, taints; and Pods that wait for a node that suits them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import items, pod


@pytest.fixture
def node(cluster: Cluster) -> Iterator[str]:
    """The node, restored afterwards: schedulable, without taints and labels of the test."""
    yield cluster.node
    cluster.kubectl("uncordon", cluster.node)
    cluster.try_kubectl("taint", "node", cluster.node, "test-")
    cluster.kubectl("label", "node", cluster.node, "disk-")


def wait_unschedulable(cluster: Cluster, name: str) -> str:
    """The scheduler's verdict about a Pod that finds no place."""
    cluster.wait(f"pod/{name}", "condition=PodScheduled=false")
    (condition,) = [c for c in cluster.get("pod", name)["status"]["conditions"] if c["type"] == "PodScheduled"]
    assert condition["reason"] == "Unschedulable"
    # The event says the same.
    cluster.await_event(name, "Warning", "FailedScheduling", condition["message"])
    return str(condition["message"])


def test_a_cordoned_node_takes_no_new_pods(cluster: Cluster, namespace: str, node: str) -> None:
    cluster.apply(pod("before"))
    cluster.wait("pod/before", "condition=Ready")
    assert cluster.kubectl("cordon", node) == f"node/{node} cordoned\n"
    assert cluster.kubectl("cordon", node) == f"node/{node} already cordoned\n"
    assert "Ready,SchedulingDisabled" in cluster.kubectl("get", "nodes")
    cluster.apply(pod("after"))
    message = wait_unschedulable(cluster, "after")
    assert message.startswith("0/1 nodes are available: 1 node(s) were unschedulable.")
    assert re.search(r"^after +0/1 +Pending ", cluster.kubectl("get", "pods"), re.MULTILINE)
    assert cluster.kubectl("uncordon", node) == f"node/{node} uncordoned\n"
    cluster.wait("pod/after", "condition=Ready")
    assert cluster.get("pod", "before")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_drain_evicts_pods(cluster: Cluster, namespace: str, node: str) -> None:
    cluster.apply(items(pod("a"), pod("b", volumes=[{"name": "v", "emptyDir": {}}])))
    cluster.wait("pods", "condition=Ready", "--all")
    argv = ["drain", node, "--pod-selector=!keep", "--timeout=60s"]
    refused = cluster.try_kubectl(*argv)
    assert refused.returncode == 1
    assert "cannot delete Pods that declare no controller (use --force to override)" in refused.stderr
    done = cluster.try_kubectl(*argv, "--force", "--delete-emptydir-data")
    assert done.returncode == 0, done.stderr
    assert f"evicting pod {namespace}/a" in done.stdout
    assert "pod/a evicted\n" in done.stdout
    assert "pod/b evicted\n" in done.stdout
    assert done.stdout.endswith(f"node/{node} drained\n")
    assert cluster.kubectl("get", "pods", "-o", "name") == ""


def test_taints_keep_pods_away_and_drive_them_out(cluster: Cluster, namespace: str, node: str) -> None:
    tolerant = pod("tolerant", tolerations=[{"key": "test", "operator": "Exists"}])
    cluster.apply(items(pod("plain"), tolerant))
    cluster.wait("pods", "condition=Ready", "--all")
    assert cluster.kubectl("taint", "node", node, "test=1:NoSchedule") == f"node/{node} tainted\n"
    cluster.apply(pod("late"))
    message = wait_unschedulable(cluster, "late")
    assert message.startswith("0/1 nodes are available: 1 node(s) had untolerated taint")
    cluster.kubectl("taint", "node", node, "test=1:NoExecute")
    cluster.wait("pod/plain", "delete")
    assert cluster.get("pod", "tolerant")["status"]["phase"] == "Running"
    assert cluster.kubectl("taint", "node", node, "test-") == f"node/{node} untainted\n"
    cluster.wait("pod/late", "condition=Ready")


def test_a_pod_waits_for_a_label_of_the_node(cluster: Cluster, namespace: str, node: str) -> None:
    cluster.apply(pod("p", nodeSelector={"disk": "ssd"}))
    message = wait_unschedulable(cluster, "p")
    assert message.startswith("0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.")
    cluster.kubectl("label", "node", node, "disk=ssd")
    cluster.wait("pod/p", "condition=Ready")


def test_a_pod_waits_for_room(cluster: Cluster, namespace: str, node: str) -> None:
    cpu = cluster.get("node", node)["status"]["allocatable"]["cpu"]

    def wanting(name: str, millis: int) -> dict[str, object]:
        made = pod(name)
        made["spec"]["containers"][0]["resources"] = {"requests": {"cpu": f"{millis}m"}}
        return made

    most = int(cpu) * 1000 - 100
    cluster.apply(wanting("first", most))
    cluster.wait("pod/first", "condition=Ready")
    cluster.apply(wanting("second", most))
    assert wait_unschedulable(cluster, "second").startswith("0/1 nodes are available: 1 Insufficient cpu.")
    cluster.kubectl("delete", "pod", "first")
    cluster.wait("pod/second", "condition=Ready")


def test_a_pod_that_names_a_node_without_room_fails(cluster: Cluster, namespace: str, node: str) -> None:
    big = pod("p", nodeName=node)
    big["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "1000"}}
    cluster.apply(big)
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    status = cluster.get("pod", "p")["status"]
    assert status["reason"] == "OutOfcpu"
    expected = r"Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: \d+, capacity: \d+"
    assert re.fullmatch(expected, status["message"])
    # No container of it was ever made.
    assert "containerStatuses" not in status
    assert re.search(r"^p +0/1 +OutOfcpu +0 ", cluster.kubectl("get", "pods"), re.MULTILINE)
    cluster.kubectl("delete", "pod", "p")
