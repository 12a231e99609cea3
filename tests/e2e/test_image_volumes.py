"""volumes[].image: the files of an image, mounted read-only into another container."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.support import images
from tests.support.cluster import Cluster, eventually, unique
from tests.support.pods import container, mount, pod
from tests.support.raw_image import artifact
from tools.oci_layout import Layer
from tools.registry import Registry


def data(text: str = "from below") -> list[Layer]:
    """Two layers, the upper one with a file more and one of the lower one's files less."""
    below, above = Layer(), Layer()
    below.file("models/weights", text)
    below.file("gone", "x")
    below.file("run.sh", "#!/bin/sh\necho ran\n", 0o755)
    below.symlink("models/outside", "/etc/passwd")
    above.file("models/more", "from above")
    above.whiteout("gone")
    return [below, above]


def volume(image: str, **fields: Any) -> dict[str, Any]:
    return {"name": "data", "image": {"reference": image, **fields}}


def test_merged_layers_are_seen_read_only_and_not_executable(
    cluster: Cluster, namespace: str, registry: Registry
) -> None:
    # Two streams of a container have no order among each other.
    script = (
        "exec 2>&1; cat /data/models/weights; echo; cat /data/models/more; echo; ls /data; touch /data/x; sh -c /data/run.sh; "
        "cat /sub/more"
    )
    mounts = [mount("data", "/data"), mount("data", "/sub", subPath="models")]
    image = images.push(registry, *data())
    cluster.apply(
        pod("p", container("main", script, volumeMounts=mounts), volumes=[volume(image)], restartPolicy="Never")
    )
    cluster.wait("pod/p", "jsonpath={.status.phase}=Succeeded")
    assert cluster.logs("p").splitlines() == [
        "from below",
        "from above",
        "models",
        "run.sh",
        "touch: /data/x: Read-only file system",
        "sh: /data/run.sh: Permission denied",
        "from above",
    ]
    # Its image can be told from those of containers by its events, which are the Pod's.
    events = cluster.get("events", "--field-selector=reason=Pulled")["items"]
    (pulled,) = (event for event in events if image in event["message"])
    assert "fieldPath" not in pulled["involvedObject"]
    cluster.kubectl("delete", "pod", "p")
    eventually(lambda: not [line for line in cluster.leftovers(str(cluster.run_dir)) if "/images/" in line])


def test_an_artifacts_files_are_seen_read_only(cluster: Cluster, namespace: str, registry: Registry) -> None:
    name = f"{unique('artifact')}:1"
    artifact({"weights.bin": b"w1", "docs/readme": b"read me"}).upload(registry, f"docker.io/library/{name}")
    script = "exec 2>&1; cd /data; find . -type f | sort; cat weights.bin docs/readme; echo; touch weights.bin; true"
    main = container("main", script, volumeMounts=[mount("data", "/data")], securityContext={"runAsUser": 1000})
    cluster.apply(pod("p", main, volumes=[volume(name)], restartPolicy="Never"))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Succeeded")
    assert cluster.logs("p").splitlines() == [
        "./docs/readme",
        "./weights.bin",
        "w1read me",
        "touch: weights.bin: Read-only file system",
    ]


def test_a_container_of_an_artifact_says_that_it_cannot_be(
    cluster: Cluster, namespace: str, registry: Registry
) -> None:
    name = f"{unique('artifact')}:1"
    artifact({"weights.bin": b"w2"}).upload(registry, f"docker.io/library/{name}")
    cluster.apply(pod("p", {"name": "main", "image": name}))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError")
    (status,) = cluster.get("pod", "p")["status"]["containerStatuses"]
    assert "is an OCI artifact without a root file system" in status["state"]["waiting"]["message"]


def test_image_of_a_volume_is_in_use_and_not_pruned(cluster: Cluster, namespace: str, registry: Registry) -> None:
    script = "trap 'cat /d/models/more; echo; exit' TERM; echo ready; while true; do sleep 0.05; done"
    # Content of its own: what other tests pulled of the same content would be removed in the same line.
    image = images.push(registry, *data("for one test"))
    cluster.apply(pod("p", container("main", script, volumeMounts=[mount("data", "/d")]), volumes=[volume(image)]))
    cluster.wait("pod/p", "condition=Ready")
    prune = ("image", "prune", "--data-dir", str(cluster.data_dir))
    with cluster.kubectl_lines("logs", "--follow", "p") as lines:
        assert next(lines) == "ready"
        assert image not in cluster.podling(*prune).stdout
        cluster.kubectl("delete", "pod", "p")
        assert next(lines) == "from above"
    assert f"Removed docker.io/library/{image}\n" in cluster.podling(*prune).stdout


@pytest.mark.parametrize(("policy", "reason"), [("IfNotPresent", "ImagePullBackOff"), ("Never", "ErrImageNeverPull")])
def test_missing_image_keeps_the_container_waiting_with_the_reason_of_a_pull(
    cluster: Cluster, namespace: str, policy: str, reason: str
) -> None:
    mounts = [mount("data", "/data")]
    cluster.apply(
        pod("p", container("main", volumeMounts=mounts), volumes=[volume("no-such-image:1", pullPolicy=policy)])
    )
    cluster.wait("pod/p", f"jsonpath={{.status.containerStatuses[0].state.waiting.reason}}={reason}")
    waiting = cluster.get("pod", "p")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "no-such-image:1" in waiting["message"]


def test_always_shows_what_the_tag_means_now(cluster: Cluster, namespace: str, registry: Registry) -> None:
    def show(name: str, policy: str) -> str:
        main = container("main", "cat /data/models/weights", volumeMounts=[mount("data", "/data")])
        cluster.apply(pod(name, main, volumes=[volume(image, pullPolicy=policy)], restartPolicy="Never"))
        cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Succeeded")
        return cluster.logs(name)

    image = images.push(registry, *data("old"))
    assert show("first", "IfNotPresent") == "old"
    images.push(registry, *data("new"), name=image)
    assert show("second", "IfNotPresent") == "old"
    assert show("third", "Always") == "new"


@pytest.mark.parametrize("sub_path", ["nothing/here", "models/outside"])
def test_sub_path_that_the_image_does_not_hold_is_an_error(
    cluster: Cluster, namespace: str, registry: Registry, sub_path: str
) -> None:
    image = images.push(registry, *data())
    mounts = [mount("data", "/data", subPath=sub_path)]
    cluster.apply(pod("p", container("main", volumeMounts=mounts), volumes=[volume(image)]))
    cluster.wait("pod/p", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError")


def test_ten_pods_of_one_image_started_together_pull_it_once(
    cluster: Cluster, namespace: str, registry: Registry
) -> None:
    image = images.push(registry, config={"Cmd": ["sleep", "1000"]})
    before = len(registry.requests())
    pods = [pod(f"p{number}", {"name": "main", "image": image}) for number in range(10)]
    cluster.apply({"apiVersion": "v1", "kind": "List", "items": pods})
    cluster.wait("pod", "condition=Ready", "--all")
    requests = [r for r in registry.requests()[before:] if image.partition(":")[0] in r and "/blobs/" in r]
    # The layer and the configuration.
    assert len(requests) == 2, requests


def test_deleting_the_pod_cancels_its_pull(cluster: Cluster, namespace: str, registry: Registry) -> None:
    """A registry that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        cluster.apply(pod("p", {"name": "main", "image": f"{address}/slow:1"}))
        silent.accept()
        assert any(address in line for line in cluster.leftovers(address))
        cluster.kubectl("delete", "pod", "p", "--timeout=20s")
        assert cluster.leftovers(address) == []
