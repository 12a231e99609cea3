"""`tools/setup.sh`: what it says when it cannot go on, and whose .venv is afterwards."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NOBODY = 65534
FILES = ("Makefile", "pyproject.toml", "requirements.lock", "requirements-dev.lock", "README.md", "tools")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout that has not been set up."""
    directory = tmp_path / "checkout"
    (directory / "src" / "podling").mkdir(parents=True)
    for name in FILES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, directory / name)
    return directory


def setup(
    checkout: Path, *argv: str, prefix: tuple[str, ...] = (), timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    path = f"{Path(sys.executable).parent}:{environment['PATH']}"
    return subprocess.run(
        [*prefix, "sh", "tools/setup.sh", *argv],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
        env={**environment, "PATH": path, "PIP_CONFIG_FILE": "/dev/null"},
    )


@pytest.mark.parametrize("level", ["demo", "test", "bench"])
def test_levels_that_run_containers_say_at_once_that_they_need_root(level: str) -> None:
    done = setup(ROOT, level, prefix=("unshare", "--user"))
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"setup: containers need root: sudo make {level}\n",
    )


def test_an_unknown_level_is_refused() -> None:
    done = setup(ROOT, "everything")
    assert done.returncode == 2
    assert "there is no level everything" in done.stderr


@pytest.mark.parametrize(
    "network",
    [
        ":",
        # Nobody answers there: a connection is not refused, it hangs.
        "ip link set lo up; ip link add hole type bridge; ip addr add 192.0.2.1/24 dev hole; ip link set hole up;"
        "ip route add default via 192.0.2.2",
    ],
    ids=["no way out", "packets get lost"],
)
@pytest.mark.parametrize("missing", ["", "crun"])
def test_without_a_network_it_gives_up_soon_and_says_so(checkout: Path, network: str, missing: str) -> None:
    if missing:  # as it seems; what apt-get changes is the test's own
        network = f"mount --bind /dev/null {shutil.which(missing)}; mount -t tmpfs none /var/lib/apt/lists; {network}"
    begin = ("unshare", "--net", "--mount", "sh", "-c", f'{network}; exec "$@"', "sh")
    # Within 15 s where nothing else runs: most of it is the making of .venv, or waiting for a name server.
    done = setup(checkout, prefix=begin, timeout=30)
    assert done.returncode == 1
    assert ("apt-get update failed" in done.stderr) == bool(missing)
    assert "setup: this machine does not reach the package registries" in done.stderr


def test_root_makes_what_belongs_to_the_owner_of_the_checkout(checkout: Path) -> None:
    """Also what an earlier run of root left, which would block the owner's next one."""
    virtual = checkout / ".venv"
    (virtual / "bin").mkdir(parents=True)
    for name in ("python", "kubectl"):
        (virtual / "bin" / name).symlink_to(shutil.which(name) or sys.executable)
    for lock, stamp in (("requirements.lock", ""), ("requirements-dev.lock", "-dev")):
        content = (checkout / lock).read_bytes() + (checkout / "pyproject.toml").read_bytes()
        (virtual / f".podling-setup{stamp}").write_text(f"{hashlib.sha256(content).hexdigest()}  -\n")
    for path in (checkout, checkout / "src"):
        os.chown(path, NOBODY, NOBODY)
    done = setup(checkout, "dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    found = [checkout / "src" / "podling", virtual, *virtual.rglob("*")]
    assert {path.lstat().st_uid for path in found} == {NOBODY}
