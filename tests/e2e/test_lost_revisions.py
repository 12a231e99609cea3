"""A damaged write-ahead log, seen by the people of a cluster."""

from __future__ import annotations

import os

from tests.support.cluster import Cluster
from tools.registry import Registry


def test_status_log_and_an_event_name_what_was_lost(registry: Registry) -> None:
    with Cluster(registry.registries_conf) as cluster:
        cluster.kubectl("create", "configmap", "kept")
        cluster.down()  # copies the log into the database
        cluster.up()
        cluster.kubectl("create", "configmap", "lost")
        cluster.kill("agent")
        cluster.kill("server")
        os.truncate(cluster.data_dir / "state.db-wal", 0)
        cluster.up()
        words = "though revision "
        assert cluster.try_kubectl("get", "configmap", "lost").returncode == 1
        assert words in cluster.podling("status", "--data-dir", str(cluster.data_dir)).stdout
        (event,) = cluster.get("events", "--field-selector=reason=StoreRolledBack")["items"]
        assert words in event["message"]
        assert event["message"] in (cluster.data_dir / "logs" / "server.log").read_text()
        cluster.kubectl("create", "configmap", "lost")
        # Only the server that found it says it.
        cluster.kill("server")
        cluster.up()
        assert words not in cluster.podling("status", "--data-dir", str(cluster.data_dir)).stdout
