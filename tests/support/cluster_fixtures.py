"""What tests of a whole cluster may use: imported by the conftest.py that says which cluster it is (fixture `cluster`)."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import pluggy
import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https


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


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, deleted afterwards with all that is in it."""
    name = unique("t")
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("config", "set-context", "--current", f"--namespace={name}")
    yield name
    cluster.kubectl("config", "set-context", "--current", "--namespace=default")
    cluster.kubectl("delete", "namespace", name, "--wait=true", "--timeout=60s")


@pytest.fixture(scope="module")
def admin(cluster: Cluster) -> Https:
    """A client of the TLS port with the administrator's certificate."""
    return cluster.https().administrator()
