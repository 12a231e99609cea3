"""The life of Pods: start in order, graceful end, deadlines, finalizers, and an agent that goes away and comes back."""

from __future__ import annotations

import json
import os
import re
from typing import Any

import pytest
from tests.support.cluster import Cluster, eventually
from tests.support.pods import RUN, container, items, mount, pod


def terminated(cluster: Cluster, name: str, index: int = 0) -> dict[str, Any]:
    """How a container ended."""
    status: dict[str, Any] = cluster.get("pod", name)["status"]["containerStatuses"][index]
    found: dict[str, Any] = status["state"]["terminated"]
    return found


def messages(cluster: Cluster, name: str, reason: str) -> list[str]:
    """Of the Pod's events of that reason."""
    return [message for _, found, message in cluster.events(name, reason) if found == reason]


# -- start


def test_init_containers_run_one_after_another(cluster: Cluster, namespace: str) -> None:
    shared: dict[str, Any] = {"volumeMounts": [mount("work", "/work")]}
    steps = [container(f"step{i}", f"echo {i} >> /work/order", **shared) for i in (1, 2)]
    main = container(script=f"cat /work/order; {RUN}", **shared)
    with cluster.kubectl_lines("get", "pod", "-w", "--no-headers") as lines:
        cluster.apply(pod("p", main, initContainers=steps, volumes=[{"name": "work", "emptyDir": {}}]))
        states = []
        for line in lines:
            states.append(line.split()[2])
            if states[-1] == "Running":
                break
    assert set(states) <= {"Pending", "Init:0/2", "Init:1/2", "PodInitializing", "Running"}
    assert cluster.logs("p", "-c", "main") == "1\n2\n"
    status = cluster.get("pod", "p")["status"]
    assert [s["state"]["terminated"]["reason"] for s in status["initContainerStatuses"]] == ["Completed"] * 2
    assert all(s["ready"] for s in status["initContainerStatuses"])


def test_a_failing_init_container_stops_the_start(cluster: Cluster, namespace: str) -> None:
    broken = [container("broken", "echo no luck; exit 5"), container("after", "echo never")]
    cluster.apply(items(*(pod(p.lower(), initContainers=broken, restartPolicy=p) for p in ("Never", "Always"))))
    cluster.wait("pod/never", "jsonpath={.status.phase}=Failed")
    assert re.search(r"^never +0/1 +Init:Error ", cluster.kubectl("get", "pods"), re.MULTILINE)
    assert cluster.logs("never", "-c", "broken") == "no luck\n"
    waiting = "jsonpath={.status.initContainerStatuses[0].state.waiting.reason}=CrashLoopBackOff"
    cluster.wait("pod/always", waiting)
    assert re.search(r"^always +0/1 +Init:CrashLoopBackOff ", cluster.kubectl("get", "pods"), re.MULTILINE)
    status = cluster.get("pod", "always")["status"]
    assert status["phase"] == "Pending"
    (initialized,) = [c for c in status["conditions"] if c["type"] == "Initialized"]
    assert initialized["reason"] == "ContainersNotInitialized"
    assert initialized["message"] == "containers with incomplete status: [broken after]"
    for name in ("never", "always"):
        after = cluster.get("pod", name)["status"]["initContainerStatuses"][1]
        assert after["state"] == {"waiting": {"reason": "PodInitializing"}}


def test_sidecars_start_before_and_end_after_the_rest(cluster: Cluster, namespace: str) -> None:
    shared: dict[str, Any] = {"volumeMounts": [mount("work", "/work")]}
    side = container(
        "side",
        "echo side up >> /work/log; trap 'echo side down >> /work/log; cat /work/log; exit 0' TERM; "
        "echo started; sleep 3600 & wait",
        restartPolicy="Always",
        **shared,
    )
    setup = container("setup", "cat /work/log; echo setup >> /work/log", **shared)
    main = container(
        script="echo main up >> /work/log; trap 'echo main down >> /work/log; exit 0' TERM; sleep 3600 & wait", **shared
    )
    volumes = [{"name": "work", "emptyDir": {}}]
    spec: dict[str, Any] = {"initContainers": [side, setup], "volumes": volumes, "terminationGracePeriodSeconds": 20}
    cluster.apply(pod("p", main, **spec))
    cluster.wait("pod/p", "condition=Ready")
    assert re.search(r"^p +2/2 +Running ", cluster.kubectl("get", "pods"), re.MULTILINE)
    assert cluster.logs("p", "-c", "setup") == "side up\n"
    with cluster.kubectl_lines("logs", "-f", "p", "-c", "side") as lines:
        assert next(lines) == "started"
        cluster.kubectl("delete", "pod", "p", "--wait=false")
        assert list(lines) == ["side up", "setup", "main up", "main down", "side down"]
    cluster.wait("pod/p", "delete")
    # A sidecar does not keep a Pod from its end.
    job = container(script="exit 0")
    cluster.apply(pod("job", job, restartPolicy="Never", **spec))
    cluster.wait("pod/job", "jsonpath={.status.phase}=Succeeded")


# -- end


def test_termination_is_graceful_and_then_forced(cluster: Cluster, namespace: str) -> None:
    polite = container("polite", "trap 'echo got TERM; exit 3' TERM; echo polite; sleep 3600 & wait")
    deaf = container("deaf", "trap 'echo ignored' TERM; echo deaf; while :; do sleep 3600 & wait; done")
    # A finalizer keeps the Pod for us to look at.
    meta = {"finalizers": ["podling.test/look"]}
    cluster.apply(pod("p", polite, deaf, metadata=meta, terminationGracePeriodSeconds=2))
    cluster.wait("pod/p", "condition=Ready")
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    with (
        cluster.kubectl_lines("logs", "-f", "p", "-c", "polite") as lines,
        cluster.kubectl_lines("logs", "-f", "p", "-c", "deaf") as ignored,
    ):
        assert (next(lines), next(ignored)) == ("polite", "deaf")
        cluster.kubectl("delete", "pod", "p", "--wait=false")
        assert list(lines) == ["got TERM"]
        assert list(ignored) == ["ignored"]
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[?(@.name=='deaf')].state.terminated.exitCode}=137")
    found = cluster.get("pod", "p")
    statuses = {s["name"]: s["state"]["terminated"] for s in found["status"]["containerStatuses"]}
    assert (statuses["polite"]["exitCode"], statuses["polite"]["reason"]) == (3, "Error")
    assert (statuses["deaf"]["exitCode"], statuses["deaf"]["reason"]) == (137, "Error")
    assert sorted(messages(cluster, "p", "Killing")) == ["Stopping container deaf", "Stopping container polite"]
    # Everything is gone from the node while the finalizer still holds the object.
    eventually(lambda: not cluster.leftovers(uid))
    patch = '{"metadata": {"finalizers": null}}'
    cluster.kubectl("patch", "pod", "p", "--type=merge", "-p", patch)
    cluster.wait("pod/p", "delete")


def test_the_stop_signal_is_the_images_or_the_containers_own(cluster: Cluster, namespace: str) -> None:
    # The nginx image says SIGQUIT: a graceful end, exit code 0.
    nginx = {"name": "nginx", "image": "nginx", "imagePullPolicy": "IfNotPresent"}
    own = container(
        "own",
        "trap 'echo got USR1; exit 0' USR1; trap 'echo got TERM; exit 1' TERM; echo own; sleep 3600 & wait",
        lifecycle={"stopSignal": "SIGUSR1"},
    )
    cluster.apply(pod("p", nginx, own, terminationGracePeriodSeconds=20, os={"name": "linux"}))
    cluster.wait("pod/p", "condition=Ready")
    assert cluster.get("pod", "p")["status"]["containerStatuses"][1]["stopSignal"] == "SIGUSR1"
    with (
        cluster.kubectl_lines("logs", "-f", "p", "-c", "nginx") as lines,
        cluster.kubectl_lines("logs", "-f", "p", "-c", "own") as told,
    ):
        # Who reads already is not too late for the last words.
        assert next(told) == "own"
        assert "epoll" in next(lines)
        cluster.kubectl("delete", "pod", "p", "--wait=false")
        assert list(told) == ["got USR1"]
        assert any("signal 3 (SIGQUIT) received" in line for line in lines)
    cluster.wait("pod/p", "delete")


def test_the_deadline_of_a_pod(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", activeDeadlineSeconds=1))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    status = cluster.get("pod", "p")["status"]
    assert status["reason"] == "DeadlineExceeded"
    assert status["message"] == "Pod was active on the node longer than the specified deadline"
    assert messages(cluster, "p", "DeadlineExceeded") == [status["message"]]


def test_termination_messages(cluster: Cluster, namespace: str) -> None:
    fall_back = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    cluster.apply(
        pod(
            "p",
            container("file", "echo -n from the file > /dev/termination-log"),
            container("path", "echo -n elsewhere > /tmp/why; exit 1", terminationMessagePath="/tmp/why"),
            container("log", "echo last line of the log; exit 1", **fall_back),
            container("quiet", "echo all well", **fall_back),
            container("long", "head -c 5000 /dev/zero | tr '\\0' x > /dev/termination-log"),
            restartPolicy="Never",
        )
    )
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    statuses = cluster.get("pod", "p")["status"]["containerStatuses"]
    messages = {s["name"]: s["state"]["terminated"].get("message", "") for s in statuses}
    assert messages == {
        "file": "from the file",
        "path": "elsewhere",
        "log": "last line of the log\n",
        "quiet": "",
        # A Pod's messages have 12 KiB together, and each of its containers the same share.
        "long": "x" * (12288 // 5),
    }
    assert "      Message:      from the file\n" in cluster.kubectl("describe", "pod", "p")


def limited(name: str, limit: str, script: str = RUN, **fields: Any) -> dict[str, Any]:
    return container(name, script, resources={"limits": {"ephemeral-storage": limit}}, **fields)


FILL = f"head -c 3000000 /dev/zero > /scratch/big; {RUN}"
SCRATCH = {"name": "s", "emptyDir": {}}


@pytest.mark.parametrize(
    ("containers", "volume", "message"),
    [
        (
            [container(script=FILL, volumeMounts=[mount("s", "/scratch")])],
            {"name": "s", "emptyDir": {"sizeLimit": "1Mi"}},
            'Usage of EmptyDir volume "s" exceeds the limit "1Mi". ',
        ),
        (
            # What the volume holds counts for the Pod, not for a container.
            [limited("a", "1Mi", FILL, volumeMounts=[mount("s", "/scratch")]), container("unlimited")],
            SCRATCH,
            "Pod ephemeral local storage usage exceeds the total limit of containers 1Mi. ",
        ),
        (
            [limited("a", "1Mi", f"mkdir /scratch; {FILL}"), limited("b", "100Mi")],
            SCRATCH,
            'Container a exceeded its local ephemeral storage limit "1Mi". ',
        ),
    ],
    ids=["volume", "Pod", "container"],
)
def test_a_pod_that_uses_too_much_local_storage_is_evicted(
    cluster: Cluster, namespace: str, containers: list[dict[str, Any]], volume: dict[str, Any], message: str
) -> None:
    cluster.apply(pod("p", *containers, volumes=[volume]))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    status = cluster.get("pod", "p")["status"]
    assert (status["reason"], status["message"]) == ("Evicted", message)
    assert messages(cluster, "p", "Evicted") == [message]
    cluster.await_event("p", "Warning", "Evicted", message)


# -- the agent


@pytest.mark.parametrize("how", ["down", "kill"])
def test_an_agent_that_comes_back_goes_on_with_what_runs(cluster: Cluster, namespace: str, how: str) -> None:
    go = cluster.run_dir / f"go-{namespace}"
    run_dir = [{"name": "run", "hostPath": {"path": str(cluster.run_dir)}}]

    def ends(name: str, code: int, policy: str) -> dict[str, Any]:
        """A Pod that ends when it is told to, without the agent."""
        script = f"until [ -e /run-dir/{go.name} ]; do sleep 0.02; done; echo {name}; exit {code}"
        main = container(script=script, volumeMounts=[mount("run", "/run-dir")])
        return pod(name, main, restartPolicy=policy, volumes=run_dir)

    cluster.apply(
        items(
            pod("runs", container("a"), container("b")),
            ends("done", 0, "Never"),
            ends("failed", 9, "Never"),
            ends("again", 9, "Always"),
        )
    )
    cluster.wait("pods", "condition=Ready", "--all")
    before = cluster.get("pods")["items"]
    ids = {p["metadata"]["name"]: p["status"]["containerStatuses"][0]["containerID"] for p in before}
    if how == "down":
        cluster.down()
    else:
        for name in ("agent", "server"):
            cluster.kill(name)
    try:
        go.touch()
        container_id = ids["done"].rpartition("/")[2]
        eventually(lambda: not cluster.leftovers(f"-c {container_id}"))
    finally:
        cluster.up()
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    cluster.wait("pod/done", "jsonpath={.status.phase}=Succeeded")
    cluster.wait("pod/failed", "jsonpath={.status.phase}=Failed")
    cluster.wait("pod/again", "jsonpath={.status.containerStatuses[0].lastState.terminated.exitCode}=9")
    cluster.wait("pod/runs", "condition=Ready")
    after = {p["metadata"]["name"]: p["status"]["containerStatuses"] for p in cluster.get("pods")["items"]}
    assert [(s["restartCount"], s["ready"]) for s in after["runs"]] == [(0, True), (0, True)]
    assert after["runs"][0]["containerID"] == ids["runs"]
    assert after["done"][0]["containerID"] == ids["done"]
    assert after["failed"][0]["state"]["terminated"]["exitCode"] == 9
    assert after["again"][0]["restartCount"] >= 1
    assert cluster.logs("done") == "done\n"


def test_nothing_of_a_deleted_pod_is_left_on_the_node(cluster: Cluster, namespace: str) -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "disk", "emptyDir": {}},
        {"name": "memory", "emptyDir": {"medium": "Memory"}},
        {"name": "config", "configMap": {"name": "kube-root-ca.crt"}},
        {"name": "down", "downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
    ]
    mounts = [mount(v["name"], f"/{v['name']}") for v in volumes]
    cluster.apply(
        pod(
            "p",
            container("a", volumeMounts=mounts, resources={"limits": {"memory": "32Mi", "cpu": "100m"}}),
            container("b", volumeMounts=mounts),
            initContainers=[container("i", "echo i > /disk/i", volumeMounts=mounts)],
            volumes=volumes,
            shareProcessNamespace=True,
        )
    )
    cluster.wait("pod/p", "condition=Ready")
    found = cluster.get("pod", "p")
    uid, ip = found["metadata"]["uid"], found["status"]["podIP"]
    ids = [s["containerID"].rpartition("/")[2] for s in found["status"]["containerStatuses"]]
    assert cluster.leftovers(uid, *ids)

    def files() -> list[str]:
        names = [uid, *ids]
        roots = (cluster.data_dir, cluster.run_dir)
        return [
            os.path.join(directory, entry)
            for root in roots
            for directory, below, plain in os.walk(root)
            if "images" not in directory
            for entry in [*below, *plain]
            if any(name in entry for name in names)
        ]

    assert files()
    leases = cluster.data_dir / "network" / "leases"
    assert any(ip in path.name or ip in path.read_text() for path in leases.iterdir())
    cluster.kubectl("delete", "pod", "p")
    assert cluster.leftovers(uid, *ids) == []
    assert files() == []
    assert not any(ip in path.name or ip in path.read_text() for path in leases.iterdir())
    assert json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"] == []
