"""Control groups of the machine: also those below, as a container with rights makes them, are found, killed, removed."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from podling.runtime.native import cgroup
from podling.runtime.native.cgroup import Cgroups


@pytest.fixture
def group() -> Iterator[str]:
    path = f"/podling-pytest-{os.getpid()}"
    yield path
    Cgroups().remove(path)


def _directories(path: str) -> list[Path]:
    return [root / path.lstrip("/") for root in Cgroups()._roots]


def test_a_group_is_made_with_its_parents_and_again(group: str) -> None:
    groups = Cgroups()
    groups.create(f"{group}/burstable/pod")
    groups.create(f"{group}/burstable/pod")
    assert all(directory.is_dir() for directory in _directories(f"{group}/burstable/pod"))
    assert groups.children(group) == ["burstable"]


def test_what_is_missing_in_one_hierarchy_only_is_made(group: str) -> None:
    groups = Cgroups()
    groups.create(f"{group}/pod")
    (_directories(group)[0] / "pod").rmdir()
    groups.create(f"{group}/pod/container")
    assert all(directory.is_dir() for directory in _directories(f"{group}/pod/container"))


def test_processes_of_groups_below_are_found_and_killed(group: str) -> None:
    groups = Cgroups()
    inner = f"{group}/pod/container/made/by/itself"
    groups.create(inner)
    with subprocess.Popen(["sleep", "1000"]) as process:
        for directory in _directories(inner):
            (directory / "cgroup.procs").write_text(str(process.pid))
        assert groups.pids(group) == [process.pid]
        assert groups.kill(f"{group}/pod")
        assert process.wait() == -9
    assert groups.pids(group) == []


def test_removal_kills_and_takes_the_groups_below_along(group: str) -> None:
    groups = Cgroups()
    for name in ("one/two/three", "other"):
        groups.create(f"{group}/pod/{name}")
    with subprocess.Popen(["sleep", "1000"]) as process:
        for directory in _directories(f"{group}/pod/one/two/three"):
            (directory / "cgroup.procs").write_text(str(process.pid))
        groups.remove(f"{group}/pod")
        assert process.wait() == -9
    assert not any(directory.exists() for directory in _directories(f"{group}/pod"))
    groups.remove(f"{group}/pod")


def test_a_group_that_another_removes_meanwhile_is_gone_all_the_same(
    group: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the OCI runtime does, between the attempt that finds it in use and the look for the groups below."""
    groups, listed = Cgroups(), cgroup._children
    groups.create(f"{group}/pod/container")

    def removed_first(name: str) -> list[str]:
        if name.endswith(("/container", "/pod")):
            for directory in (f"{name}/container", name):
                if os.path.exists(directory):
                    os.rmdir(directory)
        return listed(name)

    monkeypatch.setattr(cgroup, "_children", removed_first)
    groups.remove(f"{group}/pod")
    assert not any(directory.exists() for directory in _directories(f"{group}/pod"))


def test_several_threads_remove_one_group(group: str) -> None:
    groups = Cgroups()
    with ThreadPoolExecutor(4) as threads:
        for _ in range(20):
            groups.create(f"{group}/pod/one/two")
            for removal in [threads.submit(groups.remove, f"{group}/pod") for _ in range(4)]:
                removal.result()
            assert not any(directory.exists() for directory in _directories(f"{group}/pod"))
