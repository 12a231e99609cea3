"""kill -9 of the agent in the middle of a private pull: the next agent pulls with the Pod's credentials, for this Pod alone,
and nothing of the broken pull stays."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from tests.support import images
from tests.support.cluster import Cluster, eventually, unique
from tests.support.pods import RUN, container, pod
from tests.support.proxy import Proxy
from tools.oci_layout import Layer
from tools.registry import Registry

USER, PASSWORD = "alice", "wonderland"
DENIED = "pull access denied, repository does not exist or may require authorization"
LAYER_BYTES = 3_000_000
ENOUGH = 2_000_000
"""Bytes after which the registry says no more: the first of the two large layers is not there yet."""
LITTLE = 200_000
"""What the image store may be larger by for what is not a part of an image."""


class StoppingProxy:
    """A proxy in a thread of its own. It passes on ENOUGH bytes, and then nothing until `go_on`."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._started = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))
        self.stopped = threading.Event()
        self.address = ""

    def __enter__(self) -> StoppingProxy:
        self._thread.start()
        assert self._started.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()
        self._loop.close()

    async def _run(self) -> None:
        self._end = asyncio.Event()
        async with Proxy(self._target) as self._proxy:
            self._proxy.on_bytes = self._on_bytes
            self.address = self._proxy.address
            self._started.set()
            await self._end.wait()

    def _on_bytes(self, total: int) -> None:
        if total >= ENOUGH and not self.stopped.is_set():
            self._proxy.gate.clear()
            self.stopped.set()

    def go_on(self) -> None:
        self._loop.call_soon_threadsafe(self._proxy.gate.set)


@pytest.fixture(scope="module")
def cluster(registry: Registry) -> Iterator[Cluster]:
    with Cluster(registry.registries_conf) as cluster:
        yield cluster


@pytest.fixture
def proxy(private_registry: Registry) -> Iterator[StoppingProxy]:
    with StoppingProxy(private_registry.address) as proxy:
        yield proxy


@pytest.fixture
def image(private_registry: Registry, proxy: StoppingProxy) -> str:
    """A private image of BusyBox and two large layers; it comes through the proxy."""
    layers = [images.busybox_layer()]
    for number in range(2):
        large = Layer()
        large.file(f"large{number}", os.urandom(LAYER_BYTES))
        layers.append(large)
    name = images.push(private_registry, *layers, name=f"{unique('crash')}:1")
    return f"{proxy.address}/docker.io/library/{name}"


def stored(cluster: Cluster) -> int:
    """Bytes in the files of the image store."""
    total = 0
    for directory, _, files in os.walk(cluster.data_dir / "images"):
        for file in files:
            # What is being written comes and goes.
            with suppress(FileNotFoundError):
                total += os.lstat(os.path.join(directory, file)).st_size
    return total


def records(cluster: Cluster, kind: str) -> list[str]:
    """What the kubelet has written down of images: "pulling" or "pulled"."""
    return [file.read_text() for file in (cluster.data_dir / "image_manager" / kind).iterdir()]


def private_pod(name: str, image: str, *secrets: str, policy: str = "IfNotPresent") -> dict[str, Any]:
    """Shows the large files' sizes and then runs."""
    main = container(script=f"wc -c large0 large1; {RUN}", image=image, imagePullPolicy=policy)
    return pod(name, main, imagePullSecrets=[{"name": secret} for secret in secrets])


def waiting(cluster: Cluster, name: str, reason: str) -> str:
    """What the Pod's container says while it waits for that reason."""
    path = "{.status.containerStatuses[0].state.waiting.reason}"
    cluster.wait(f"pod/{name}", f"jsonpath={path}={reason}")
    state = cluster.get("pod", name)["status"]["containerStatuses"][0]["state"]
    return str(state.get("waiting", {}).get("message", ""))


def crash_in_the_pull(cluster: Cluster, image: str, proxy: StoppingProxy) -> int:
    """The Pod `owner` pulls the image with the secret `key`; the agent is killed when a part of it is on the disk.

    Returns how much was stored before the pull.
    """
    before = stored(cluster)
    cluster.kubectl(
        *("create", "secret", "docker-registry", "key", "--docker-server", proxy.address),
        *("--docker-username", USER, "--docker-password", PASSWORD),
    )
    cluster.apply(private_pod("owner", image, "key"))
    assert proxy.stopped.wait(60), "the pull did not come to the middle"
    eventually(lambda: stored(cluster) > before + 2 * LITTLE)
    cluster.kill("agent")
    (intent,) = records(cluster, "pulling")
    assert image in intent
    assert not any(image.rpartition(":")[0] in record for record in records(cluster, "pulled"))
    # What it had started to pull ends with it.
    eventually(lambda: cluster.leftovers(proxy.address) == [])
    proxy.go_on()
    return before


def assert_nothing_half_done(cluster: Cluster, proxy: StoppingProxy, before: int) -> None:
    assert records(cluster, "pulling") == []
    assert cluster.leftovers(proxy.address) == []
    assert list(cluster.run_dir.rglob("auth-*")) == []
    assert stored(cluster) < before + LITTLE


def test_the_next_agent_pulls_for_the_pod_and_for_nobody_else(
    cluster: Cluster, namespace: str, image: str, proxy: StoppingProxy
) -> None:
    before = crash_in_the_pull(cluster, image, proxy)
    cluster.up()
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    cluster.wait("pod/owner", "condition=Ready")
    assert cluster.logs("owner").split()[:4] == [str(LAYER_BYTES), "large0", str(LAYER_BYTES), "large1"]
    # Whose credentials opened it is known, and that the agent before had begun to pull it opens it to nobody.
    (record,) = (record for record in records(cluster, "pulled") if image.rpartition(":")[0] in record)
    assert '"name":"key"' in record
    assert "nodePodsAccessible" not in record
    cluster.apply(private_pod("thief", image))
    assert DENIED in waiting(cluster, "thief", "ImagePullBackOff")
    cluster.apply(private_pod("never", image, policy="Never"))
    missing = f'Container image "{image}" is not present with pull policy of Never'
    assert waiting(cluster, "never", "ErrImageNeverPull") == missing
    cluster.apply(private_pod("friend", image, "key"))
    cluster.wait("pod/friend", "condition=Ready")
    present = f'Container image "{image}" already present on machine and can be accessed by the pod'
    cluster.await_event("friend", "Normal", "Pulled", present)
    cluster.kubectl("delete", "pods", "--all", "--now")
    cluster.podling("image", "remove", image, "--data-dir", str(cluster.data_dir))
    assert_nothing_half_done(cluster, proxy, before)


def test_nothing_stays_of_the_pull_when_the_pod_is_deleted_before_the_next_agent(
    cluster: Cluster, namespace: str, image: str, proxy: StoppingProxy
) -> None:
    before = crash_in_the_pull(cluster, image, proxy)
    cluster.kubectl("delete", "pod", "owner", "--wait=false")
    cluster.up()
    cluster.kubectl("config", "set-context", "--current", f"--namespace={namespace}")
    cluster.wait("pod/owner", "delete")
    assert_nothing_half_done(cluster, proxy, before)
