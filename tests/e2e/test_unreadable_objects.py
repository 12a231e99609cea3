"""A database that holds objects which nobody can read: they cost themselves only, and deletion by force removes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster
from tests.support.pods import pod
from tools.registry import Registry

from podling.store.sqlite import SQLiteStore

NAMED = {
    "/registry/pods/default/garbage": ("pod", "garbage"),
    "/registry/pods/default/list": ("pod", "list"),
    "/registry/pods/default/other-name": ("pod", "other-name"),
    "/registry/pods/default/cut": ("pod", "cut"),
    "/registry/configmaps/default/config": ("configmap", "config"),
    "/registry/secrets/default/secret": ("secret", "secret"),
    "/registry/services/default/service": ("service", "service"),
    "/registry/endpoints/default/endpoints": ("endpoints", "endpoints"),
    "/registry/events/default/event": ("event", "event"),
    "/registry/serviceaccounts/default/account": ("serviceaccount", "account"),
    "/registry/leases/default/lease": ("lease", "lease"),
    "/registry/nodes/node": ("node", "node"),
    "/registry/namespaces/space": ("namespace", "space"),
}


def _bad_value(key: str, revision: int) -> bytes:
    name = key.rpartition("/")[2]
    metadata = {"name": name, "namespace": "default", "resourceVersion": str(revision), "uid": "u"}
    match name:
        case "garbage":
            return b"\x00\xff\xfe"
        case "list":
            return b"[]"
        case "cut":
            return json.dumps({"kind": "Pod", "metadata": metadata}).encode()[:-10]
        case "other-name":
            return json.dumps(
                {"kind": "Pod", "metadata": {**metadata, "name": "x"}, "spec": {"containers": []}}
            ).encode()
    return json.dumps({"metadata": {**metadata, "creationTimestamp": "11533-07-13T04:40:13Z"}}).encode()


@pytest.fixture(scope="module")
def cluster(registry: Registry) -> Iterator[Cluster]:
    """A cluster of its own with a running Pod "sound", whose database then got all kinds of unreadable objects."""
    with Cluster(registry.registries_conf) as cluster:
        cluster.kubectl("create", "namespace", "full")
        cluster.kubectl("create", "secret", "generic", "sound")
        for name in ("sound", "spoilt"):
            cluster.apply(pod(name))
            cluster.wait(f"pod/{name}", "condition=Ready")
        cluster.down()
        asyncio.run(_spoil(cluster))
        cluster.up()
        yield cluster


async def _spoil(cluster: Cluster) -> None:
    async with await SQLiteStore.open(cluster.data_dir / "state.db") as store:
        for key in (*NAMED, "/registry/configmaps/full/config", "/registry/pods/full/pod"):
            await store.create(key, lambda revision, key=key: _bad_value(key, revision))  # type: ignore[misc]
        # As servers wrote it that computed the time of the deletion without a bound.
        entry = store.get("/registry/pods/default/spoilt")
        assert entry is not None
        spoilt = json.loads(entry.value)

        def deleted(revision: int) -> bytes:
            spoilt["metadata"] |= {
                "deletionTimestamp": "11533-07-13T04:40:13Z",
                "deletionGracePeriodSeconds": 300_000_000_000,
                "resourceVersion": str(revision),
            }
            return json.dumps(spoilt).encode()

        await store.update(entry.key, deleted, expected=entry.revision)


def test_the_cluster_goes_on_without_them(cluster: Cluster) -> None:
    assert [item["metadata"]["name"] for item in cluster.get("pods")["items"]] == ["sound"]
    for kind in ("configmaps", "secrets", "services", "endpoints", "events", "serviceaccounts", "leases", "nodes"):
        assert cluster.get(kind, "-A")["items"], kind
    # Informers, scheduler, controllers and kubelet: a new Pod runs, an old one goes, a Service finds its Pod.
    cluster.apply(pod("new", metadata={"labels": {"app": "new"}}))
    cluster.wait("pod/new", "condition=Ready")
    cluster.kubectl("expose", "pod", "new", "--port=80")
    cluster.wait("endpoints/new", "jsonpath={.subsets[0].addresses[0].ip}")
    cluster.kubectl("delete", "pod", "sound", "--timeout=60s")
    # The kubelet lets go of a Pod that the API does not show any more.
    cluster.kubectl("create", "namespace", "later")
    cluster.wait("serviceaccount/default", "jsonpath={.metadata.name}=default", "-n", "later")


def test_they_are_named_in_the_log_in_events_and_by_lists(cluster: Cluster) -> None:
    log = (cluster.data_dir / "logs" / "server.log").read_text()
    for key, (_, name) in NAMED.items():
        plural = key.split("/")[2]
        assert f'{plural}{".coordination.k8s.io" if plural == "leases" else ""} "{name}"' in log
    events = cluster.get("events", "--field-selector=reason=Unreadable")["items"]
    assert {event["involvedObject"]["name"] for event in events} >= {name for _, name in NAMED.values()}
    status = cluster.podling("status", "--data-dir", str(cluster.data_dir)).stdout
    assert "objects cannot be read: `kubectl get events -A --field-selector reason=Unreadable`" in status
    listed = cluster.try_kubectl("get", "pods")
    assert listed.returncode == 0
    assert 'Warning: pods "garbage" in namespace "default" cannot be read from the store: ' in listed.stderr
    assert 'configmaps "config"' not in listed.stderr


@pytest.mark.parametrize(("kind", "name"), [*NAMED.values(), ("pod", "spoilt")])
def test_only_deletion_by_force_touches_it(cluster: Cluster, kind: str, name: str) -> None:
    shown = cluster.try_kubectl("get", kind, name)
    assert shown.returncode == 1
    assert "cannot be read from the store" in shown.stderr
    assert f"{name} --namespace default --force" in shown.stderr or f"{name} --force" in shown.stderr
    patched = cluster.try_kubectl("label", kind, name, "a=b")
    assert patched.returncode == 1
    plain = cluster.try_kubectl("delete", kind, name, "--wait=false")
    assert plain.returncode == 1
    assert "cannot be read from the store" in plain.stderr
    cluster.kubectl("delete", kind, name, "--force", "--grace-period=0")
    assert "NotFound" in cluster.try_kubectl("get", kind, name).stderr


def test_a_namespace_takes_those_in_it_along(cluster: Cluster) -> None:
    cluster.kubectl("delete", "namespace", "full", "--timeout=60s")
    cluster.kubectl("create", "namespace", "full")
    cluster.kubectl("create", "configmap", "config", "-n", "full")


def test_a_restart_finds_nothing_more(cluster: Cluster) -> None:
    for kind, name in (*NAMED.values(), ("pod", "spoilt")):
        cluster.kubectl("delete", kind, name, "--force", "--grace-period=0", "--ignore-not-found")
    log = cluster.data_dir / "logs" / "server.log"
    before = log.stat().st_size
    cluster.kill("server")
    cluster.up()
    assert 'in namespace "default" cannot be read' not in log.read_bytes()[before:].decode()
