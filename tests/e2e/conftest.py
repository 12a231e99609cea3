"""One cluster a test process, one namespace a test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster
from tests.support.cluster_fixtures import admin, namespace, pytest_runtest_makereport
from tools.registry import Registry

__all__ = ["admin", "cluster", "namespace", "pytest_runtest_makereport"]


@pytest.fixture(scope="session")
def cluster(registry: Registry) -> Iterator[Cluster]:
    """Started with `podling up`, taken off the machine with `podling reset`; leftovers are an error."""
    with Cluster(registry.registries_conf) as cluster:
        yield cluster
