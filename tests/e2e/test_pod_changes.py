"""Pods that change or go while something else is under way: images, deadlines, deletions, a server that does not answer."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster, cgroups, eventually, processes
from tests.support.pods import RUN, container, mount, object_, pod

DEAF = "trap '' TERM; while :; do sleep 3600 & wait; done"


def status(cluster: Cluster, name: str, index: int = 0) -> dict[str, Any]:
    found: dict[str, Any] = cluster.get("pod", name)["status"]["containerStatuses"][index]
    return found


def messages(cluster: Cluster, name: str, reason: str) -> list[str]:
    selector = f"involvedObject.name={name},reason={reason}"
    return [event["message"] for event in cluster.get("events", "--field-selector", selector)["items"]]


def conditions(cluster: Cluster, name: str) -> dict[str, dict[str, Any]]:
    return {each["type"]: each for each in cluster.get("pod", name)["status"]["conditions"]}


# -- the specification


def test_a_new_image_restarts_its_container_alone(cluster: Cluster, namespace: str) -> None:
    nginx = {"name": "web", "image": "nginx", "imagePullPolicy": "IfNotPresent"}
    cluster.apply(pod("p", container("other"), nginx, restartPolicy="Never"))
    cluster.wait("pod/p", "condition=Ready")
    before = {s["name"]: s for s in cluster.get("pod", "p")["status"]["containerStatuses"]}
    cluster.kubectl("set", "image", "pod/p", "web=docker.io/library/nginx")
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[?(@.name=='web')].restartCount}=1")
    after = {s["name"]: s for s in cluster.get("pod", "p")["status"]["containerStatuses"]}
    assert after["web"]["lastState"]["terminated"]["containerID"] == before["web"]["containerID"]
    assert after["web"]["lastState"]["terminated"]["exitCode"] == 0
    assert (after["other"]["restartCount"], after["other"]["containerID"]) == (0, before["other"]["containerID"])
    assert "Container web definition changed, will be restarted" in messages(cluster, "p", "Killing")


SHOWN = (
    '{.status.containerStatuses[0].restartCount} {.status.conditions[?(@.type=="Ready")].status} '
    "{.status.containerStatuses[0].state}"
)
"""A jsonpath: restarts, readiness and state."""


def shown(line: str) -> tuple[int, str, str, str]:
    """Return restarts, readiness, the state's name and its reason."""
    count, ready, text = line.split(maxsplit=2)
    ((state, fields),) = json.loads(text).items()
    return int(count), ready, state, fields.get("reason", "")


@pytest.mark.parametrize("policy", ["Always", "Never"])
@pytest.mark.parametrize("list_name", ["containers", "initContainers"])
def test_a_new_image_leads_from_running_to_running_in_one_step(
    cluster: Cluster, namespace: str, list_name: str, policy: str
) -> None:
    sidecars = [container("side", restartPolicy="Always")] if list_name == "initContainers" else []
    cluster.apply(pod("p", container(), initContainers=sidecars, restartPolicy=policy))
    cluster.wait("pod/p", "condition=Ready")
    name = "side" if sidecars else "main"
    path = SHOWN.replace("containerStatuses", "initContainerStatuses") if sidecars else SHOWN
    with cluster.kubectl_lines("get", "pod", "p", "-w", "-o", f'jsonpath={path}{{"\\n"}}') as lines:
        assert shown(next(lines)) == (0, "True", "running", "")
        cluster.kubectl("set", "image", "pod/p", f"{name}=docker.io/library/busybox")
        seen = []
        for line in lines:
            seen.append(shown(line))
            if seen[-1][0] == 1:
                break
    # The new specification is shown first, by the write of it.
    assert set(seen) == {(0, "True", "running", ""), (1, "True", "running", "")}
    ended = cluster.get("pod", "p")["status"][path.split(".")[2].split("[")[0]][0]["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (0, "Completed")


def test_a_restart_by_the_policy_still_shows_that_the_container_does_not_run(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(script="exit 3")))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    assert conditions(cluster, "p")["Ready"]["reason"] == "ContainersNotReady"
    found = status(cluster, "p")
    assert (found["restartCount"], found["lastState"]["terminated"]["exitCode"]) == (1, 3)
    with cluster.kubectl_lines("get", "pod", "p", "-w", "-o", f'jsonpath={SHOWN}{{"\\n"}}') as lines:
        seen = [shown(next(lines))]
        for line in lines:
            seen.append(shown(line))
            if seen[-1][0] == 2 and seen[-1][2] != "running":
                break
    assert seen[0] == (1, "False", "waiting", "CrashLoopBackOff")
    assert seen[-1][1:] in [("False", "terminated", "Error"), ("False", "waiting", "CrashLoopBackOff")]


def test_a_bad_image_can_be_mended_while_its_pull_backs_off(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", {**container(), "image": "no/such:image"}))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ImagePullBackOff")
    cluster.kubectl("set", "image", "pod/p", "main=busybox")
    cluster.wait("pod/p", "condition=Ready", timeout=5)
    assert status(cluster, "p")["restartCount"] == 0


def test_a_deadline_given_to_a_pod_that_runs_ends_it(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container("a"), {**container("b"), "image": "no/such:image"}))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[1].state.waiting.reason}=ImagePullBackOff")
    cluster.kubectl("patch", "pod", "p", "-p", json.dumps({"spec": {"activeDeadlineSeconds": 1}}))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    found = cluster.get("pod", "p")["status"]
    assert found["reason"] == "DeadlineExceeded"
    assert found["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert found["containerStatuses"][1]["state"]["terminated"]["reason"] == "ContainerStatusUnknown"
    assert conditions(cluster, "p")["Ready"]["reason"] == "PodFailed"


# -- deletion


@pytest.mark.parametrize(
    ("shown", "spec"),
    [
        ("ImagePullBackOff", {"containers": [{**container(), "image": "no/such:image"}]}),
        (
            "CreateContainerConfigError",
            {"containers": [container(envFrom=[{"configMapRef": {"name": "missing"}}])]},
        ),
        ("RunContainerError", {"containers": [{**container(), "command": ["/no/such/program"]}]}),
        ("CrashLoopBackOff", {"containers": [container(script="exit 1")]}),
        ("Init:0/1", {"initContainers": [container("step")]}),
        ("ContainerCreating", {"volumes": [{"name": "v", "configMap": {"name": "missing"}}]}),
        ("Completed", {"containers": [container(script="exit 0")], "restartPolicy": "Never"}),
    ],
)
def test_a_pod_can_be_deleted_in_any_state(cluster: Cluster, namespace: str, shown: str, spec: dict[str, Any]) -> None:
    with cluster.kubectl_lines("get", "pods", "-w", "--no-headers") as lines:
        cluster.apply(pod("p", **spec))
        assert any(line.split()[2] == shown for line in lines)
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "p", "--timeout=5s")
    assert cluster.leftovers(uid) == []


def test_a_pod_with_a_finalizer_ends_while_it_is_kept(cluster: Cluster, namespace: str) -> None:
    broken = {**container("b"), "image": "no/such:image"}
    cluster.apply(pod("p", container("a"), broken, metadata={"finalizers": ["podling.test/keep"]}))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[1].state.waiting.reason}=ImagePullBackOff")
    cluster.kubectl("delete", "pod", "p", "--wait=false")
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    ended = [s["state"]["terminated"] for s in cluster.get("pod", "p")["status"]["containerStatuses"]]
    assert [(e["exitCode"], e["reason"]) for e in ended] == [(0, "Completed"), (137, "ContainerStatusUnknown")]
    cluster.kubectl("patch", "pod", "p", "--type=merge", "-p", '{"metadata": {"finalizers": null}}')
    cluster.wait("pod/p", "delete")


def test_a_second_deletion_can_shorten_the_grace_period(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(script=DEAF), terminationGracePeriodSeconds=3600))
    cluster.wait("pod/p", "condition=Ready")
    cluster.kubectl("delete", "pod", "p", "--wait=false")
    cluster.wait("pod/p", "jsonpath={.metadata.deletionGracePeriodSeconds}=3600")
    cluster.kubectl("delete", "pod", "p", "--grace-period=1", "--timeout=20s")


def test_a_forced_deletion_makes_room_for_a_pod_of_the_same_name_at_once(cluster: Cluster, namespace: str) -> None:
    port: dict[str, Any] = {"ports": [{"containerPort": 80, "hostPort": cluster.port + 1000}]}
    cluster.apply(pod("p", container(script=f"echo old; {DEAF}", **port), terminationGracePeriodSeconds=3600))
    cluster.wait("pod/p", "condition=Ready")
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "p", "--force", "--grace-period=0")
    cluster.apply(pod("p", container(script=f"echo new; {RUN}", **port)))
    cluster.wait("pod/p", "condition=Ready")
    assert cluster.logs("p") == "new\n"
    eventually(lambda: not cluster.leftovers(uid))


# -- the server


def test_the_status_catches_up_with_what_happened_while_the_server_did_not_answer(
    cluster: Cluster, namespace: str
) -> None:
    shared: dict[str, Any] = {"volumeMounts": [mount("run", "/run-dir")]}
    go = cluster.run_dir / f"go-{namespace}"
    script = f"echo started >> /run-dir/{go.name}.log; until [ -e /run-dir/{go.name} ]; do sleep 0.02; done; exit 4"
    volumes = [{"name": "run", "hostPath": {"path": str(cluster.run_dir)}}]
    cluster.apply(pod("p", container(script=script, **shared), volumes=volumes))
    cluster.wait("pod/p", "condition=Ready")
    log = Path(f"{go}.log")
    server = cluster.pid("server")
    os.kill(server, signal.SIGSTOP)
    try:
        go.touch()
        # It ends, is restarted at once, and ends again: the back-off begins, and nobody can be told.
        eventually(lambda: log.read_text().count("started") == 2)
    finally:
        os.kill(server, signal.SIGCONT)
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CrashLoopBackOff")
    found = status(cluster, "p")
    assert (found["restartCount"], found["lastState"]["terminated"]["exitCode"]) == (1, 4)
    assert conditions(cluster, "p")["Ready"]["status"] == "False"


def test_the_kubelet_mends_a_status_that_others_wrote(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", readinessGates=[{"conditionType": "podling.test/gate"}]))
    cluster.wait("pod/p", "condition=ContainersReady")
    text = 'corresponding condition of pod readiness gate "podling.test/gate" does not exist.'
    assert conditions(cluster, "p")["Ready"]["message"] == text

    def write(kind: str, value: str) -> None:
        body = {"status": {"conditions": [{"type": kind, "status": value}]}}
        cluster.kubectl("patch", "pod", "p", "--subresource=status", "-p", json.dumps(body))

    write("podling.test/gate", "True")
    cluster.wait("pod/p", "condition=Ready")
    write("ContainersReady", "False")
    cluster.wait("pod/p", "condition=ContainersReady")
    assert conditions(cluster, "p")["podling.test/gate"]["status"] == "True"


# -- the node's own server


def test_readers_that_hang_up_leave_nothing_open(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(script=f"echo up; {RUN}")))
    cluster.wait("pod/p", "condition=Ready")
    agent = cluster.pid("agent")

    def watches() -> int:
        links = Path(f"/proc/{agent}/fd").iterdir()
        return sum(_target(link) == "anon_inode:inotify" for link in links)

    before = watches()
    for _ in range(3):
        with cluster.kubectl_lines("logs", "-f", "p") as lines:
            assert next(lines) == "up"
    eventually(lambda: watches() == before)


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except FileNotFoundError:
        return ""


def test_a_running_container_sees_what_a_config_map_becomes(cluster: Cluster, namespace: str) -> None:
    cluster.apply(object_("ConfigMap", "c", data={"key": "old"}))
    script = f"until grep -q new /config/key; do sleep 0.05; done; echo seen; {RUN}"
    volumes = [{"name": "v", "configMap": {"name": "c"}}]
    cluster.apply(pod("p", container(script=script, volumeMounts=[mount("v", "/config")]), volumes=volumes))
    cluster.wait("pod/p", "condition=Ready")
    cluster.apply(object_("ConfigMap", "c", data={"key": "new"}))
    with cluster.kubectl_lines("logs", "-f", "p") as lines:
        assert next(lines) == "seen"


def test_a_part_of_the_nodes_files_shown_by_a_sub_path_outlives_the_pod(cluster: Cluster, namespace: str) -> None:
    kept = cluster.directory / f"kept-{namespace}"
    kept.mkdir()
    (kept / "file").write_text("precious")
    script = "cat /part/file /alone; echo from the pod > /part/new; exit 1"
    mounts = [mount("host", "/part", subPath=kept.name), mount("host", "/alone", subPath=f"{kept.name}/file")]
    volumes = [{"name": "host", "hostPath": {"path": str(cluster.directory)}}]
    cluster.apply(pod("p", container(script=script, volumeMounts=mounts), volumes=volumes))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    assert cluster.logs("p") == "preciousprecious"
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "p")
    assert cluster.leftovers(uid) == []
    assert not (cluster.data_dir / "pods" / uid).exists()
    assert sorted(path.name for path in kept.iterdir()) == ["file", "new"]


def test_restarts_are_counted_on_when_the_node_has_lost_its_records(cluster: Cluster, namespace: str) -> None:
    side = container("side", restartPolicy="Always")
    cluster.apply(pod("p", container("a"), container("b"), initContainers=[container("step", "exit 0"), side]))
    cluster.wait("pod/p", "condition=Ready")
    before = cluster.get("pod", "p")
    cluster.down()
    # As after a power failure with a new disk: neither processes nor what the runtime noted of them.
    for cgroup in cgroups():
        if f"/podling-{cluster.bridge}" in cgroup:
            for pid in Path(cgroup, "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
    eventually(lambda: not any(f"{cluster.run_dir}/containers" in line for line in processes()))
    for line in reversed(Path("/proc/self/mountinfo").read_text().splitlines()):
        if (target := line.split()[4]).startswith(f"{cluster.run_dir}/"):
            subprocess.run(["umount", "-l", target], check=True)
    lost = [cluster.data_dir / "containers", cluster.data_dir / "sandboxes"]
    lost += [path for path in cluster.run_dir.iterdir() if path.is_dir()]
    for directory in lost:
        shutil.rmtree(directory)
    cluster.up()
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].restartCount}=1")
    cluster.wait("pod/p", "condition=Ready")
    after = cluster.get("pod", "p")["status"]
    for status in after["containerStatuses"]:
        ended = status["lastState"]["terminated"]
        assert (status["restartCount"], ended["exitCode"], ended["reason"]) == (1, 137, "ContainerStatusUnknown")
    assert [s["restartCount"] for s in after["initContainerStatuses"]] == [1, 1]
    assert after["startTime"] == before["status"]["startTime"]
    cluster.kubectl("delete", "pod", "p")
