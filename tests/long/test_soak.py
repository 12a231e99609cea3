"""Thousands of Pods come and go: memory and descriptors stay what they were, and nothing of the Pods is left."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.pods import container, pod
from tools.registry import Registry

WAVES = int(os.environ.get("PODLING_SOAK_WAVES", "60"))
PODS = 50
SETTLED = 5
"""Waves until caches are full."""


def used(cluster: Cluster) -> dict[str, tuple[int, int]]:
    """For server and agent, memory in KiB and the number of descriptors."""
    found = {}
    for name in ("server", "agent"):
        process = Path(f"/proc/{cluster.pid(name)}")
        memory = re.search(r"^VmRSS:\s+(\d+)", (process / "status").read_text(), re.MULTILINE)
        assert memory is not None
        found[name] = int(memory[1]), len(os.listdir(process / "fd"))
    return found


def test_pods_that_come_and_go_cost_nothing_in_the_end(registry: Registry) -> None:
    with Cluster(registry.registries_conf) as cluster:
        settled: dict[str, tuple[int, int]] = {}
        for wave in range(WAVES):
            names = [f"soak-{wave}-{number}" for number in range(PODS)]
            pods = [pod(name, container(script="echo done"), restartPolicy="Never") for name in names]
            cluster.apply({"apiVersion": "v1", "kind": "List", "items": pods})
            cluster.wait("pod", "jsonpath={.status.phase}=Succeeded", "--all", timeout=300)
            uids = [item["metadata"]["uid"] for item in cluster.get("pods")["items"]]
            assert len(uids) == PODS
            cluster.kubectl("delete", "pods", "--all", "--timeout=300s", timeout=330)
            assert cluster.leftovers(*uids) == []
            if wave == SETTLED:
                settled = used(cluster)
        print(json.dumps({"after": SETTLED * PODS, "settled": settled, "pods": WAVES * PODS, "end": used(cluster)}))
        for name, (memory, descriptors) in used(cluster).items():
            assert memory < settled[name][0] * 1.5, name
            assert descriptors <= settled[name][1] + 8, name
