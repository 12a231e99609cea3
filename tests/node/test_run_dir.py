"""The run directory of a cluster, on real mounts."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling.cli import run_dir
from podling.cli.settings import OWNER_FILE, Settings
from podling.runtime.native import syscalls


def kinds(path: Path) -> list[str]:
    """The file systems mounted at the very path, the last one last."""
    lines = [line.split(" - ") for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [right.split()[0] for left, right in lines if left.split()[4] == str(path)]


@pytest.fixture
def disk() -> Iterator[Path]:
    """A directory on a file system that is no tmpfs."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
        if kind.strip() == "tmpfs":
            pytest.skip("/var/tmp is a tmpfs")
        yield Path(directory)


def test_a_new_run_directory_is_a_tmpfs_that_belongs_to_its_cluster(disk: Path) -> None:
    path = disk / "run dir"
    run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
    try:
        assert os.path.ismount(path)
        assert (path / OWNER_FILE).read_text() == str(disk / "data")
        assert path.stat().st_mode & 0o777 == 0o755
    finally:
        run_dir.remove(Settings(data_dir=disk / "data", run_dir=path))
    assert not path.exists()


def test_it_is_mounted_once_however_often_the_cluster_is_started(disk: Path) -> None:
    path = disk / "run"
    run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
    try:
        (path / "server.pid").write_text("1")
        run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
        assert kinds(path) == ["tmpfs"]
        assert (path / "server.pid").read_text() == "1"
    finally:
        run_dir.remove(Settings(data_dir=disk / "data", run_dir=path))
    assert kinds(path) == []


def test_files_that_are_in_use_are_never_hidden(disk: Path) -> None:
    path = disk / "run"
    path.mkdir()
    (path / "agent.pid").write_text("1")
    run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
    assert kinds(path) == []
    assert (path / "agent.pid").exists()
    run_dir.remove(Settings(data_dir=disk / "data", run_dir=path))
    assert not path.exists()


def test_what_image_commands_left_before_the_first_start_does_not_matter(disk: Path) -> None:
    path = disk / "run"
    (path / "images").mkdir(parents=True)
    run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
    assert kinds(path) == ["tmpfs"]
    run_dir.remove(Settings(data_dir=disk / "data", run_dir=path))
    assert not path.exists()


def test_on_a_tmpfs_nothing_is_mounted() -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        path = Path(directory, "run")
        run_dir.prepare(Settings(data_dir=Path("/data"), run_dir=path))
        assert kinds(path) == []
        run_dir.remove(Settings(data_dir=Path("/data"), run_dir=path))
        assert not path.exists()


def test_a_mount_of_somebody_else_stays(disk: Path) -> None:
    path = disk / "run"
    path.mkdir()
    syscalls.mount("theirs", path, "tmpfs")
    try:
        run_dir.prepare(Settings(data_dir=disk / "data", run_dir=path))
        assert kinds(path) == ["tmpfs"]
        run_dir.remove(Settings(data_dir=disk / "data", run_dir=path))
        assert kinds(path) == ["tmpfs"]
        assert not list(path.iterdir())
    finally:
        syscalls.umount(path)
