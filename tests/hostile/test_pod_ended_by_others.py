"""A terminal phase that others write into a Pod's status ends the Pod; its room is given away when it is really free."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.cluster import Cluster, cgroups, processes, unique
from tests.support.pods import RUN, container, mount, pod

HELD = "trap 'echo asked; read line < /go/pipe; exit 0' TERM; mkfifo /go/pipe; echo ready; sleep 3600 & wait"
"""Ends when the test writes into the pipe, but not before SIGTERM."""


def held(name: str, **fields: Any) -> dict[str, Any]:
    one = container(script=HELD, volumeMounts=[mount("go", "/go")], **fields)
    spec: dict[str, Any] = {"volumes": [{"name": "go", "emptyDir": {}}], "terminationGracePeriodSeconds": 300}
    return pod(name, one, **spec)


def say(cluster: Cluster, name: str, phase: str, **status: str) -> None:
    patch = json.dumps({"status": {"phase": phase, **status}})
    cluster.kubectl("patch", "pod", name, "--subresource=status", "--type=merge", "-p", patch)


def let_go(cluster: Cluster, name: str) -> None:
    uid = cluster.get("pod", name)["metadata"]["uid"]
    (cluster.data_dir / "pods" / uid / "volumes/kubernetes.io~empty-dir/go/pipe").write_text("go\n")


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_the_containers_of_a_pod_that_others_ended_are_stopped_and_the_status_is_kept(
    cluster: Cluster, phase: str
) -> None:
    name = unique("ended")
    cluster.apply(pod(name, container(script=RUN), container("second", "exec sleep 3600")))
    cluster.wait(f"pod/{name}", "condition=Ready")
    say(cluster, name, phase, reason="Because", message="I say so")
    for index in (0, 1):
        state = f"jsonpath={{.status.containerStatuses[{index}].state.terminated.finishedAt}}"
        cluster.wait(f"pod/{name}", state)
    cluster.wait(f"pod/{name}", "jsonpath={.status.conditions[?(@.type=='PodReadyToStartContainers')].status}=False")
    status = cluster.get("pod", name)["status"]
    assert (status["phase"], status["reason"], status["message"]) == (phase, "Because", "I say so")
    assert {one["name"]: one["state"]["terminated"]["exitCode"] for one in status["containerStatuses"]} == {
        "main": 0,
        "second": 137,
    }
    # Nothing starts again, by a new agent neither.
    cluster.kill("agent")
    cluster.up()
    after = cluster.get("pod", name)["status"]
    assert after == status
    ids = [one["containerID"].partition("//")[2] for one in after["containerStatuses"]]
    assert not [line for line in processes() if any(one in line for one in ids)]
    cluster.kubectl("delete", "pod", name, "--timeout=30s")


def one_ends_and_another_waits(cluster: Cluster, first: str, second: str, *, host_port: int) -> None:
    """The first Pod is marked as Failed, and its container goes on; the second is bound and wants the same port."""
    port: dict[str, Any] = {"ports": [{"containerPort": 80, "hostPort": host_port}]}
    cluster.apply(held(first, **port))
    cluster.wait(f"pod/{first}", "condition=Ready")
    with cluster.kubectl_lines("logs", "-f", first) as lines:
        assert next(lines) == "ready"
        say(cluster, first, "Failed")
        assert next(lines) == "asked"
    cluster.apply(pod(second, container(**port)))
    cluster.wait(f"pod/{second}", "condition=PodScheduled")


def test_host_port_and_cpu_are_given_away_when_they_are_really_free(cluster: Cluster) -> None:
    first, second = unique("first"), unique("second")
    one_ends_and_another_waits(cluster, first, second, host_port=31_999)
    # What came after it is served; it waits.
    third = unique("third")
    cluster.apply(pod(third))
    cluster.wait(f"pod/{third}", "condition=Ready")
    assert cluster.get("pod", second)["status"]["phase"] == "Pending"
    assert not cluster.get("pod", second)["status"].get("startTime")
    let_go(cluster, first)
    cluster.wait(f"pod/{second}", "condition=Ready")
    ended = cluster.get("pod", first)["status"]["containerStatuses"][0]["state"]["terminated"]
    assert cluster.get("pod", second)["status"]["startTime"] >= ended["finishedAt"]
    cluster.kubectl("delete", "pod", first, second, third, "--timeout=30s")


def test_a_pod_that_waits_for_room_can_be_deleted(cluster: Cluster) -> None:
    first, second = unique("first"), unique("second")
    one_ends_and_another_waits(cluster, first, second, host_port=31_998)
    cluster.kubectl("delete", "pod", second, "--timeout=30s")
    let_go(cluster, first)
    cluster.kubectl("delete", "pod", first, "--timeout=30s")


def test_a_pod_that_others_ended_before_it_ran_does_not_start(cluster: Cluster) -> None:
    name = unique("pulling")
    cluster.apply(pod(name, container(image=f"nowhere.invalid/{name}:1", imagePullPolicy="Always")))
    cluster.wait(f"pod/{name}", "jsonpath={.status.podIP}")
    say(cluster, name, "Failed", reason="Because")
    cluster.wait(f"pod/{name}", "jsonpath={.status.conditions[?(@.type=='PodReadyToStartContainers')].status}=False")
    status = cluster.get("pod", name)["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Because")
    uid = cluster.get("pod", name)["metadata"]["uid"]
    assert not [path for path in cgroups() if uid in path]
    cluster.kubectl("delete", "pod", name, "--timeout=30s")
