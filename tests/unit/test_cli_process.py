"""Processes found by pid files, and their word that they are ready."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from tests.support.shortage import no_descriptors

from podling.cli import notify, process, systemd
from podling.cli.errors import CommandError
from podling.cli.process import in_order_of_end
from podling.cli.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", run_dir=tmp_path / "run")


def test_a_process_is_found_while_it_runs(settings: Settings) -> None:
    assert process.find(settings, "server") == 0
    with process.registered(settings, "server"):
        assert process.find(settings, "server") == os.getpid()
        assert process.find(settings, "agent") == 0


def test_there_is_one_of_each(settings: Settings) -> None:
    with (
        process.registered(settings, "server"),
        pytest.raises(CommandError, match=r"server of .* is running already"),
        process.registered(settings, "server"),
    ):
        pass


def test_another_process_with_the_same_pid_is_not_taken_for_it(settings: Settings) -> None:
    with process.registered(settings, "server"):
        file = settings.run_dir / "server.pid"
        pid, started, boot = file.read_text().split()
        file.write_text(f"{pid} {int(started) - 1} {boot}\n")
        assert process.find(settings, "server") == 0
        file.write_text(f"{pid} {started} another-boot\n")
        assert process.find(settings, "server") == 0


@pytest.mark.parametrize("program", ["", "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"])
def test_stop_returns_when_the_process_has_gone_even_if_it_ignores_sigterm(program: str) -> None:
    code = f"{program} print('ready', flush=True); import time; time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        process.stop([child.pid], grace_seconds=0.2)
        assert child.poll() is not None


def test_stop_of_what_is_gone_is_no_error() -> None:
    with subprocess.Popen(["true"]) as child:
        child.wait()
    process.stop([child.pid], grace_seconds=0)


@pytest.mark.parametrize("watch", [partial(process.stop, grace_seconds=0), lambda pids: list(in_order_of_end(pids))])
def test_more_processes_than_descriptors_are_an_error_that_leaves_none_open(
    watch: Callable[[list[int]], object],
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        before = len(os.listdir("/proc/self/fd"))
        with no_descriptors(spare=2), pytest.raises(OSError, match="Too many open files"):
            watch([child.pid] * 3)
        assert len(os.listdir("/proc/self/fd")) == before
        assert child.poll() is None


def test_a_process_reports_to_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = notify.Listener()
    assert listener.receive() == {}
    monkeypatch.setenv(notify.VARIABLE, listener.environment[notify.VARIABLE])
    notify.send("READY=1", "STATUS=a = b")
    assert listener.receive() == {"READY": "1", "STATUS": "a = b"}
    listener.close()
    notify.send("READY=1")  # nobody listens: no error
    monkeypatch.delenv(notify.VARIABLE)
    notify.send("READY=1")


def test_units_belong_to_one_cluster_each(settings: Settings) -> None:
    assert systemd.unit_name(Settings(), "server") == "podling-server.service"
    assert systemd.unit_name(settings, "server") not in ("podling-server.service", systemd.unit_name(settings, "agent"))


def test_systemd_accepts_the_units(settings: Settings, tmp_path: Path) -> None:
    for name in process.NAMES:
        (tmp_path / f"{name}.service").write_text(systemd.unit(settings, name))
        try:
            done = subprocess.run(
                ["systemd-analyze", "verify", str(tmp_path / f"{name}.service")],
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            pytest.skip("systemd-analyze is not installed")
        assert f"{name}.service" not in done.stderr
