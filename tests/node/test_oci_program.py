"""How the OCI runtime program is run: what programs that guard themselves against containers find where they lie."""

from __future__ import annotations

import filecmp
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling.runtime.native import oci, syscalls
from podling.runtime.native.state import Layout

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    layout = Layout(tmp_path / "data", tmp_path / "run")
    for directory in (layout.programs, layout.oci):
        directory.mkdir(parents=True)
    yield layout
    oci.unload(layout)
    assert os.listdir(layout.programs) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()


@pytest.mark.parametrize("name", oci.CANDIDATES)
def test_a_program_finds_itself_in_an_overlay_of_its_directory_and_cannot_be_overwritten(
    layout: Layout, tmp_path: Path, name: str
) -> None:
    """runc 1.2 and newer execute themselves from such an overlay."""
    program = Path(oci.load(name, layout).path)
    lower, merged = tmp_path / "lower", tmp_path / "merged"
    lower.mkdir()
    merged.mkdir()
    syscalls.mount("overlay", merged, "overlay", syscalls.MS_RDONLY, f"lowerdir={program.parent}:{lower}")
    try:
        assert filecmp.cmp(merged / program.name, oci.find(name), shallow=False)
    finally:
        syscalls.umount(merged)
    assert os.statvfs(program).f_flag & os.ST_RDONLY


@pytest.mark.parametrize("name", oci.CANDIDATES)
def test_the_probe_passes_where_containers_run(layout: Layout, name: str) -> None:
    assert oci.load(name, layout).probe() == ""


@pytest.mark.parametrize(
    "message",
    [
        "exec /proc/self/exe: no such file or directory",
        "runc run failed: error opening rootfs: no such file or directory",
        "crun: command not found",
    ],
)
def test_the_probe_does_not_take_what_else_is_missing_for_its_own_executable(
    layout: Layout, tmp_path: Path, message: str
) -> None:
    """A program that fails for such a reason ran no container: it would not run any."""
    program = tmp_path / "broken"
    program.write_text(f"#!/bin/sh\necho '{message}' >&2\nexit 1\n")
    program.chmod(0o755)
    assert message in oci.load(str(program), layout).probe()


def test_a_mount_of_an_agent_that_mounted_the_program_alone_is_taken_down(layout: Layout) -> None:
    old = layout.programs / "crun-00000000"
    old.touch()
    syscalls.bind(oci.find("crun"), old)
    oci.unload(layout)
    assert not old.exists()


def test_an_upgraded_program_is_run_as_it_is_now(layout: Layout, tmp_path: Path) -> None:
    """Package managers rename the new file over the old one while the agent runs."""
    directory = tmp_path / "programs"
    directory.mkdir()
    program = directory / "tool"
    for number in (1, 2):
        new = directory / "tool.new"
        new.write_text(f"#!/bin/sh\necho {number}\n")
        new.chmod(0o755)
        new.rename(program)
        if number == 1:
            runtime = oci.load(str(program), layout)
        assert subprocess.run([runtime.path], capture_output=True, text=True, check=True).stdout == f"{number}\n"
