"""One cluster a test process, one namespace a test."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterator
from functools import cache
from typing import Any

import pluggy
import pytest
from tests.support.cluster import Cluster, unique
from tools.registry import Registry


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pluggy.Result[Any], None]:
    """A failed test shows what the cluster had to say."""
    outcome = yield
    report = outcome.get_result()
    if report.failed and call.when == "call":
        for name, value in getattr(item, "funcargs", {}).items():
            cluster = value if isinstance(value, Cluster) else getattr(value, "cluster", None)
            if isinstance(cluster, Cluster):
                report.sections.append((f"cluster of fixture {name}", cluster.diagnosis()))
                break


@cache
def cluster_number(worker: str) -> int:
    """Different for every worker process of every run on the machine. Five more is this worker's, too."""
    number = int(worker.removeprefix("gw") or 0) % 5 if worker.startswith("gw") else 0
    for attempt in range(24):
        chosen = (os.getppid() + attempt) % 24 * 10 + number
        lock = os.open(f"/var/tmp/podling-e2e-{chosen}.lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # until this process ends
        except BlockingIOError:
            os.close(lock)
        else:
            return chosen
    raise RuntimeError("24 test runs at once: no addresses are left for one more")


@pytest.fixture(scope="session")
def cluster(registry: Registry, worker_id: str) -> Iterator[Cluster]:
    """Started with `podling up`, taken off the machine with `podling reset`; leftovers are an error."""
    with Cluster(registry.registries_conf, cluster_number(worker_id)) as cluster:
        yield cluster


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, deleted afterwards with all that is in it."""
    name = unique("t")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={name}")
    yield name
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")
