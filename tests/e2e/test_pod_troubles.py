"""Pods that cannot start: what their status and their events say, and how they recover once the cause is mended."""

from __future__ import annotations

import re
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import RUN, container, mount, object_, pod

STATE = "jsonpath={.status.containerStatuses[0].state"


def await_reason(cluster: Cluster, reason: str, name: str = "p") -> str:
    """The message beside a waiting reason, once the container waits for it; kubectl get shows the reason, too."""
    cluster.wait(f"pod/{name}", f"{STATE}.waiting.reason}}={reason}")
    state: dict[str, Any] = cluster.get("pod", name)["status"]["containerStatuses"][0]["state"]
    if state.get("waiting", {}).get("reason") == reason:
        return str(state["waiting"].get("message", ""))
    return await_reason(cluster, reason, name)


def test_an_image_that_is_not_there(cluster: Cluster, namespace: str) -> None:
    image = "docker.io/library/absent:1"
    cluster.apply(pod("p", container(image=image)))
    message = await_reason(cluster, "ImagePullBackOff")
    assert message.startswith(f'Back-off pulling image "{image}": ErrImagePull: ')
    assert f"{image}: not found" in message
    assert re.search(r"^p +0/1 +(ImagePullBackOff|ErrImagePull) +0 ", cluster.kubectl("get", "pods"), re.MULTILINE)
    assert cluster.get("pod", "p")["status"]["phase"] == "Pending"
    seen = cluster.events("p", "BackOff")
    assert ("Normal", "Pulling", f'Pulling image "{image}"') in seen
    assert ("Warning", "Failed", "Error: ErrImagePull") in seen
    assert ("Normal", "BackOff", f'Back-off pulling image "{image}"') in seen
    assert any(text.startswith(f'Failed to pull image "{image}": ') for _, _, text in seen)
    # With another image it starts, without waiting for the back-off of the old one.
    cluster.kubectl("set", "image", "pod/p", "main=busybox")
    cluster.wait("pod/p", "condition=Ready", timeout=9)


@pytest.mark.parametrize(
    ("fields", "reason", "message", "event"),
    [
        (
            {"image": "nginx:no-such-tag", "imagePullPolicy": "Never"},
            "ErrImageNeverPull",
            'Container image "nginx:no-such-tag" is not present with pull policy of Never',
            "Error: ErrImageNeverPull",
        ),
        (
            {"image": "Not:Good:At:All"},
            "InvalidImageName",
            'Failed to apply default image tag "Not:Good:At:All": couldn\'t parse image name "Not:Good:At:All": '
            "invalid reference format",
            "Error: InvalidImageName",
        ),
        (
            {"securityContext": {"runAsNonRoot": True}},
            "CreateContainerConfigError",
            'container has runAsNonRoot and image will run as root (pod: "p_NAMESPACE(UID)", container: main)',
            'Error: container has runAsNonRoot and image will run as root (pod: "p_NAMESPACE(UID)", container: main)',
        ),
    ],
)
def test_containers_that_can_never_start(
    cluster: Cluster, namespace: str, fields: dict[str, Any], reason: str, message: str, event: str
) -> None:
    cluster.apply(pod("p", container(**fields)))
    uid = cluster.get("pod", "p")["metadata"]["uid"]

    def filled(text: str) -> str:
        return text.replace("NAMESPACE", namespace).replace("UID", uid)

    assert await_reason(cluster, reason).startswith(filled(message))
    cluster.await_event("p", "Warning", "Failed", filled(event))
    assert cluster.get("pod", "p")["status"]["phase"] == "Pending"
    assert re.search(rf"^p +0/1 +{reason} +0 ", cluster.kubectl("get", "pods"), re.MULTILINE)


@pytest.mark.parametrize(
    ("fields", "missing", "mended"),
    [
        (
            {"envFrom": [{"configMapRef": {"name": "c"}}]},
            'configmap "c" not found',
            object_("ConfigMap", "c", data={"A": "b"}),
        ),
        (
            {"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]},
            'secret "s" not found',
            object_("Secret", "s", stringData={"k": "v"}),
        ),
    ],
)
def test_a_missing_object_stops_a_container_until_it_is_there(
    cluster: Cluster, namespace: str, fields: dict[str, Any], missing: str, mended: dict[str, Any]
) -> None:
    cluster.apply(pod("p", container(**fields)))
    assert await_reason(cluster, "CreateContainerConfigError") == missing
    cluster.await_event("p", "Warning", "Failed", f"Error: {missing}")
    cluster.apply(mended)
    cluster.wait("pod/p", "condition=Ready", timeout=20)
    assert cluster.get("pod", "p")["status"]["containerStatuses"][0]["restartCount"] == 0


def test_a_file_of_the_node_that_cannot_be_written_is_named(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(envFrom=[{"configMapRef": {"name": "c"}}])))
    assert await_reason(cluster, "CreateContainerConfigError") == 'configmap "c" not found'
    hosts = cluster.data_dir / "pods" / cluster.get("pod", "p")["metadata"]["uid"] / "etc-hosts"
    hosts.mkdir()
    cluster.apply(object_("ConfigMap", "c", data={"A": "b"}))
    text = f"cannot prepare the files of the container: {hosts}: Is a directory"
    cluster.wait("pod/p", f"jsonpath={{.status.containerStatuses[0].state.waiting.message}}={text}", timeout=20)
    cluster.await_event("p", "Warning", "Failed", f"Error: {text}")
    hosts.rmdir()
    cluster.wait("pod/p", "condition=Ready", timeout=20)


def test_a_missing_volume_stops_the_pod_until_it_is_there(cluster: Cluster, namespace: str) -> None:
    volumes = [{"name": "v", "configMap": {"name": "c"}}]
    main = container(script=f"cat /v/k; {RUN}", volumeMounts=[mount("v", "/v")])
    cluster.apply(pod("p", main, volumes=volumes))
    text = 'MountVolume.SetUp failed for volume "v" : configmap "c" not found'
    cluster.await_event("p", "Warning", "FailedMount", text)
    assert await_reason(cluster, "ContainerCreating") == ""
    cluster.apply(object_("ConfigMap", "c", data={"k": "here"}))
    cluster.wait("pod/p", "condition=Ready", timeout=20)
    assert cluster.logs("p") == "here"


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"command": ["no-such-program"]}, 128, 'exec: "no-such-program": executable file not found in $PATH'),
        (
            {"command": ["/no/such/program"]},
            128,
            'exec: "/no/such/program": stat /no/such/program: no such file or directory',
        ),
        ({"command": ["/etc/passwd"]}, 128, "ermission denied"),
    ],
)
def test_a_command_that_does_not_start(
    cluster: Cluster, namespace: str, fields: dict[str, Any], code: int, text: str
) -> None:
    cluster.apply(pod("p", container(**fields), restartPolicy="Never"))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Failed")
    ended = cluster.get("pod", "p")["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (ended["exitCode"], ended["reason"]) == (code, "StartError")
    assert text in ended["message"]
    assert any(kind == "Warning" and text in message for kind, _, message in cluster.events("p", "Failed"))
    assert re.search(r"^p +0/1 +StartError +0 ", cluster.kubectl("get", "pods"), re.MULTILINE)


@pytest.mark.parametrize("policy", ["Never", "Always"])
def test_a_container_that_could_not_be_started_waits_only_if_it_is_started_again(
    cluster: Cluster, namespace: str, policy: str
) -> None:
    cluster.apply(pod("p", container("bad", command=["/no/such"]), container("good"), restartPolicy=policy))
    where = "jsonpath={.status.containerStatuses[?(@.name=='bad')]"
    ended = "state" if policy == "Never" else "lastState"
    cluster.wait("pod/p", f"{where}.{ended}.terminated.reason}}=StartError")
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[?(@.name=='good')].ready}=true")
    bad = next(one for one in cluster.get("pod", "p")["status"]["containerStatuses"] if one["name"] == "bad")
    assert bad[ended]["terminated"]["exitCode"] == 128
    if policy == "Never":
        assert list(bad["state"]) == ["terminated"]
    else:
        assert bad["state"]["waiting"]["reason"] in ("RunContainerError", "CrashLoopBackOff")


def test_a_full_host_name_that_is_too_long_is_told(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", subdomain="s" * 60, setHostnameAsFQDN=True))
    told = [
        message for _, reason, message in cluster.events("p", "FailedCreatePodSandBox") if reason.startswith("Failed")
    ]
    full = f"p.{'s' * 60}.{namespace}.svc.cluster.local"
    assert set(told) == {
        "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, "
        f"FQDN {full} is too long (64 characters is the max, {len(full)} characters requested)"
    }


def test_a_pod_for_windows_fails_and_one_with_selinux_labels_runs(cluster: Cluster, namespace: str) -> None:
    labels = {"seLinuxOptions": {"level": "s0:c1,c2"}}
    cluster.apply(pod("w", os={"name": "windows"}))
    cluster.apply(pod("s", container(securityContext=labels), securityContext=labels))
    cluster.wait("pod/w", "jsonpath={.status.reason}=PodOSNotSupported")
    status = cluster.get("pod", "w")["status"]
    message = "Pod was rejected: Failed to admit pod as the OS field doesn't match node OS"
    assert (status["phase"], status["message"]) == ("Failed", message)
    cluster.wait("pod/s", "condition=Ready")


def test_a_crash_loop_is_told(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("p", container(script="echo again; exit 1")))
    await_reason(cluster, "CrashLoopBackOff")
    assert re.search(r"^p +0/1 +CrashLoopBackOff +1 \(\d+s ago\) ", cluster.kubectl("get", "pods"), re.MULTILINE)
    uid = cluster.get("pod", "p")["metadata"]["uid"]
    text = f"Back-off restarting failed container main in pod p_{namespace}({uid})"
    cluster.await_event("p", "Warning", "BackOff", text)
    described = cluster.kubectl("describe", "pod", "p")
    assert re.search(r"State: +Waiting\n +Reason: +CrashLoopBackOff\n", described)
    assert re.search(r"Last State: +Terminated\n +Reason: +Error\n +Exit Code: +1\n", described)
    assert re.search(
        r"Normal +Started +\S+ \(x2 over \S+\) +kubelet +(spec.containers{main}: )?Container started", described
    )


def test_host_paths_of_the_wrong_type(cluster: Cluster, namespace: str) -> None:
    source = {"path": "/etc/passwd", "type": "Directory"}
    main = container(volumeMounts=[mount("v", "/v")])
    cluster.apply(pod("p", main, volumes=[{"name": "v", "hostPath": source}]))
    text = 'MountVolume.SetUp failed for volume "v" : hostPath type check failed: /etc/passwd is not a directory'
    cluster.await_event("p", "Warning", "FailedMount", text)
