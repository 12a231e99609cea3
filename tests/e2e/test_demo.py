"""`make demo` and `make demo-stop`: the first Pod, the words when it does not come, and nothing left behind."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, processes, run

from podling.runtime.native import syscalls

ROOT = Path(__file__).parents[2]


class Demo:
    """The demo in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __call__(self, *argv: str, **environment: str) -> subprocess.CompletedProcess[str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PODLING_DEMO": str(self.directory), "PATH": path, **environment}
        return run([str(ROOT / "tools" / "demo.sh"), *argv], check=False, env=env)

    def processes(self) -> list[str]:
        return [line for line in processes() if str(self.directory) in line]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path / "demo")
    yield demo
    demo("stop")


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """The flags and the place of a cluster that is not started yet."""
    cluster = Cluster(tmp_path / "no-registries.conf")
    yield cluster
    cluster.reset()


def flags(cluster: Cluster) -> list[str]:
    return cluster.up_flags[: cluster.up_flags.index("--registries-conf")]


def test_the_demo_shows_a_page_and_its_stop_leaves_nothing(demo: Demo, own: Cluster) -> None:
    for _ in range(2):
        done = demo("start", *flags(own))
        assert "<h1>Welcome to nginx!</h1>" in done.stdout, done.stdout + done.stderr
        assert done.returncode == 0
    assert f"podling status --data-dir {own.data_dir}\n" in done.stdout
    stopped = demo("stop")
    assert stopped.returncode == 0
    assert f"Podling is gone from {own.data_dir}." in stopped.stdout
    assert "Kept for next time: /var/cache/podling/test-images" in stopped.stdout
    assert not demo.directory.exists()
    assert demo.processes() == []
    assert [line for line in own.leftovers() if not line.startswith("process")] == []


def test_a_user_who_has_sudo_gets_commands_that_work_for_them(demo: Demo, own: Cluster) -> None:
    """Their own kubeconfig, and sudo with the full path: sudo does not keep PATH."""
    kubeconfig = ROOT / "demo.kubeconfig"
    done = demo("start", *flags(own), SUDO_USER="nobody")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"export KUBECONFIG={kubeconfig} PATH=" in done.stdout
    assert f"sudo {ROOT}/.venv/bin/podling status --data-dir {own.data_dir}\n" in done.stdout
    assert "sudo make demo-stop" in done.stdout
    assert (kubeconfig.owner(), kubeconfig.stat().st_mode & 0o777) == ("nobody", 0o600)
    assert demo("stop").returncode == 0
    assert not kubeconfig.exists()


def test_a_cluster_that_was_there_before_is_used_and_stays(demo: Demo, own: Cluster) -> None:
    own.registries_conf.touch()
    own.up()
    assert "Welcome to nginx" in demo("start", *flags(own)).stdout
    stopped = demo("stop")
    assert stopped.returncode == 0
    assert "no cluster was started by make demo" in stopped.stdout
    assert own.kubectl("get", "pod", "nginx", "-o", "jsonpath={.status.phase}") == "Running"


def test_an_image_that_does_not_fit_is_named_with_the_disk(demo: Demo, own: Cluster) -> None:
    own.data_dir.mkdir(parents=True)
    syscalls.mount("tmpfs", own.data_dir, "tmpfs", 0, "size=96m")
    try:
        own.registries_conf.touch()
        own.up()
        free = shutil.disk_usage(own.data_dir).free
        (own.data_dir / "filler").write_bytes(bytes(free - (2 << 20)))
        done = demo("start", *flags(own))
        (own.data_dir / "filler").unlink(missing_ok=True)
        assert done.returncode == 1
        assert "== The Pod is not Ready. Its events" in done.stdout
        assert "untolerated taint" in done.stdout or "no space left" in done.stdout
        assert f"== The disk of {own.data_dir} is full" in done.stdout
        assert "timed out" not in done.stdout + done.stderr
    finally:
        own.podling("reset", "--data-dir", str(own.data_dir), check=False)
        syscalls.umount(own.data_dir)


def test_the_registry_stops_even_if_the_cluster_cannot_be_removed(demo: Demo, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "letter").touch()
    registry = [sys.executable, "-m", "tools.registry", "start", str(demo.directory / "registry")]
    subprocess.run(registry, cwd=ROOT, check=True, capture_output=True)
    (demo.directory / "cluster").write_text(f"{foreign}\n")
    assert demo.processes() != []
    done = demo("stop")
    assert done.returncode == 1
    assert "the cluster is not gone" in done.stderr
    assert demo.processes() == []
    assert (demo.directory / "cluster").read_text() == f"{foreign}\n"
    assert (foreign / "letter").exists()


def test_without_root_it_says_so_at_once(demo: Demo) -> None:
    argv = ["unshare", "--user", "sh", "tools/demo.sh", "start"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "demo: Pods need root: sudo make demo\n")
