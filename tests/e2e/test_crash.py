"""kill -9 of server and agent at random moments, while Pods start, run and stop.

Every container appends a line to a file of the node when it starts, so the test counts what really ran, whatever the API
says. PODLING_CRASH_SEED chooses other moments, PODLING_CRASH_ROUNDS their number.
"""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster
from tools.registry import Registry

ROUNDS = int(os.environ.get("PODLING_CRASH_ROUNDS", "50"))
SEED = int(os.environ.get("PODLING_CRASH_SEED", "20"))

# kind: (restartPolicy, script, phase at the end, how often its container starts)
KINDS = {
    "runner": ("Always", "exec sleep 100000", "Running", 1),
    "stubborn": ("Always", "trap '' TERM; while :; do sleep 100; done", "Running", 1),
    "job": ("Never", "sleep 0.3", "Succeeded", 1),
    "quick": ("Never", "exit 0", "Succeeded", 1),
    "failure": ("Never", "sleep 0.1; exit 3", "Failed", 1),
    "second-try": ("OnFailure", "[ $(wc -l < /count/$NAME) -ge 2 ]", "Succeeded", 2),
}


def pod(name: str, kind: str, counts: Path) -> dict[str, Any]:
    policy, script, _, _ = KINDS[kind]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"kind": kind}},
        "spec": {
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": 1,
            "containers": [
                {
                    "name": "main",
                    "image": "busybox",
                    "imagePullPolicy": "IfNotPresent",
                    "command": ["sh", "-c", f"echo started >> /count/$NAME; {script}"],
                    "env": [{"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "volumeMounts": [
                        {"name": "count", "mountPath": "/count"},
                        {"name": "scratch", "mountPath": "/scratch"},
                    ],
                }
            ],
            "volumes": [
                {"name": "count", "hostPath": {"path": str(counts)}},
                {"name": "scratch", "emptyDir": {"medium": "Memory"}},
            ],
        },
    }


@dataclass
class Drill:
    """What was asked of the cluster, to compare with what became of it."""

    cluster: Cluster
    random: random.Random
    counts: Path
    living: dict[str, str] = field(default_factory=dict)
    doomed: set[str] = field(default_factory=set)
    uids: set[str] = field(default_factory=set)
    made: int = 0

    def create(self) -> None:
        """Some new Pods. The server may die before it answers: then they are applied again later."""
        documents = []
        for _ in range(self.random.randint(1, 3)):
            kind = self.random.choice(list(KINDS))
            name = f"{kind}-{self.made}"
            self.made += 1
            self.living[name] = kind
            documents.append(pod(name, kind, self.counts))
        self.cluster.try_kubectl(
            "apply", "-f", "-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        )

    def delete(self) -> None:
        """One old Pod; it stays doomed until it is seen to be gone."""
        old = [name for name in self.living if name not in self.doomed]
        if len(old) > 6:
            name = self.random.choice(old)
            self.doomed.add(name)
            grace = self.random.choice([[], ["--grace-period=0", "--force"], ["--now"]])
            self.cluster.try_kubectl("delete", "pod", name, "--wait=false", *grace)

    def crash(self) -> None:
        for process in self.random.choice([["server"], ["agent"], ["server", "agent"]]):
            self.cluster.kill(process)

    def repeat_what_was_not_acknowledged(self) -> None:
        """As a user does whose command failed: the same commands again."""
        shown = {item["metadata"]["name"] for item in self.cluster.get("pods")["items"]}
        missing = [name for name in self.living if name not in shown and name not in self.doomed]
        for name in missing:
            self.cluster.apply(pod(name, self.living[name], self.counts))
        for name in self.doomed & shown:
            self.cluster.try_kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def drill(registry: Registry, tmp_path: Path) -> Iterator[Drill]:
    counts = tmp_path / "counts"
    counts.mkdir()
    with Cluster(registry.registries_conf) as cluster:
        yield Drill(cluster, random.Random(SEED), counts)


def test_nothing_is_lost_doubled_or_left_behind(drill: Drill) -> None:
    cluster = drill.cluster
    for _ in range(ROUNDS):
        drill.create()
        drill.delete()
        # The moment of the crash is what the test is about.
        time.sleep(drill.random.uniform(0.0, 0.4))
        drill.crash()
        cluster.up()
    drill.repeat_what_was_not_acknowledged()
    for name in drill.doomed:
        cluster.wait(f"pod/{name}", "delete", timeout=60)
        del drill.living[name]
    for name, kind in drill.living.items():
        cluster.wait(f"pod/{name}", f"jsonpath={{.status.phase}}={KINDS[kind][2]}", timeout=90)
    items = {item["metadata"]["name"]: item for item in cluster.get("pods")["items"]}
    assert items.keys() == drill.living.keys()
    wrong = []
    for name, kind in drill.living.items():
        starts = len((drill.counts / name).read_text().splitlines())
        restarts = items[name]["status"]["containerStatuses"][0]["restartCount"]
        if (starts, restarts) != (KINDS[kind][3], KINDS[kind][3] - 1):
            wrong.append(f"{name}: started {starts} times, restartCount {restarts}")
    assert not wrong
    uids = [item["metadata"]["uid"] for item in items.values()]
    cluster.kubectl("delete", "pods", "--all", "--now", "--timeout=120s", timeout=150)
    assert cluster.leftovers(*uids) == []
    assert left_in_directories(cluster) == []


def left_in_directories(cluster: Cluster) -> list[str]:
    """What is left of Pods in the cluster's directories when there are none."""
    places = ["data/pods", "data/logs/pods", "data/sandboxes", "data/containers", "data/network/leases", "run/ns"]
    return [str(path) for place in places for path in (cluster.directory / place).glob("*")]
