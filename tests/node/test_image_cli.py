"""`podling image` as a user calls it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tools.registry import Registry

from podling.runtime.native.state import ContainerPhase, ContainerRecord, Layout, Records
from podling.runtime.protocol import ContainerConfig, ContainerMetadata, Mount

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Podling:
    def __init__(self, directory: Path) -> None:
        # `run_dir` follows from the data directory; a config file of a cluster says otherwise.
        self.data_dir = directory / "data"
        self.data_dir.mkdir()
        (self.data_dir / "config.json").write_text(f'{{"run_dir": "{directory / "run"}"}}')

    def __call__(self, action: str, *args: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "podling.cli.main", "image", action, "--data-dir", self.data_dir, *args],
            input=stdin,
            capture_output=True,
            text=True,
        )


@pytest.fixture
def podling(tmp_path: Path) -> Podling:
    return Podling(tmp_path)


def test_images_are_pulled_listed_saved_removed_and_loaded(
    podling: Podling, registry: Registry, tmp_path: Path
) -> None:
    pulled = podling("pull", "--registries-conf", registry.registries_conf, "nginx:1.25", "busybox")
    assert pulled.returncode == 0, pulled.stderr
    ids = pulled.stdout.split()
    assert len(ids) == 2
    assert "Copying blob sha256:" in pulled.stderr, "no progress was shown"

    header, *rows = podling("list").stdout.splitlines()
    assert header.split() == ["IMAGE", "TAG", "IMAGE", "ID", "SIZE"]
    assert [row.split()[:3] for row in rows] == [
        ["docker.io/library/busybox", "latest", ids[1][7:19]],
        ["docker.io/library/nginx", "1.25", ids[0][7:19]],
    ]
    assert all(re.fullmatch(r"\d+\.\dMB", row.split()[3]) for row in rows)

    archive = tmp_path / "nginx.tar"
    assert podling("save", "nginx:1.25", "-o", archive).returncode == 0
    removed = podling("remove", "nginx:1.25", ids[1])
    assert removed.stdout.splitlines() == [
        "Removed docker.io/library/nginx:1.25",
        "Removed docker.io/library/busybox:latest",
    ]
    assert podling("list", "-q").stdout == ""
    assert podling("load", archive).stdout == f"{ids[0]} docker.io/library/nginx:1.25\n"
    assert podling("list", "-q").stdout == f"{ids[0]}\n"


def test_image_of_a_container_is_not_removed(podling: Podling, registry: Registry) -> None:
    pulled = podling("pull", "--registries-conf", registry.registries_conf, "nginx", "busybox")
    nginx, busybox = pulled.stdout.split()
    records = Records(Layout(podling.data_dir, podling.data_dir / "run"))
    records.container_dir("c" * 64).mkdir(parents=True)
    records.write_container(
        ContainerRecord(
            id="c" * 64,
            sandbox_id="s" * 64,
            config=ContainerConfig(
                metadata=ContainerMetadata(name="web"),
                image=nginx,
                mounts=[Mount(container_path="/x", host_path="", image=busybox)],
            ),
            phase=ContainerPhase.EXITED,
            created_at=0,
            boot_id="",
            cgroup="",
            log_path="",
            image_id=nginx,
        )
    )
    refused = podling("remove", "nginx", busybox)
    assert refused.returncode == 1
    assert refused.stderr.splitlines() == [
        'podling image: image "nginx" is in use by container web (cccccccccccc)',
        f'podling image: image "{busybox}" is in use by container web (cccccccccccc)',
    ]
    records.remove_container("c" * 64)
    assert podling("remove", "nginx", busybox).returncode == 0


def test_one_of_several_names_of_an_image_is_taken_away_alone(podling: Podling, registry: Registry) -> None:
    pulled = podling("pull", "--registries-conf", registry.registries_conf, "nginx", "nginx:1.25")
    assert len(set(pulled.stdout.split())) == 1
    assert podling("remove", "nginx").stdout == (
        "Removed the name nginx; the image stays: docker.io/library/nginx:1.25\n"
    )
    assert [line.split()[1] for line in podling("list").stdout.splitlines()[1:]] == ["1.25"]
    assert podling("remove", "nginx").stderr == 'podling image: image "nginx": not found\n'
    assert podling("remove", "nginx:1.25").stdout == "Removed docker.io/library/nginx:1.25\n"
    assert podling("list", "-q").stdout == ""


def test_prune_deletes_what_no_container_uses_and_nobody_pinned_and_tells_what_that_freed(
    podling: Podling, registry: Registry
) -> None:
    names = ("nginx", "busybox", "redis", "nginx:1.25")
    pulled = podling("pull", "--registries-conf", registry.registries_conf, *names)
    nginx, busybox, _, _ = pulled.stdout.split()
    records = Records(Layout(podling.data_dir, podling.data_dir / "run"))
    records.container_dir("c" * 64).mkdir(parents=True)
    records.write_container(
        ContainerRecord(
            id="c" * 64,
            sandbox_id="s" * 64,
            config=ContainerConfig(metadata=ContainerMetadata(name="web"), image=busybox),
            phase=ContainerPhase.EXITED,
            created_at=0,
            boot_id="",
            cgroup="",
            log_path="",
            image_id=busybox,
        )
    )
    assert podling("pin", "nginx").returncode == 0
    (line,) = (line for line in podling("list").stdout.splitlines() if "latest" in line and "nginx" in line)
    assert line.endswith("(pinned)")

    pruned = podling("prune")
    assert pruned.returncode == 0, pruned.stderr
    removed, freed = pruned.stdout.splitlines()
    assert removed == "Removed docker.io/library/redis:latest"
    assert float(re.fullmatch(r"Freed (\d+\.\d)MB", freed)[1]) > 1  # type: ignore[index]
    assert set(podling("list", "-q").stdout.split()) == {nginx, busybox}

    assert podling("unpin", "nginx:1.25").returncode == 0
    records.remove_container("c" * 64)
    assert len(podling("prune").stdout.splitlines()) == 3
    assert podling("list", "-q").stdout == ""
    assert podling("prune").stdout == "Freed 0.0MB\n"


def test_pin_of_an_image_that_is_not_there_is_an_error(podling: Podling) -> None:
    refused = podling("pin", "nope")
    assert (refused.returncode, refused.stderr) == (1, 'podling image: image "nope": not found\n')


def test_failure_of_one_image_is_one_line_and_exit_code_1_while_others_are_pulled(
    podling: Podling, registry: Registry
) -> None:
    done = podling("pull", "--registries-conf", registry.registries_conf, "nope", "busybox")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("podling image: ")] == [
        'podling image: failed to pull and unpack image "docker.io/library/nope:latest": failed to resolve reference '
        '"docker.io/library/nope:latest": docker.io/library/nope:latest: not found: there is no repository '
        '"docker.io/library/nope"'
    ]
    assert podling("list", "-q").stdout == done.stdout != ""


def test_credentials_come_from_a_file_or_standard_input(
    podling: Podling, private_registry: Registry, tmp_path: Path
) -> None:
    (tmp_path / "credentials").write_text("alice:wonderland\n")
    pull = ("--registries-conf", private_registry.registries_conf, "alice/private:1", "--credentials")
    assert podling("pull", *pull, tmp_path / "credentials").returncode == 0
    assert podling("pull", *pull, "-", stdin="alice:wonderland\n").returncode == 0
    wrong = podling("pull", *pull, "-", stdin="alice:wrong\n")
    assert wrong.returncode == 1
    assert "pull access denied" in wrong.stderr
    malformed = podling("pull", *pull, "-", stdin="alice\n")
    assert malformed.stderr.splitlines() == ["podling image: credentials must be user:password"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("remove", "nope"), 'podling image: image "nope": not found'),
        (("save", "nope", "-o", "/dev/null/x"), 'podling image: image "nope": not found'),
        (("load", "/nowhere.tar"), "podling image: /nowhere.tar: No such file or directory"),
    ],
)
def test_errors_are_one_line(podling: Podling, args: tuple[str, ...], message: str) -> None:
    done = podling(*args)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == message


def test_wrong_usage_is_exit_code_2(podling: Podling) -> None:
    assert podling("frobnicate").returncode == 2
    assert podling("pull").returncode == 2
