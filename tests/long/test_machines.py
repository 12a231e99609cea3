"""What users type first, on machines that have nothing yet."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[2] / "tools"


def succeeds(*argv: str) -> None:
    """Runs it with its output shown as it comes: it takes long."""
    assert subprocess.run([str(TOOLS / argv[0]), *argv[1:]], check=False).returncode == 0


DISTRIBUTIONS = ("debian12", "debian13", "ubuntu2404")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_demo_runs_on_a_fresh_machine_and_leaves_nothing(distribution: str) -> None:
    succeeds("fresh.sh", distribution, "make demo && make demo-stop")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_demo_runs_for_a_user_who_has_sudo(distribution: str) -> None:
    """The words of "Next" are run as that user; so is a set-up after root's."""
    follow = 'eval "$(grep -h ^export next)" && kubectl get pod nginx && eval "$(grep "podling status" next)"'
    demo = f"! make demo && sudo make demo | tee next && {follow} && make setup && sudo make demo-stop && rm next"
    succeeds("fresh.sh", "--user", distribution, f"set -o pipefail; {demo} && rm -rf ~/.kube")


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_all_tests_pass_on_a_fresh_machine_and_leave_nothing(distribution: str) -> None:
    succeeds("fresh.sh", distribution, "make test")


def test_what_needs_systemd_and_control_groups_of_version_2() -> None:
    """On an emulated machine. Pytest's 5 says that no test is marked `vm`."""
    tests = "tools/setup.sh test && { .venv/bin/pytest -m vm tests || [ $? = 5 ]; }"
    succeeds("vm.sh", f"make demo && make demo-stop && {tests}")
