"""One cluster a test process, one namespace a test."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster, unique
from tools.registry import Registry


def cluster_number(worker: str) -> int:
    """Different for every worker process of a run, and of most runs at once. Five more is this worker's, too."""
    number = int(worker.removeprefix("gw") or 0) if worker.startswith("gw") else 0
    return (os.getppid() % 24) * 10 + number % 5


@pytest.fixture(scope="session")
def cluster(registry: Registry, worker_id: str) -> Iterator[Cluster]:
    """Started with `podling up`, taken off the machine with `podling reset`; leftovers are an error."""
    cluster = Cluster(registry.registries_conf, cluster_number(worker_id))
    cluster.up()
    yield cluster
    cluster.reset()


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, deleted afterwards with all that is in it."""
    name = unique("t")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={name}")
    yield name
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")
