"""`podling doctor`: it runs a Pod as the agent does, so it cannot say that all is well where no Pod would run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.cluster import PODLING, cgroups, processes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

# An nft that can do what a simple table needs, and not what Podling's own rules need.
NFT_WITHOUT_MAPS = """#!/bin/sh
[ "$1" = -f ] || exec {program} "$@"
rules=$(mktemp)
cat > "$rules"
if grep -q 'map @' "$rules"; then rm "$rules"; echo "Error: Could not process rule: Not supported" >&2; exit 1; fi
{program} -f "$rules"; code=$?
rm "$rules"; exit $code
"""
# As nft 1.0.9 on a socket.
NFT_OF_FILES = f"""#!{sys.executable} -I
import os, sys
try:
    open("/dev/stdin").close()
except OSError:
    sys.exit("Not a regular file: /dev/stdin")
os.execv("{{program}}", ["nft", *sys.argv[1:]])
"""
BROKEN = """#!/bin/sh
echo "$(basename "$0"): error while loading shared libraries: libx.so.1: cannot open shared object file" >&2
exit 127
"""


class Doctor:
    """The command, run to its end on a machine where some programs are scripts."""

    def __init__(self, directory: Path, programs: dict[str, str]) -> None:
        self._directory = directory
        bin_dir = directory / "bin"
        bin_dir.mkdir()
        for name, script in programs.items():
            program = shutil.which(name)
            assert program is not None
            (bin_dir / name).write_text(script.replace("{program}", program))
            (bin_dir / name).chmod(0o755)
        process = subprocess.Popen(
            [str(PODLING), "doctor", "--data-dir", str(directory / "data")],
            env={**os.environ, "PATH": f"{bin_dir}:{os.environ['PATH']}"},
            stdout=subprocess.PIPE,
            text=True,
        )
        self.stdout, _ = process.communicate(timeout=120)
        self.code = process.returncode
        self._names = (str(directory), f"podling-doctor-{process.pid}")

    def traces(self) -> list[str]:
        """What the trial left on the machine: mounts, control groups, processes, files."""
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        lines += [*processes(), *cgroups()]
        left = [line for line in lines if any(name in line for name in self._names)]
        return left + [path.name for path in self._directory.iterdir() if path.name != "bin"]


def test_doctor_says_that_a_pod_runs_and_leaves_nothing(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path, {})
    assert "ok       a Pod runs" in doctor.stdout
    assert "MISSING" not in doctor.stdout
    assert doctor.code == 0
    assert doctor.traces() == []


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        pytest.param({"nft": NFT_WITHOUT_MAPS}, "Not supported", id="nft lacks what the rules need"),
        pytest.param({"nft": BROKEN}, "nft: error while loading", id="nft does not start"),
        pytest.param({"crun": BROKEN, "runc": BROKEN}, "crun does not work here: crun: ", id="no OCI runtime starts"),
        pytest.param({"conmon": BROKEN}, "conmon: error while loading", id="conmon does not start"),
        pytest.param({"skopeo": BROKEN}, "skopeo: error while loading", id="skopeo does not start"),
    ],
)
def test_doctor_finds_what_is_installed_and_does_not_work(tmp_path: Path, programs: dict[str, str], said: str) -> None:
    doctor = Doctor(tmp_path, programs)
    (line,) = [line for line in doctor.stdout.splitlines() if line.startswith("MISSING")]
    assert line.startswith("MISSING  a Pod does not run: ")
    assert said in line
    assert doctor.code == 1
    assert doctor.traces() == []


def test_doctor_is_content_with_an_nft_that_opens_its_input_by_name(tmp_path: Path) -> None:
    doctor = Doctor(tmp_path, {"nft": NFT_OF_FILES})
    assert "ok       a Pod runs" in doctor.stdout
    assert doctor.code == 0
