"""The suite's own check: what tests leave on the machine, or change there, is named and fails the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from tests.support.cluster import unique
from tools import machine_state

ROOT = Path(__file__).parents[2]

TEST = """
import subprocess

def test_that_leaves_things():
    for argv in {commands}:
        subprocess.run(argv, check=True)
    with open("/proc/sys/net/ipv4/ip_default_ttl", "w") as file:
        file.write("77")
    process = subprocess.Popen(["podling-{name}", "60"], executable="/usr/bin/sleep", stdout=subprocess.DEVNULL,
                               stderr=subprocess.DEVNULL, start_new_session=True)
    print("pid", process.pid)
    process.returncode = 0
"""


def run(test: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run one test file in namespaces of its own, so that links, tables and mounts are of this run alone."""
    argv = ["unshare", "--net", "--mount", sys.executable, "-m", "pytest", "-s", "-p", "tests.support.machine"]
    argv += ["-o", "addopts=", "-p", "no:cacheprovider", f"--rootdir={test.parent}"]
    argv += [f"--basetemp={test.parent / 'temporary'}", *flags, str(test)]
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def test_a_run_that_leaves_things_fails_and_names_them(tmp_path: Path) -> None:
    name = unique("left")
    mounted = tmp_path / f"podling-{name}"
    cgroup = next(d for d in ("/sys/fs/cgroup/pids", "/sys/fs/cgroup") if os.path.isdir(d)) + f"/podling-{name}"
    file = Path(f"/var/tmp/podling-{name}")
    commands = [
        ["ip", "link", "add", "pe2e-left", "type", "bridge"],
        ["ip", "rule", "add", "from", "192.0.2.77", "lookup", "77"],
        ["nft", "add", "table", "ip", "podling-left"],
        ["mkdir", str(mounted), cgroup],
        ["mount", "-t", "tmpfs", "podling-left", str(mounted)],
        ["mkdir", "-p", f"{file}/below"],
    ]
    test = tmp_path / "test_left.py"
    test.write_text(TEST.format(commands=commands, name=name))
    try:
        done = run(test, "--check-machine")
    finally:
        for directory in (Path(cgroup), file / "below", file):
            with suppress(FileNotFoundError):
                directory.rmdir()
    assert "pid " in done.stdout, done.stdout + done.stderr
    pid = int(done.stdout.partition("pid ")[2].split()[0])
    os.kill(pid, signal.SIGKILL)

    assert "1 passed" in done.stdout
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    left = {line.strip() for line in done.stdout.partition("after the tests:")[2].splitlines()}
    assert {
        "sysctl net/ipv4/ip_default_ttl changed from 64 to 77",
        f"mount {mounted} (tmpfs) was left",
        "link pe2e-left was left",
        "routing rule from 192.0.2.77 lookup 77 was left",
        "nftables table ip podling-left was left",
        f"cgroup {cgroup} was left",
        f"file {file} was left",
    } <= left
    assert not any(f"{file}/below" in line for line in left)
    assert [line for line in left if line.startswith(f"process {pid} ") and name in line]


def test_a_run_that_is_not_asked_does_not_look(tmp_path: Path) -> None:
    test = tmp_path / "test_left.py"
    file = Path(f"/var/tmp/podling-{unique('left')}")
    test.write_text(TEST.format(commands=[["mkdir", str(file)]], name="unseen"))
    try:
        done = run(test)
    finally:
        file.rmdir()
    os.kill(int(done.stdout.partition("pid ")[2].split()[0]), signal.SIGKILL)
    assert done.returncode == 0
    assert "was left" not in done.stdout


def test_what_was_there_before_and_what_is_gone_again_counts_for_nothing() -> None:
    before = {"file": {"/etc/a": "1", "/tmp/b": ""}, "process": {"7: sh": ""}, "mount": {"/mnt (tmpfs)": ""}}
    assert machine_state.differences(before, before) == []
    after = {"file": {"/etc/a": "2", "/tmp/c": "", "/tmp/c/d": ""}, "process": {}, "mount": {}}
    assert machine_state.differences(before, after) == [
        "file /etc/a changed",
        "file /tmp/c was left",
        "mount /mnt (tmpfs) is gone",
    ]


def test_a_changed_file_in_etc_and_files_outside_caches_are_seen(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name in ("proc/sys/kernel", "proc/1", "sys/fs/cgroup", "var/lib/dpkg/info", "var/cache/podling", "etc", "srv"):
        (root / name).mkdir(parents=True)
    (root / "proc/1/mountinfo").write_text("22 1 0:20 / /proc rw - proc proc rw\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    before = machine_state.look(root)
    (root / "var/lib/dpkg/info/nginx.list").write_text("/.\n/srv/nginx\n/srv/nginx/page\n")
    for name in ("srv/nginx/page", "var/cache/podling/image", "usr/bin/nginx", "srv/own/page"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    os.utime(root / "etc/hosts", ns=(1, 1))
    files = [line for line in machine_state.differences(before, machine_state.look(root)) if line.startswith("file ")]
    assert sorted(files) == ["file /etc/hosts changed", "file /srv/own was left"]
