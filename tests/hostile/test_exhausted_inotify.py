"""No inotify instance or watch is left for Podling: root in any container takes from the same ones.

Server and agent start and go on all the same, and look by themselves until there are some again.
"""

# ruff: noqa: ASYNC110, ASYNC240 (no event tells of the files of a log; a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import inotify_simple
import pytest
from tests.support.native import Node, Run
from tests.support.shortage import Failing

from podling.kubelet import log_files
from podling.kubelet.log_rotation import LogPolicy, LogRotation
from podling.kubelet.logs import LogOptions, read_logs
from podling.store.sqlite import SQLiteStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

Exhaust = Callable[[], Failing]

SHORTAGES = [
    ("inotify_init1", errno.EMFILE),
    ("inotify_init1", errno.ENFILE),
    ("inotify_init1", errno.ENOMEM),
    ("inotify_add_watch", errno.ENOSPC),
]


def _named(shortage: tuple[str, int]) -> str:
    return errno.errorcode[shortage[1]]


@pytest.fixture(params=SHORTAGES, ids=_named)
def exhaust(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exhaust:
    """Let inotify fail from now on, until it has failed twice."""
    name, error = request.param
    inotify_simple.INotify().close()  # loads the library

    def exhaust() -> Failing:
        failing = Failing(inotify_simple._libc_call, error, 2, lambda call: call.__name__ == name)
        monkeypatch.setattr(inotify_simple, "_libc_call", failing)
        return failing

    return exhaust


def test_the_agent_starts_and_learns_of_exits(run: Run, exhaust: Exhaust) -> None:
    async def test(node: Node) -> None:
        await node.runtime.close()
        failing = exhaust()
        await node.open()
        one = await node.start(await node.pod(), "echo ready; exec sleep 1000")
        conmon = int((node.run_dir / "containers" / one / "conmon.pid").read_text())
        # The end of conmon would tell too.
        os.kill(conmon, signal.SIGSTOP)
        os.kill((await node.runtime.container_status(one)).pid, signal.SIGKILL)
        (node.run_dir / "exits" / one).write_text("9")
        assert (await node.exited(one)).exit_code == 9
        os.kill(conmon, signal.SIGKILL)
        assert failing.left < 2

    run(test)


@pytest.mark.parametrize("exhaust", SHORTAGES[:3], ids=_named, indirect=True)
def test_logs_are_rotated_as_soon_as_there_is_an_instance(run: Run, exhaust: Exhaust) -> None:
    async def test(node: Node) -> None:
        one = await node.start(await node.pod(), "echo ready; exec sleep 1000")
        await node.said(one, "ready")
        path = Path((await node.runtime.container_status(one)).log_path)
        before = set(os.listdir("/proc/self/fd"))
        exhaust()
        rotation = asyncio.create_task(LogRotation(node.runtime, LogPolicy()).run())
        while not log_files.named(path) and not rotation.done():
            await asyncio.sleep(0.01)
        rotation.cancel()
        await asyncio.wait([rotation])
        assert set(os.listdir("/proc/self/fd")) == before
        assert rotation.cancelled()

    run(test)


def test_a_log_is_followed(tmp_path: Path, exhaust: Exhaust) -> None:
    asyncio.run(_follow(tmp_path / "0.log", exhaust))


def test_the_server_ends_with_its_database(tmp_path: Path, exhaust: Exhaust) -> None:
    asyncio.run(_lose(tmp_path / "s.db", exhaust))


def test_without_a_single_instance_logs_are_followed_and_the_server_ends_with_its_database(tmp_path: Path) -> None:
    """In a user namespace of its own, whose limits are its own too."""
    none = f"echo 0 > /proc/sys/user/max_inotify_instances; exec {sys.executable} {__file__} {tmp_path}"
    argv = ["unshare", "--user", "--map-root-user", "sh", "-ec", none]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env)
    assert done.returncode == 0, done.stderr
    # Once, however many wait and however often they look.
    assert done.stderr.count("inotify fails: Too many open files (raise fs.inotify.max_user_instances") == 1


async def _follow(path: Path, exhaust: Callable[[], object]) -> None:
    line = b"2026-01-02T03:04:0%d+00:00 stdout F %s\n"
    path.write_bytes(line % (1, b"one"))
    exhaust()
    exited = asyncio.Event()
    stream = read_logs(path, LogOptions(follow=True), exited)
    async with asyncio.timeout(20):
        assert await anext(stream) == b"one\n"
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0)
        with path.open("ab") as file:
            file.write(line % (2, b"two"))
        assert await following == b"two\n"
        exited.set()
        assert [part async for part in stream] == []


async def _lose(path: Path, exhaust: Callable[[], object]) -> None:
    async with await SQLiteStore.open(path) as store:
        exhaust()
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(store.gone())
            await asyncio.sleep(0)
            path.unlink()
        assert "was deleted or replaced" in str(waiting.result())


if __name__ == "__main__":
    asyncio.run(_follow(Path(sys.argv[1], "0.log"), lambda: None))
    asyncio.run(_lose(Path(sys.argv[1], "s.db"), lambda: None))
