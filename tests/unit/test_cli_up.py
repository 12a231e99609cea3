"""`podling up` and other commands at the same time, and a server that is not there yet."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from threading import Thread

import pytest

from podling.cli import lock, process, up
from podling.cli.api_socket import NobodyListens
from podling.cli.settings import Settings

WAITING = """
import sys
from pathlib import Path
from podling.cli import lock
with lock.held(Path(sys.argv[1]), create=len(sys.argv) > 2):
    print("held", flush=True)
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data", run_dir=tmp_path / "run", node_name="n")


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WAITING, *map(str, arguments)], stdout=subprocess.PIPE, text=True)


def test_a_command_waits_for_the_one_before_and_says_so(tmp_path: Path) -> None:
    data_dir = tmp_path / "a" / "data"
    with contextlib.ExitStack() as ends:
        with lock.held(data_dir, create=True):
            other = ends.enter_context(start(data_dir))
            assert other.stdout is not None
            assert other.stdout.readline() == "waiting for another podling command ...\n"
            (data_dir / "config.json").touch()
            # As `podling reset` does it; who waits for the old one has to see that there is a new one.
            (data_dir / lock.FILE).unlink()
            with start(data_dir, "create") as third:
                assert third.stdout is not None
                assert third.stdout.readline() == "held\n"
            assert other.poll() is None
        assert other.stdout.readline() == "held\n"
    assert other.returncode == third.returncode == 0


def test_a_command_that_makes_nothing_leaves_no_lock_behind(tmp_path: Path) -> None:
    with lock.held(tmp_path / "a" / "data", create=True):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "a"]
    assert list((tmp_path / "a").iterdir()) == []
    with lock.held(tmp_path / "none"):
        assert not (tmp_path / "none").exists()
    (tmp_path / "file").touch()
    with lock.held(tmp_path / "file", create=True):
        pass
    kept = tmp_path / "kept"
    with lock.held(kept, create=True):
        assert (kept / lock.FILE).stat().st_mode & 0o777 == 0o600
        (kept / "config.json").touch()
    assert {path.name for path in kept.iterdir()} == {lock.FILE, "config.json"}


def test_a_server_that_was_just_started_is_waited_for(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    node = {"type": "ADDED", "object": {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}}
    answer = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + json.dumps(node).encode() + b"\n"
    servers: list[Thread] = []

    def serve(listener: socket.socket) -> None:
        with listener, listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(answer)

    def begin_to_listen(seconds: float) -> None:
        settings.api_socket.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(settings.api_socket))
        listener.listen()
        servers.append(Thread(target=serve, args=(listener,)))
        servers[-1].start()

    monkeypatch.setattr(time, "sleep", begin_to_listen)
    with process.registered(settings, "server"):
        # What a server that was killed left.
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(settings.api_socket))
        up._wait_until_ready(settings, time.monotonic())
    (server,) = servers
    server.join()


def test_nobody_waits_for_a_server_that_does_not_run(settings: Settings) -> None:
    os.mkdir(settings.run_dir)
    with pytest.raises(NobodyListens, match="does not answer"):
        up._wait_until_ready(settings, time.monotonic())
