"""Pods that print without end: they fill no disk, are not slowed, and cost the other Pods' logs nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, eventually, unique
from tests.support.pods import container, pod
from tools.registry import Registry

from podling.kubelet import log_files

SIZE, FILES = 1 << 20, 3
BOUND = 1.2 * SIZE * FILES
FLOOD = "exec seq 1 2000000000"


@pytest.fixture(scope="module")
def cluster(registry: Registry) -> Iterator[Cluster]:
    flags = ("--container-log-max-size", "1Mi", "--container-log-max-files", str(FILES))
    with Cluster(registry.registries_conf, flags=flags) as cluster:
        yield cluster


def log_of(cluster: Cluster, name: str) -> Path:
    uid = cluster.get("pod", name)["metadata"]["uid"]
    return cluster.data_dir / "logs" / "pods" / f"default_{name}_{uid}" / "main" / "0.log"


def on_disk(directory: Path) -> int:
    """Bytes that the files of a log take now, each file once, whatever its names.

    A look during which files come or go says nothing of any one moment, and is repeated.
    """
    while True:
        begun, blocks = directory.stat().st_mtime_ns, {}
        for entry in os.scandir(directory):
            try:
                status = os.stat(entry.path)
            except FileNotFoundError:
                continue
            blocks[status.st_ino] = status.st_blocks * 512
        if directory.stat().st_mtime_ns == begun:
            return sum(blocks.values())


def printed(lines: list[bytes]) -> list[int]:
    """The numbers in lines of a log, some of which conmon has written in two parts."""
    numbers, begun = [], b""
    for line in lines:
        _, _, tag, text = line.split(b" ", 3)
        begun += text
        if tag == b"F":
            if begun:  # else only the line feed has come in the second part, and the first was not read
                numbers.append(int(begun))
            begun = b""
    return numbers


def last_line(path: Path) -> int:
    """The newest number that `seq` printed; 0 right after a change of files."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
        numbers = printed(file.read().split(b"\n")[1:-1])
    return numbers[-1] if numbers else 0


def flood_on(cluster: Cluster, names: list[str], lines: int) -> int:
    """Watch the disk while each of the Pods prints so many lines more; return the most that one log took."""
    most = 0
    paths = {name: log_of(cluster, name) for name in names}
    begin = {name: last_line(path) for name, path in paths.items()}
    deadline = time.monotonic() + 120
    while paths:
        for name, path in list(paths.items()):
            most = max(most, on_disk(path.parent))
            if last_line(path) > begin[name] + lines:
                del paths[name]
        assert time.monotonic() < deadline, f"{sorted(paths)} do not print on"
    return most


def numbers(path: Path) -> list[int]:
    """All that is kept of a log, oldest first."""
    return printed([line for file, _ in log_files.files(path) for line in file.read_bytes().splitlines()])


def in_order(cluster: Cluster, path: Path) -> bool:
    """Whether what is kept of the log of a container that has ended leaves nothing out."""
    eventually(lambda: path.stat().st_nlink == 1, timeout=60)  # the agent has taken note of the end
    kept = numbers(path)
    return kept == list(range(kept[0], kept[-1] + 1))


def test_two_floods_stay_bounded_with_and_without_the_agent_and_the_oldest_lines_go(cluster: Cluster) -> None:
    floods = [unique("flood"), unique("flood")]
    for name in floods:
        cluster.apply(pod(name, container(script=FLOOD)))
        cluster.wait(f"pod/{name}", "condition=Ready")
    assert flood_on(cluster, floods, 1_000_000) <= BOUND
    # Others are served meanwhile: 60,000 lines are some 2.9 MiB, more than the files that are kept.
    quiet = unique("quiet")
    script = "for i in $(seq 0 5000 55000); do seq $((i + 1)) $((i + 5000)); sleep 0.1; done; exec sleep 3600"
    cluster.apply(pod(quiet, container(script=script)))
    cluster.wait(f"pod/{quiet}", "condition=Ready")
    path = log_of(cluster, quiet)
    eventually(lambda: path.exists() and last_line(path) == 60_000, timeout=60)
    eventually(lambda: len(log_files.files(path)) == FILES, timeout=60)
    kept = numbers(path)
    assert kept == list(range(kept[0], 60_001))
    assert on_disk(path.parent) <= BOUND
    # An agent that is away rotates nothing. Nothing grows all the same, and no container waits.
    cluster.kill("agent")
    assert flood_on(cluster, floods, 500_000) <= BOUND
    cluster.up()
    assert flood_on(cluster, floods, 500_000) <= BOUND
    for name in floods:
        one = cluster.get("pod", name)["status"]["containerStatuses"][0]["containerID"].partition("//")[2]
        os.kill(int((cluster.run_dir / "containers" / one / "pidfile").read_text()), signal.SIGKILL)
        assert in_order(cluster, log_of(cluster, name))
    cluster.kubectl("delete", "pod", *floods, quiet)
    assert not list((cluster.data_dir / "logs" / "pods").iterdir())


def test_logs_are_followed_over_rotations_without_a_gap(cluster: Cluster) -> None:
    """The container prints on as the reader goes on: one that is behind by more than the kept files loses the oldest."""
    name = unique("followed")
    script = "exec 3<> /go/pipe; echo start; while read first last <&3; do seq $first $last; done"
    init = {**container(name="pipe", script="mkfifo /go/pipe"), "volumeMounts": [{"name": "go", "mountPath": "/go"}]}
    main = {**container(script=script), "volumeMounts": [{"name": "go", "mountPath": "/go"}]}
    cluster.apply(pod(name, main, initContainers=[init], volumes=[{"name": "go", "emptyDir": {}}]))
    cluster.wait(f"pod/{name}", "condition=Ready")
    uid = cluster.get("pod", name)["metadata"]["uid"]
    pipe = cluster.data_dir / "pods" / uid / "volumes" / "kubernetes.io~empty-dir" / "go" / "pipe"
    with cluster.kubectl_lines("logs", "-f", name, "-c", "main") as lines:
        assert next(lines) == "start"
        for first in range(1, 60_001, 10_000):
            pipe.write_text(f"{first} {first + 9_999}\n")
            for number in range(first, first + 10_000):
                assert next(lines) == str(number)
    eventually(lambda: len(log_files.files(log_of(cluster, name))) == FILES)
    cluster.kubectl("delete", "pod", name)


def test_a_log_grown_beyond_its_size_is_changed_by_request(cluster: Cluster) -> None:
    """As of a container that an earlier agent started, whose conmon knows no size."""
    name = unique("grown")
    cluster.apply(pod(name, container(script="echo first; exec sleep 3600")))
    cluster.wait(f"pod/{name}", "condition=Ready")
    path = log_of(cluster, name)
    eventually(lambda: path.exists() and log_files.named(path))
    with path.open("ab") as file:
        file.write(b"2026-01-01T00:00:00.000000000+00:00 stdout F more\n" * (SIZE // 40))
    eventually(lambda: len(log_files.files(path)) == 2, timeout=60)
    eventually(path.exists)
    cluster.kubectl("delete", "pod", name)
