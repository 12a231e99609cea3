"""A disk without room below the API server, a cluster and `podling up`: each says so, and what helps goes on working."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.api import Answer, Api, pod, started
from tests.support.cluster import Cluster, eventually
from tests.support.pods import pod as running_pod
from tests.support.small_disk import fill, mounted
from tools.registry import Registry

from podling.apiserver import pki
from podling.apiserver.pki import PKI

PODS = "/api/v1/namespaces/default/pods"
MAPS = "/api/v1/namespaces/default/configmaps"


@pytest.fixture
def full(disk: Path) -> Iterator[Api]:
    """A server with 20 Pods on nodes, whose disk is full by now."""
    with started(disk) as api:
        api.create("/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}})
        for number in range(20):
            api.create(PODS, pod(f"p{number}", nodeName="n1", metadata={"finalizers": ["example.com/f"]}))
        reserve = disk / "data" / "state.db.reserve"
        eventually(lambda: reserve.exists() and reserve.stat().st_size > 0)
        fill(disk)
        for number in range(1000):
            refused = api.post(MAPS, {"metadata": {"name": f"m{number}"}, "data": {"a": "x" * 100_000}})
            if refused.code != 201:
                break
        yield api


def _unavailable(answer: Answer, disk: Path) -> None:
    assert answer.code == 503, answer.raw
    assert answer.json["reason"] == "ServiceUnavailable"
    assert f"no space is left on the disk of {disk}/data: free some there" in answer.message
    # With it, client-go repeats the request again and again, and people see nothing.
    assert "Retry-After" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", MAPS, {"metadata": {"name": "new"}}),
        ("POST", PODS, pod("new")),
        ("PATCH", f"{PODS}/p1", {"metadata": {"labels": {"a": "b"}}}),
        ("PATCH", f"{PODS}/p1/status", {"status": {"message": "m"}}),
        ("POST", "/api/v1/namespaces", {"metadata": {"name": "new"}}),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/default/leases/l", {"metadata": {"name": "l"}}),
    ],
)
def test_writes_are_refused_with_the_cause(full: Api, disk: Path, method: str, path: str, body: Any) -> None:
    content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
    _unavailable(full.request(method, path, body, content_type=content_type), disk)


def test_reads_go_on_and_deletions_work(full: Api, disk: Path) -> None:
    assert len(full.get(PODS).json["items"]) == 20
    with full.watch(PODS) as events:
        assert next(events)["type"] == "ADDED"
    shown = full.kubectl("create", "configmap", "new")
    assert "no space is left on the disk of" in shown.stderr
    for number in range(20):
        path = f"{PODS}/p{number}"
        deleted = full.kubectl("delete", "pod", f"p{number}", "--wait=false")
        assert deleted.returncode == 0, deleted.stderr
        # What follows a deletion on its way to the end: statuses, finalizers, the last step.
        assert full.patch(f"{path}/status", {"status": {"message": "stopping"}}).code == 200
        assert full.patch(path, {"metadata": {"finalizers": None}}).code == 200
        assert full.delete(path, {"gracePeriodSeconds": 0}).code == 200
        fill(disk)
    assert full.get(PODS).json["items"] == []


def test_readiness_fails_its_storage_check_until_there_is_room(full: Api, disk: Path) -> None:
    answer = full.get("/readyz")
    assert answer.code == 500
    assert "[-]etcd failed" in answer.raw.decode()
    assert "cannot write to the store: no space is left on the disk of" in full.get("/readyz/etcd").raw.decode()
    (disk / "filler").unlink()
    assert full.post(MAPS, {"metadata": {"name": "new"}}).code == 201
    assert full.get("/readyz").raw == b"ok"


def test_a_new_server_on_the_full_disk_answers(full: Api, disk: Path) -> None:
    full.server.kill()
    full.server.start()
    asyncio.run(full.server.ready())
    assert len(full.get(PODS).json["items"]) == 20
    assert full.delete(f"{PODS}/p1").code == 200


@pytest.mark.parametrize("free", [0, 32], ids=["full", "32 MB left"])
def test_up_without_room_fails_at_once_and_leaves_nothing(registry: Registry, free: int) -> None:
    cluster = Cluster(registry.registries_conf)
    try:
        with mounted(cluster.data_dir, max(free, 1)):
            if not free:
                fill(cluster.data_dir)
            before = {path.name for path in cluster.data_dir.iterdir()}
            done = cluster.podling("up", *cluster.up_flags, check=False)
            assert done.returncode == 1
            assert f"MB left where {cluster.data_dir} is, and Podling needs 64 MB: free some space there" in done.stderr
            assert "choose another --data-dir" in done.stderr
            assert {path.name for path in cluster.data_dir.iterdir()} - {".lock"} == before
            assert not cluster.pid("server")
    finally:
        cluster.reset()


def test_a_cluster_on_a_full_disk(registry: Registry) -> None:
    cluster = Cluster(registry.registries_conf)
    try:
        with mounted(cluster.data_dir, 200):
            try:
                _fill_up(cluster)
            finally:
                cluster.podling("reset", "--data-dir", str(cluster.data_dir), check=False)
    finally:
        cluster.reset()


def _fill_up(cluster: Cluster) -> None:
    cluster.up()
    cluster.apply(running_pod("a"))
    cluster.apply(running_pod("b"))
    cluster.wait("pod/a", "condition=Ready")
    cluster.wait("pod/b", "condition=Ready")
    reserve = cluster.data_dir / "state.db.reserve"
    eventually(reserve.exists)
    fill(cluster.data_dir)
    eventually(lambda: cluster.try_kubectl("create", "configmap", "x", f"--from-literal=a={'x' * 100000}").returncode)
    cluster.wait(f"node/{cluster.node}", "condition=DiskPressure")
    status = cluster.podling("status", "--data-dir", str(cluster.data_dir), check=False)
    assert status.returncode == 1
    assert "Ready; DiskPressure: kubelet has disk pressure" in status.stdout
    assert f"MB left where {cluster.data_dir} is" in status.stdout
    assert "store: cannot write to the store: no space is left" in status.stderr
    doctor = cluster.podling("doctor", "--data-dir", str(cluster.data_dir), check=False)
    assert f"MB left where {cluster.data_dir} is, and Podling needs 64 MB" in doctor.stdout
    cluster.kubectl("delete", "pod", "a", "--timeout=60s")
    # The machine was started again, say: the cluster comes up, or nothing could be deleted.
    for name in ("server", "agent"):
        cluster.kill(name)
    cluster.up()
    cluster.kubectl("delete", "pod", "b", "--timeout=60s")
    (cluster.data_dir / "filler").unlink()
    eventually(lambda: not cluster.try_kubectl("create", "configmap", "y").returncode)
    cluster.wait(f"node/{cluster.node}", "condition=DiskPressure=False")


def test_certificates_that_cannot_be_renewed_stay_as_a_pair(disk: Path) -> None:
    def ensure(*addresses: str) -> PKI:
        return pki.ensure(
            disk / "pki",
            node_name="n",
            addresses=addresses,
            service_address="10.96.0.1",
            cluster_domain="cluster.local",
        )

    made = ensure("192.0.2.1")
    before = made.apiserver.cert.read_bytes(), made.apiserver.key.read_bytes()
    names = set(os.listdir(disk / "pki"))
    filler = fill(disk)
    os.truncate(filler, filler.stat().st_size - 4096)  # room for the key, and none for the certificate
    ensure("192.0.2.1", "192.0.2.2")
    assert (made.apiserver.cert.read_bytes(), made.apiserver.key.read_bytes()) == before
    assert set(os.listdir(disk / "pki")) == names
    filler.unlink()
    ensure("192.0.2.1", "192.0.2.2")
    assert made.apiserver.cert.read_bytes() != before[0]
