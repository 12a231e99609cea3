"""The agent on a machine short of descriptors, memory or disk for a moment: nothing is lost, nothing is left over."""

# ruff: noqa: ASYNC110, ASYNC240 (no event tells of the state of a sandbox; a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from inotify_simple import Event, INotify, flags
from tests.support.cluster import Cluster, eventually, unique
from tests.support.native import Node, Run
from tests.support.pods import container, pod
from tests.support.shortage import Failing, failing_open, fill, no_descriptors, small_disk

from podling.kubelet import log_files, log_rotation
from podling.kubelet.container_config import TERMINATION_PATH
from podling.kubelet.log_rotation import LogPolicy, LogRotation
from podling.kubelet.termination_message import termination_message
from podling.runtime.native import rootfs, state
from podling.runtime.protocol import (
    ContainerMetadata,
    ContainerSecurity,
    ContainerState,
    ContainerStatus,
    CRIError,
    NamespaceMode,
    NamespaceOption,
    SandboxState,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def passed(*traces: Path) -> None:
    """Returns when none of these files is there any more and the events of that have arrived."""
    while any(os.path.exists(trace) for trace in traces):
        await asyncio.sleep(0.01)
    for _ in range(20):
        await asyncio.sleep(0.01)


async def running(node: Node, **settings: Any) -> tuple[str, int, Path]:
    """A container, the ID of its process, and the /proc directory of its conmon."""
    settings = {"script": "echo ready; exec sleep 1000", **settings}
    one = await node.start(await node.pod(), **settings)
    await node.said(one, "ready")
    conmon = (node.run_dir / "containers" / one / "conmon.pid").read_text().strip()
    return one, (await node.runtime.container_status(one)).pid, Path("/proc", conmon)


def test_an_exit_without_descriptors_is_told_when_there_are_some_again(run: Run) -> None:
    async def test(node: Node) -> None:
        one, pid, conmon = await running(node)
        with no_descriptors():
            os.kill(pid, signal.SIGKILL)
            await passed(conmon)
            assert (await node.runtime.container_status(one)).state == ContainerState.RUNNING
        assert (await node.exited(one)).exit_code == 137

    run(test)


@pytest.mark.parametrize("error", [errno.ENFILE, errno.ENOMEM, errno.EIO], ids=errno.errorcode.get)
def test_an_exit_whose_file_cannot_be_read_at_first_is_told_later(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    async def test(node: Node) -> None:
        one, pid, _ = await running(node)
        failing = failing_open(monkeypatch, error, 3, node.run_dir / "exits")
        os.kill(pid, signal.SIGKILL)
        assert (await node.exited(one)).exit_code == 137
        assert failing.left == 0

    run(test)


def test_an_exit_is_told_though_inotify_lost_its_event(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        read = INotify.read
        lost = []

        def overflow(inotify: INotify, timeout: int | None = None, read_delay: int | None = None) -> list[Event]:
            lost.extend(read(inotify, timeout=timeout, read_delay=read_delay))
            return [Event(-1, flags.Q_OVERFLOW, 0, "")]

        one, pid, conmon = await running(node)
        with monkeypatch.context() as patch:
            patch.setattr(INotify, "read", overflow)
            # The monitor lives on as a zombie would: its pidfd tells nothing, so that the overflow is all there is.
            os.kill(int(conmon.name), signal.SIGSTOP)
            os.kill(pid, signal.SIGKILL)
            (node.run_dir / "exits" / one).write_text("9")
            assert (await node.exited(one)).exit_code == 9
        assert lost
        os.kill(int(conmon.name), signal.SIGKILL)

    run(test)


def test_a_container_that_starts_without_pidfds_is_watched_and_stopped_all_the_same(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(node: Node) -> None:
        failing = Failing(os.pidfd_open, errno.EMFILE, 2)
        monkeypatch.setattr(os, "pidfd_open", failing)
        one, _, _ = await running(node)
        assert failing.left < 2
        async with asyncio.timeout(30):
            while (await node.runtime.container_status(one)).state == ContainerState.RUNNING:
                with contextlib.suppress(CRIError):
                    await node.runtime.stop_container(one, 0)
                await asyncio.sleep(0.01)
        assert (await node.exited(one)).exit_code == 137

    run(test)


def test_a_stop_without_descriptors_says_so_and_the_next_one_works(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(node: Node) -> None:
        one, _, _ = await running(node)
        await node.runtime.close()
        with monkeypatch.context() as patch:
            patch.setattr(os, "pidfd_open", Failing(os.pidfd_open, errno.EMFILE, 1000))
            await node.open()
            with pytest.raises(CRIError, match="cannot be signalled: Too many open files"):
                await node.runtime.stop_container(one, 0)
        await node.runtime.stop_container(one, 0)
        assert (await node.exited(one)).exit_code == 137

    run(test)


def test_the_end_of_a_pause_process_without_descriptors_stops_the_sandbox_later(run: Run) -> None:
    async def test(node: Node) -> None:
        shared = NamespaceOption(pid=NamespaceMode.POD)
        sandbox = await node.pod(namespaces=shared)
        record = state.Records(state.Layout(node.directory / "data", node.run_dir))
        pause = next(held.pause for name, held in record.load_sandboxes() if name == sandbox and held is not None)
        with no_descriptors():
            os.kill(pause.pid, signal.SIGKILL)
            await passed(Path(f"/proc/{pause.pid}"))
        async with asyncio.timeout(30):
            while (await node.runtime.pod_sandbox_status(sandbox)).state != SandboxState.NOT_READY:
                await asyncio.sleep(0.01)

    run(test)


def test_a_sandbox_stops_and_goes_on_a_full_disk(run: Run) -> None:
    async def test(node: Node) -> None:
        await node.runtime.close()
        with small_disk(node.directory / "data" / "sandboxes", 64):
            await node.open()
            first, second = await node.pod(), await node.pod()
            one = await node.start(first, "exec sleep 1000")
            filler = fill(node.directory / "data" / "sandboxes")
            await node.runtime.stop_pod_sandbox(first)
            assert (await node.runtime.pod_sandbox_status(first)).state == SandboxState.NOT_READY
            assert (await node.exited(one)).exit_code == 137
            await node.runtime.remove_pod_sandbox(first)
            fill(node.directory / "data" / "sandboxes")
            with pytest.raises(OSError, match="No space left"):
                await node.pod()
            filler.unlink()
            await node.runtime.remove_pod_sandbox(second)
            await node.runtime.close()
        await node.open()

    run(test)


@pytest.mark.parametrize("spare", range(5))
def test_a_command_in_a_container_fails_without_descriptors_and_leaves_none_open(run: Run, spare: int) -> None:
    async def test(node: Node) -> None:
        one, _, _ = await running(node)
        await node.runtime.exec_sync(one, ["true"], 10)
        before = descriptors()
        # With one descriptor too few for the pidfd, the command runs and a thread waits for it.
        with no_descriptors(spare=spare), contextlib.suppress(CRIError):
            await node.runtime.exec_sync(one, ["true"], 10)
        assert descriptors() == before
        assert (await node.runtime.exec_sync(one, ["echo", "yes"], 10)).stdout == b"yes\n"

    run(test)


@pytest.mark.parametrize("spare", range(3))
def test_a_start_without_descriptors_fails_whole(run: Run, caplog: pytest.LogCaptureFixture, spare: int) -> None:
    async def test(node: Node) -> None:
        sandbox = await node.pod()
        warm, _ = await node.finish(sandbox, "true", name="warm")
        await node.runtime.remove_container(warm.id)
        before = descriptors()
        one = await node.create(sandbox, "exec sleep 1000", name="short")
        with no_descriptors(spare=spare):
            starting = asyncio.create_task(node.runtime.start_container(one))
            while not starting.done() and "cleaning up after the start" not in caplog.text:
                await asyncio.sleep(0.01)
        with pytest.raises(CRIError) as raised:
            await starting
        assert raised.value.reason == "StartError"
        assert (await node.exited(one)).exit_code == 128
        assert descriptors() == before
        # Nothing of it runs: its removal would have to kill it.
        assert not list(node.runtime.cgroups.pids(f"{node.cgroup}/pod1/{one}"))
        status, output = await node.finish(sandbox, "echo works", name="after")
        assert (status.exit_code, output) == (0, "works\n")

    run(test)


@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENOMEM], ids=errno.errorcode.get)
def test_a_start_that_fails_after_the_container_was_made_leaves_nothing_running(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    async def test(node: Node) -> None:
        sandbox = await node.pod()
        one = await node.create(sandbox, "exec sleep 1000")
        with monkeypatch.context() as patch:
            # Of the new process, of conmon, and of conmon once more while it is cleared away.
            failing = failing_open(patch, error, 3, Path("/proc"))
            with pytest.raises(CRIError, match="unable to start container process"):
                await node.runtime.start_container(one)
            assert failing.left == 0
        assert (await node.exited(one)).exit_code == 128
        assert not list(node.runtime.cgroups.pids(f"{node.cgroup}/pod1/{one}"))

    run(test)


def test_more_processes_than_descriptors_are_killed(run: Run) -> None:
    async def test(node: Node) -> None:
        option = NamespaceOption(pid=NamespaceMode.NODE)
        sandbox = await node.pod(namespaces=option)
        script = "for i in $(seq 300); do sleep 1000 & done; echo ready; wait"
        one = await node.start(sandbox, script, security=ContainerSecurity(namespaces=option))
        await node.said(one, "ready")
        with no_descriptors(spare=60):
            await node.runtime.stop_container(one, 0)
        assert not list(node.runtime.cgroups.pids(f"{node.cgroup}/pod1/{one}"))

    run(test)


def test_a_root_file_system_of_more_layers_than_descriptors_fails_and_leaves_none_open(tmp_path: Path) -> None:
    layers = [tmp_path / f"{number:0200}" for number in range(30)]
    for layer in layers:
        layer.mkdir()
    before = descriptors()
    with no_descriptors(spare=10), pytest.raises(OSError, match="Too many open files"):
        rootfs.mount_readonly(tmp_path / "merged", layers, tmp_path / "empty")
    assert descriptors() == before


def test_a_process_that_cannot_be_looked_at_after_it_was_opened_is_closed_again() -> None:
    own = state.Process.of(os.getpid())
    before = descriptors()
    with no_descriptors(spare=1), pytest.raises(OSError, match="Too many open files"):
        own.open()
    assert descriptors() == before


def test_log_rotation_that_cannot_begin_leaves_no_descriptor_open(run: Run) -> None:
    async def test(node: Node) -> None:
        rotation = LogRotation(node.runtime, LogPolicy())
        before = descriptors()
        with no_descriptors(spare=1), pytest.raises(OSError, match="Too many open files"):
            await rotation.run()
        assert descriptors() == before

    run(test)


def test_log_rotation_that_begins_again_hears_of_files_again(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "RESYNC_SECONDS", 1000)

    async def test(node: Node) -> None:
        one, _, _ = await running(node)
        path = Path((await node.runtime.container_status(one)).log_path)
        rotation = LogRotation(node.runtime, LogPolicy())
        for _ in range(2):
            task = asyncio.create_task(rotation.run())
            for _ in range(3):  # the first of them may have been kept at the end before, or as it begins
                while not log_files.in_use(path, next(reversed(log_files.named(path)), None)):
                    assert not task.done()
                    await asyncio.sleep(0.01)
                full = path.with_name(f"{path.name}.tmp")  # what conmon does when a file is full
                full.touch()
                full.rename(path)
            task.cancel()
            await asyncio.wait([task])

    run(test)


def test_a_termination_message_that_cannot_be_read_now_is_not_taken_for_empty(tmp_path: Path) -> None:
    (tmp_path / "message").write_text("why")
    metadata = ContainerMetadata(name="main")
    annotations = {TERMINATION_PATH: str(tmp_path / "message")}
    status = ContainerStatus(
        id="c", sandbox_id="s", metadata=metadata, state=ContainerState.EXITED, created_at=0, annotations=annotations
    )
    with no_descriptors(), pytest.raises(OSError, match="Too many open files"):
        termination_message(status)
    assert termination_message(status) == "why"


def test_a_pod_whose_end_came_while_the_agent_had_no_descriptors_ends_and_can_be_deleted(cluster: Cluster) -> None:
    name = unique("exhausted")
    cluster.apply(pod(name, container(script="exec sleep 1000"), restartPolicy="Never"))
    cluster.wait(f"pod/{name}", "condition=Ready")
    one = cluster.get("pod", name)["status"]["containerStatuses"][0]["containerID"].partition("//")[2]
    bundle = cluster.run_dir / "containers" / one
    conmon = (bundle / "conmon.pid").read_text().strip()
    with no_descriptors(cluster.pid("agent")):
        os.kill(int((bundle / "pidfile").read_text()), signal.SIGKILL)
        eventually(lambda: not Path("/proc", conmon).exists())
    cluster.wait(f"pod/{name}", "jsonpath={.status.phase}=Failed")
    cluster.kubectl("delete", "pod", name, "--timeout=30s")
