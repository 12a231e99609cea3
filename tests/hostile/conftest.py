"""The cluster under attack: one a test process, apart from the one of the end-to-end tests.

Attackers play by SECURITY.md: each test takes the part of one of them and does what it says is in vain. A test that
leaves the cluster damaged, or makes it full, takes a cluster of its own (`with Cluster(registry.registries_conf)`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster
from tests.support.cluster_fixtures import admin, namespace, pytest_runtest_makereport
from tests.support.foreign_node import scene
from tools.registry import Registry

__all__ = ["admin", "cluster", "namespace", "pytest_runtest_makereport", "scene"]


@pytest.fixture(scope="session")
def cluster(registry: Registry) -> Iterator[Cluster]:
    """Started with `podling up`, taken off the machine with `podling reset`; leftovers are an error."""
    with Cluster(registry.registries_conf) as cluster:
        yield cluster
