"""`--check-machine`: a run fails if it leaves or changes anything on the machine, and names it.

`make test` asks for it. Without it, several runs can share a machine.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from pathlib import Path

import pytest
from tools import machine_state

SCOPE = machine_state.Scope(
    places=(
        "/dev/shm",
        "/etc",
        "/run",
        "/tmp",
        "/var",
        *(str(Path.home() / name) for name in (".config", ".kube", ".local")),
    ),
    words=("podling", "pe2e", "pytest", "kube", "containers", "conmon", "crun", "runc", "skopeo", "docker-registry"),
)
"""Files and processes beyond this may come from anybody who works on this machine meanwhile."""

_BEFORE = pytest.StashKey[machine_state.State]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--check-machine", action="store_true", help="fail if the run leaves anything on the machine")


def pytest_sessionstart(session: pytest.Session) -> None:
    # The workers of xdist get the option, too: the process that starts and outlives them looks.
    if session.config.getoption("--check-machine") and not hasattr(session.config, "workerinput"):
        session.config.stash[_BEFORE] = machine_state.look(scope=SCOPE)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> Generator[None, None, None]:
    """The outermost wrapper: looks when the workers have ended and the temporary directories are gone."""
    yield
    before = session.config.stash.get(_BEFORE, None)
    if before is None:
        return
    factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
    parent = factory.getbasetemp().parent
    for link in parent.glob("*current"):
        if not link.exists():  # leads to this run's directory, which is gone
            link.unlink()
    with suppress(OSError):  # holds what failed tests and other runs left to be read
        parent.rmdir()
    if left := machine_state.left_since(before, scope=SCOPE):
        print("\n\nOn this machine, after the tests:", *left, sep="\n  ")
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED
