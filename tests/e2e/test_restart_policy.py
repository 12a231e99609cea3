"""The table of restartPolicy: what becomes of a Pod when its containers succeed, fail or run out of memory."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import Cluster

SUCCEEDS = "exit 0"
FAILS = "exit 3"
RUNS = "exec sleep 3600"
# tail keeps all of a line that never ends.
OOM = "exec tail /dev/zero"


def pod(policy: str, *scripts: str) -> dict[str, Any]:
    containers = []
    for index, script in enumerate(scripts):
        container: dict[str, Any] = {
            "name": f"c{index}",
            "image": "busybox",
            "imagePullPolicy": "IfNotPresent",
            "command": ["sh", "-c", script],
        }
        if script == OOM:
            container["resources"] = {"limits": {"memory": "16Mi"}}
        containers.append(container)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {"restartPolicy": policy, "terminationGracePeriodSeconds": 0, "containers": containers},
    }


CASES = [
    # restartPolicy, containers, phase, which containers are restarted
    ("Always", (SUCCEEDS,), "Running", {"c0"}),
    ("OnFailure", (SUCCEEDS,), "Succeeded", set()),
    ("Never", (SUCCEEDS,), "Succeeded", set()),
    ("Always", (FAILS,), "Running", {"c0"}),
    ("OnFailure", (FAILS,), "Running", {"c0"}),
    ("Never", (FAILS,), "Failed", set()),
    ("Always", (RUNS, FAILS), "Running", {"c1"}),
    ("OnFailure", (RUNS, FAILS), "Running", {"c1"}),
    ("Never", (RUNS, FAILS), "Running", set()),
    ("Always", (SUCCEEDS, FAILS), "Running", {"c0", "c1"}),
    ("OnFailure", (SUCCEEDS, FAILS), "Running", {"c1"}),
    ("Never", (SUCCEEDS, FAILS), "Failed", set()),
    ("Always", (OOM,), "Running", {"c0"}),
    ("OnFailure", (OOM,), "Running", {"c0"}),
    ("Never", (OOM,), "Failed", set()),
]


@pytest.mark.parametrize(("policy", "scripts", "phase", "restarted"), CASES)
def test_restart_policy(
    cluster: Cluster, namespace: str, policy: str, scripts: tuple[str, ...], phase: str, restarted: set[str]
) -> None:
    cluster.apply(pod(policy, *scripts))
    for index, script in enumerate(scripts):
        status = f"{{.status.containerStatuses[{index}]"
        if f"c{index}" in restarted:
            # The first restart comes at once, then the container waits in back-off or has come to its next end.
            cluster.wait("pod/p", f"jsonpath={status}.restartCount}}=1")
        elif script != RUNS:
            cluster.wait("pod/p", f"jsonpath={status}.state.terminated.exitCode}}={exit_code(script)}")
    cluster.wait("pod/p", f"jsonpath={{.status.phase}}={phase}")
    shown = cluster.get("pod", "p")["status"]
    assert shown["phase"] == phase
    for index, script in enumerate(scripts):
        container = shown["containerStatuses"][index]
        assert (container["restartCount"] > 0) is (f"c{index}" in restarted)
        if script == RUNS:
            assert "running" in container["state"]
            assert container["ready"] is True
            continue
        ended = container["lastState"]["terminated"] if f"c{index}" in restarted else container["state"]["terminated"]
        assert ended["exitCode"] == exit_code(script)
        assert ended["reason"] == {SUCCEEDS: "Completed", FAILS: "Error", OOM: "OOMKilled"}[script]


def exit_code(script: str) -> int:
    return {SUCCEEDS: 0, FAILS: 3, OOM: 137}[script]


@pytest.mark.parametrize("policy", ["Always", "OnFailure"])
def test_back_off_is_shown_and_reported(cluster: Cluster, namespace: str, policy: str) -> None:
    cluster.apply(pod(policy, FAILS))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    state = cluster.get("pod", "p")["status"]["containerStatuses"][0]["state"]
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    expected = f"back-off 10s restarting failed container=c0 pod=p_{namespace}({uid})"
    assert state["waiting"]["message"] == expected
    cluster.events("p", "BackOff")
    assert "CrashLoopBackOff" in cluster.kubectl("get", "pod", "p")
