"""imagePullPolicy, with tags that move; what a pull that fails tells; and how often the registry is asked."""

from __future__ import annotations

import json
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster, processes, unique
from tests.support.images import busybox_layer
from tests.support.pods import container, items, pod
from tools.images import BuiltImage
from tools.oci_layout import ImageSpec, LayoutWriter
from tools.registry import Registry

HOST = "docker.io/library"


def push(registry: Registry, name: str, text: str, tag: str = "1", architecture: str = "") -> str:
    """Pushes an image that prints `text`, and runs on; returns its ID."""
    layer = busybox_layer()
    layer.file("etc/text", f"{text}\n")
    config = {"Cmd": ["sh", "-c", "cat /etc/text; trap 'exit 0' TERM; sleep 3600 & wait"]}
    spec = ImageSpec([layer], config, **({"architecture": architecture} if architecture else {}))
    with tempfile.TemporaryDirectory(dir=registry.directory) as directory:
        layout = Path(directory) / "layout"
        # Two, since skopeo looks at the platform of an index only.
        writer = LayoutWriter(layout)
        built = BuiltImage("test", layout, writer.write(*[spec] * (2 if architecture else 1)))
        registry.push(built, f"{HOST}/{name}:{tag}")
        (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
        content = json.loads((layout / "blobs" / "sha256" / manifest["digest"].partition(":")[2]).read_text())
        return str(content.get("config", {}).get("digest", ""))


@pytest.fixture
def name() -> str:
    """A repository of its own."""
    return unique("policy")


def run(cluster: Cluster, name: str, image: str, policy: str) -> str:
    """What a Pod with this image prints."""
    cluster.apply(pod(name, {"name": "main", "image": image, "imagePullPolicy": policy}))
    cluster.wait(f"pod/{name}", "condition=Ready")
    return printed(cluster, name)


def printed(cluster: Cluster, name: str) -> str:
    with cluster.kubectl_lines("logs", "--follow", name) as lines:
        return next(lines)


def waiting(cluster: Cluster, name: str, reason: str, index: int = 0) -> str:
    """The message with which the container waits, once it waits for that reason."""
    state = f"{{.status.containerStatuses[{index}].state.waiting.reason}}"
    cluster.wait(f"pod/{name}", f"jsonpath={state}={reason}", timeout=30)
    status = cluster.get("pod", name)["status"]["containerStatuses"][index]
    return str(status["state"].get("waiting", {}).get("message", ""))


def blobs(requests: list[str]) -> list[str]:
    return [request.split()[1].rpartition("/")[2] for request in requests if "/blobs/" in request]


def test_the_default_is_always_for_latest_and_if_not_present_for_the_rest(cluster: Cluster, namespace: str) -> None:
    expected = {
        "busybox": "Always",
        "busybox:latest": "Always",
        "docker.io/library/busybox": "Always",
        "localhost:5000/busybox": "Always",
        "busybox:1.36": "IfNotPresent",
        "busybox@sha256:" + "0" * 64: "IfNotPresent",
        "busybox:1.36@sha256:" + "0" * 64: "IfNotPresent",
    }
    containers = [{"name": f"c{i}", "image": image} for i, image in enumerate(expected)]
    created = cluster.kubectl(
        "create", "--dry-run=server", "-f", "-", "-o", "json", stdin=json.dumps(pod("defaults", *containers))
    )
    found = {each["image"]: each["imagePullPolicy"] for each in json.loads(created)["spec"]["containers"]}
    assert found == expected


def test_a_tag_that_moved_counts_for_always_only(
    cluster: Cluster, namespace: str, registry: Registry, name: str
) -> None:
    image = f"{name}:1"
    push(registry, name, "one")
    assert run(cluster, "first", image, "IfNotPresent") == "one"
    push(registry, name, "two")
    assert {
        policy: run(cluster, f"before-{policy.lower()}", image, policy) for policy in ("IfNotPresent", "Never")
    } == {
        "IfNotPresent": "one",
        "Never": "one",
    }
    assert run(cluster, "moved", image, "Always") == "two"
    # The new one has replaced the old one on the node; Pods that run keep theirs.
    for policy in ("Always", "IfNotPresent", "Never"):
        assert run(cluster, f"after-{policy.lower()}", image, policy) == "two"
    assert printed(cluster, "first") == "one"
    statuses = {each["metadata"]["name"]: each["status"] for each in cluster.get("pods")["items"]}
    images = {pod_name: status["containerStatuses"][0]["imageID"] for pod_name, status in statuses.items()}
    assert len({images["first"], images["before-never"], images["before-ifnotpresent"]}) == 1
    assert len({images["moved"], images["after-never"], images["after-ifnotpresent"], images["after-always"]}) == 1
    assert images["first"] != images["moved"]


def test_an_unchanged_image_transfers_no_layer(cluster: Cluster, namespace: str, registry: Registry, name: str) -> None:
    push(registry, name, "same")
    run(cluster, "first", f"{name}:1", "Always")
    before = len(registry.requests())
    assert run(cluster, "second", f"{name}:1", "Always") == "same"
    asked = [request for request in registry.requests()[before:] if f"/{name}/" in request]
    assert asked == [f"HEAD /v2/{HOST}/{name}/manifests/1 200"]
    before = len(registry.requests())
    assert run(cluster, "third", f"{name}:1", "IfNotPresent") == "same"
    assert [request for request in registry.requests()[before:] if f"/{name}/" in request] == []


def test_ten_pods_started_together_pull_once(cluster: Cluster, namespace: str, registry: Registry, name: str) -> None:
    identifier = push(registry, name, "together")
    before = len(registry.requests())
    policies = ["Always", "IfNotPresent"] * 5
    pods = [
        pod(f"together-{i}", {"name": "main", "image": f"{name}:1", "imagePullPolicy": policy})
        for i, policy in enumerate(policies)
    ]
    cluster.apply(items(*pods))
    cluster.wait("pods", "condition=Ready", "--all")
    fetched = blobs([request for request in registry.requests()[before:] if f"/{name}/" in request])
    # One layer and the configuration, each of them once.
    assert len(fetched) == 2
    assert len(set(fetched)) == 2
    assert identifier in fetched


def test_never_waits_for_the_image_to_be_there(
    cluster: Cluster, namespace: str, registry: Registry, name: str, tmp_path: Path
) -> None:
    push(registry, name, "loaded")
    before = len(registry.requests())
    cluster.apply(pod("never", {"name": "main", "image": f"{name}:1", "imagePullPolicy": "Never"}))
    text = f'Container image "{name}:1" is not present with pull policy of Never'
    assert waiting(cluster, "never", "ErrImageNeverPull") == text
    assert "ErrImageNeverPull" in cluster.kubectl("get", "pod", "never")
    assert [request for request in registry.requests()[before:] if f"/{name}/" in request] == []
    cluster.podling("image", "pull", "--data-dir", str(cluster.data_dir), f"{name}:1")
    cluster.wait("pod/never", "condition=Ready")
    assert printed(cluster, "never") == "loaded"


@pytest.fixture(scope="module")
def tls_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """Speaks TLS with a certificate that nobody trusts."""
    with Registry(tmp_path_factory.mktemp("tls"), tls=True) as registry:
        yield registry


def test_a_pull_that_fails_names_the_cause(cluster: Cluster, namespace: str, registry: Registry, name: str) -> None:
    push(registry, name, "", tag="foreign", architecture="s390x")
    causes = {
        f"{name}:none": f'not found: repository "{HOST}/{name}" has no tag "none"',
        f"{name}-none:1": f'not found: there is no repository "{HOST}/{name}-none"',
        f"{name}@sha256:{'0' * 64}": f'not found: repository "{HOST}/{name}" has no digest "sha256:{"0" * 64}"',
        f"{name}:foreign": "no match for platform in manifest: not found: none for linux/",
        "no-such-registry.invalid/app:1": "dial tcp: lookup no-such-registry.invalid",
        "127.0.0.1:1/app:1": "connect: connection refused",
    }
    containers = [container(f"c{i}", image=image) for i, image in enumerate(causes)]
    cluster.apply(pod("failing", *containers))
    told: dict[str, str] = {}
    for i, image in enumerate(causes):
        message = waiting(cluster, "failing", "ImagePullBackOff", i)
        assert message.startswith(f'Back-off pulling image "{image}": ErrImagePull: failed to pull and unpack image')
        told[image] = message
    assert {image: cause for image, cause in causes.items() if cause not in told[image]} == {}, told


def test_an_untrusted_certificate_is_named(cluster: Cluster, namespace: str, tls_registry: Registry) -> None:
    """By the runtime's own command, since the cluster's configuration reaches no such registry."""
    conf = tls_registry.directory / "untrusted.conf"
    conf.write_text(f'[[registry]]\nprefix = "tls.example.com"\nlocation = "{tls_registry.address}"\n')
    failed = cluster.podling(
        *(
            "image",
            "pull",
            "--data-dir",
            str(cluster.data_dir),
            "--registries-conf",
            str(conf),
            "tls.example.com/app:1",
        ),
        check=False,
    )
    assert failed.returncode != 0
    assert "x509: certificate signed by unknown authority" in failed.stderr


def test_an_invalid_name_is_said_to_be_one(cluster: Cluster, namespace: str) -> None:
    cluster.apply(pod("invalid", container(image="busybox:no:such")))
    message = waiting(cluster, "invalid", "InvalidImageName")
    assert message == (
        'Failed to apply default image tag "busybox:no:such": couldn\'t parse image name "busybox:no:such": '
        "invalid reference format"
    )


@pytest.mark.parametrize(("wrong", "reason"), [(":none", "ImagePullBackOff"), (":no:such", "InvalidImageName")])
def test_another_image_is_tried_at_once(
    cluster: Cluster, namespace: str, registry: Registry, name: str, wrong: str, reason: str
) -> None:
    push(registry, name, "right")
    cluster.apply(pod("mended", {"name": "main", "image": f"{name}{wrong}", "imagePullPolicy": "IfNotPresent"}))
    waiting(cluster, "mended", reason)
    cluster.kubectl("set", "image", "pod/mended", f"main={name}:1")
    cluster.wait("pod/mended", "condition=Ready", timeout=8)
    assert printed(cluster, "mended") == "right"


def test_events_tell_of_a_pull(cluster: Cluster, namespace: str, registry: Registry, name: str) -> None:
    push(registry, name, "told")
    run(cluster, "told", f"{name}:1", "IfNotPresent")

    def told() -> list[dict[str, Any]]:
        return list(cluster.get("events", "--field-selector", "involvedObject.name=told")["items"])

    with cluster.kubectl_lines(
        *("get", "events", "--watch", "--field-selector", "involvedObject.name=told"),
        *("-o", "jsonpath={.reason}{'\\n'}"),
    ) as lines:
        assert any(line == "Started" for line in lines)
    found = {event["reason"]: event for event in told()}
    assert found["Pulling"]["message"] == f'Pulling image "{name}:1"'
    assert found["Pulled"]["message"].startswith(f'Successfully pulled image "{name}:1" in ')
    assert " including waiting). Image size: " in found["Pulled"]["message"]
    assert found["Pulled"]["involvedObject"]["fieldPath"] == "spec.containers{main}"
    assert {event["type"] for event in found.values()} == {"Normal"}


def test_a_pod_that_is_deleted_ends_its_pull(cluster: Cluster, namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        image = f"127.0.0.1:{silent.getsockname()[1]}/silent:1"
        cluster.apply(pod("gone", container(image=image)))
        silent.settimeout(30)
        connection, _ = silent.accept()
        with connection:
            assert any(image in line for line in processes())
            assert len(list((cluster.data_dir / "image_manager" / "pulling").iterdir())) == 1
            cluster.kubectl("delete", "pod", "gone", "--timeout=10s")
            assert [line for line in processes() if image in line] == []
    assert list((cluster.data_dir / "image_manager" / "pulling").iterdir()) == []
