"""The seed's table of Dockerfile instructions: which of them a Pod respects, and what replaces the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.support import images
from tests.support.cluster import Cluster
from tests.support.pods import mount, pod
from tools.oci_layout import Layer
from tools.registry import Registry


@dataclass
class Case:
    """An image configuration, a container made of it, and what that prints."""

    instruction: str
    what: str
    image: dict[str, Any]
    output: str
    container: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.instruction}: {self.what}"


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


MOUNTED = "grep -c ' /data ' /proc/mounts; cat /data/file; stat -c '%u:%g %a' /data; touch /data/new && echo writable"

CASES = [
    Case("ENTRYPOINT", "runs with CMD as its arguments", {"Entrypoint": ["echo", "e"], "Cmd": ["c"]}, "e c"),
    Case(
        "ENTRYPOINT",
        "command replaces it, and CMD with it",
        {"Entrypoint": ["false"], "Cmd": ["false"]},
        "mine",
        {"command": ["echo", "mine"]},
    ),
    Case("CMD", "runs where there is no ENTRYPOINT", {"Cmd": ["echo", "c"]}, "c"),
    Case("CMD", "args replace it", {"Entrypoint": ["echo", "e"], "Cmd": ["c"]}, "e a b", {"args": ["a", "b"]}),
    Case(
        "ENV",
        "env adds to it and overrides it",
        {"Cmd": sh("echo $A $B $C"), "Env": ["A=image", "B=image"]},
        "image pod pod",
        {"env": [{"name": "B", "value": "pod"}, {"name": "C", "value": "pod"}]},
    ),
    Case(
        "VOLUME",
        "is a directory of its own with the image's content",
        {"Cmd": sh(MOUNTED), "Volumes": {"/data": {}, "/none": {}}},
        "1 from the image 1000:1000 750 writable",
        {"securityContext": {"readOnlyRootFilesystem": True}},
    ),
    Case(
        "VOLUME",
        "volumeMounts replace it",
        {"Cmd": sh("grep -c ' /data ' /proc/mounts; ls /data | wc -l"), "Volumes": {"/data/": {}}},
        "1 0",
        {"volumeMounts": [mount("v", "/data")]},
        {"volumes": [{"name": "v", "emptyDir": {}}]},
    ),
    Case("USER", "a number", {"Cmd": sh("id -u; id -g"), "User": "1234"}, "1234 0"),
    Case("USER", "a name, with its groups", {"Cmd": sh("id -u; id -g; id -G"), "User": "app"}, "1000 1000 1000 45"),
    Case("USER", "user and group by name", {"Cmd": sh("id -u; id -g"), "User": "app:staff"}, "1000 50"),
    Case(
        "USER",
        "runAsUser replaces it, supplementalGroups add to it",
        {"Cmd": sh("id -u; id -G"), "User": "app"},
        "7 0 99",
        {"securityContext": {"runAsUser": 7}},
        {"securityContext": {"supplementalGroups": [99]}},
    ),
    Case("WORKDIR", "is made if need be", {"Cmd": ["pwd"], "WorkingDir": "/srv/app"}, "/srv/app"),
    Case(
        "WORKDIR",
        "workingDir replaces it",
        {"Cmd": ["pwd"], "WorkingDir": "/srv/app"},
        "/tmp",
        {"workingDir": "/tmp"},
    ),
    Case(
        "HEALTHCHECK",
        "is not run",
        {
            "Cmd": sh("sleep 1; ls /tmp | wc -l"),
            "Healthcheck": {"Test": ["CMD-SHELL", "touch /tmp/checked"], "Interval": 10_000_000, "Retries": 1},
        },
        "0",
    ),
    Case("SHELL", "counts for nothing", {"Cmd": sh("echo $0"), "Shell": ["/bin/false", "-c"]}, "sh"),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_dockerfile_instruction(cluster: Cluster, namespace: str, registry: Registry, case: Case) -> None:
    content = Layer()
    content.directory("data", 0o750, owner=(1000, 1000))
    content.file("data/file", "from the image\n", owner=(1000, 1000))
    image = images.push(registry, images.busybox_layer(), content, config=case.image)
    container = {"name": "main", "image": image, **case.container}
    cluster.apply(pod("p", container, restartPolicy="Never", **case.spec))
    cluster.wait("pod/p", "jsonpath={.status.phase}=Succeeded")
    assert cluster.logs("p").split() == case.output.split()


def test_stopsignal_is_what_a_deletion_sends(cluster: Cluster, namespace: str, registry: Registry) -> None:
    script = "trap 'echo got SIGUSR1; exit' USR1; echo ready; while true; do sleep 0.05; done"
    image = images.push(registry, config={"Cmd": sh(script), "StopSignal": "SIGUSR1"})
    cluster.apply(pod("p", {"name": "main", "image": image}, terminationGracePeriodSeconds=30))
    cluster.wait("pod/p", "condition=Ready")
    with cluster.kubectl_lines("logs", "--follow", "p") as lines:
        assert next(lines) == "ready"
        cluster.kubectl("delete", "pod", "p", "--timeout=20s")
        assert next(lines) == "got SIGUSR1"


def test_expose_opens_nothing_containerport_does_not_need_it(
    cluster: Cluster, namespace: str, registry: Registry
) -> None:
    image = images.push(registry, config={"Cmd": ["sleep", "1000"], "ExposedPorts": {"80/tcp": {}}})
    cluster.apply(pod("p", {"name": "main", "image": image}))
    cluster.wait("pod/p", "condition=Ready")
    assert "ports" not in cluster.get("pod", "p")["spec"]["containers"][0]


def test_volume_of_an_image_goes_with_its_container(cluster: Cluster, namespace: str, registry: Registry) -> None:
    def volumes() -> set[str]:
        return {str(path) for path in (cluster.data_dir / "containers").glob("*/volumes/*")}

    image = images.push(registry, config={"Cmd": ["sleep", "1000"], "Volumes": {"/a": {}, "/b/c": {}}})
    before = volumes()
    cluster.apply(pod("p", {"name": "main", "image": image}))
    cluster.wait("pod/p", "condition=Ready")
    assert len(volumes() - before) == 2
    cluster.kubectl("delete", "pod", "p")
    assert volumes() == before


def test_user_that_the_image_does_not_know_is_an_error_that_names_it(
    cluster: Cluster, namespace: str, registry: Registry
) -> None:
    image = images.push(registry, config={"Cmd": ["true"], "User": "nobody"})
    cluster.apply(pod("p", {"name": "main", "image": image}, restartPolicy="Never"))
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerError"
    cluster.wait("pod/p", reason)
    waiting = cluster.get("pod", "p")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "unable to find user nobody: no matching entries in passwd file" in waiting["message"]
