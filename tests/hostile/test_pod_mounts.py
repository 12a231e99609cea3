"""A Pod author, or an image author, who has a volume mounted over a container's root or into its /proc."""

from __future__ import annotations

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.images import busybox_layer, push
from tests.support.pod_end import end_of
from tests.support.pods import container, mount, pod
from tools.registry import Registry


@pytest.mark.parametrize("path", ["/proc", "/proc/", "//proc", "/proc/self", "/x/../proc/sys", "proc/1", "/", "/x/.."])
def test_no_volume_lies_over_the_root_or_in_proc(cluster: Cluster, admin: Https, path: str) -> None:
    body = pod(unique("p"), container(volumeMounts=[mount("v", path)]), volumes=[{"name": "v", "emptyDir": {}}])
    reason, message = end_of(cluster, admin, body)
    assert reason == "CreateContainerError"
    assert "cannot" in message


LINKS = {
    "to-proc": "/proc",
    "upwards": "../../proc",
    "chain": "to-proc/self",
    "to-root": "/",
    "through": "/to-root/proc",
}


@pytest.fixture(scope="module")
def linked(registry: Registry) -> str:
    """An image with links where mounts may go."""
    layer = busybox_layer()
    for name, target in LINKS.items():
        layer.symlink(name, target)
    layer.symlink("var/run", "/run")
    return push(registry, layer)


@pytest.mark.parametrize("path", ["/to-proc", "/to-proc/self/attr", "/upwards", "/chain", "/to-root", "/through/sys"])
def test_no_link_of_an_image_leads_a_volume_over_the_root_or_into_proc(
    cluster: Cluster, admin: Https, linked: str, path: str
) -> None:
    part = container(image=linked, volumeMounts=[mount("v", path)])
    reason, message = end_of(cluster, admin, pod(unique("p"), part, volumes=[{"name": "v", "emptyDir": {}}]))
    assert reason == "CreateContainerError"
    assert "cannot" in message


@pytest.mark.parametrize("volume", ["/to-proc", "/to-proc/self", "/upwards"])
def test_no_volume_of_an_image_lies_in_proc_by_a_link(
    cluster: Cluster, admin: Https, registry: Registry, volume: str
) -> None:
    layer = busybox_layer()
    for name, target in LINKS.items():
        layer.symlink(name, target)
    image = push(registry, layer, config={"Volumes": {volume: {}}})
    reason, message = end_of(cluster, admin, pod(unique("p"), container(image=image)))
    assert reason == "CreateContainerError"
    assert "inside /proc" in message


def test_no_link_in_a_volume_leads_another_one_into_proc(cluster: Cluster, admin: Https) -> None:
    link = container("init", "ln -s /proc /v/link", volumeMounts=[mount("v", "/v")])
    part = container(volumeMounts=[mount("v", "/v"), mount("w", "/v/link/self")])
    volumes = [{"name": name, "emptyDir": {}} for name in "vw"]
    reason, message = end_of(cluster, admin, pod(unique("p"), part, initContainers=[link], volumes=volumes))
    assert reason == "CreateContainerError"
    assert "inside /proc" in message


def test_a_volume_is_mounted_where_a_link_of_the_image_leads(cluster: Cluster, admin: Https, linked: str) -> None:
    look = "echo mine > /var/run/deep/file; cat /run/deep/file"
    part = container(script=look, image=linked, volumeMounts=[mount("v", "/var/run/deep")])
    end = end_of(cluster, admin, pod(unique("p"), part, volumes=[{"name": "v", "emptyDir": {}}]))
    assert end == ("Succeeded", "mine\n")


def test_proc_itself_is_no_link_of_an_image(cluster: Cluster, admin: Https, registry: Registry) -> None:
    layer = busybox_layer()
    layer.symlink("proc", "/elsewhere")
    part = container(image=push(registry, layer), volumeMounts=[mount("v", "/elsewhere/self")])
    reason, _ = end_of(cluster, admin, pod(unique("p"), part, volumes=[{"name": "v", "emptyDir": {}}]))
    assert reason in ("CreateContainerError", "StartError")
