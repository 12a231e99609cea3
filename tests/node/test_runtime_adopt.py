"""A new agent takes over what an earlier one left, at whatever point that was killed."""

# ruff: noqa: ASYNC240 (a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import select
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.support.native import Node, Run, Unconnected

from podling.runtime.native import runtime as runtime_module
from podling.runtime.native.monitor import conmon_of
from podling.runtime.native.spawn import readable
from podling.runtime.native.state import ContainerPhase, ContainerRecord, Process, Records
from podling.runtime.protocol import (
    ContainerSecurity,
    ContainerState,
    NamespaceMode,
    NamespaceOption,
    SandboxState,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

WAIT = "while [ ! -e /tmp/go ]; do sleep 0.01; done;"


async def end_of(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        await readable(pidfd)
    finally:
        os.close(pidfd)


def test_a_running_container_goes_on_and_its_exit_is_seen(run: Run) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        container = await node.start(pod, f"echo ready; {WAIT} exit 6")
        await node.said(container, "ready")
        before = await node.runtime.container_status(container)
        await node.restart()
        assert await node.runtime.container_status(container) == before
        assert (await node.runtime.pod_sandbox_status(pod)).state == SandboxState.READY
        await node.runtime.exec_sync(container, ["touch", "/tmp/go"], 10)
        status = await node.exited(container)
        assert (status.exit_code, status.reason, status.started_at) == (6, "Error", before.started_at)

    run(test)


def test_a_container_that_exited_meanwhile_has_its_code_and_time(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), f"trap 'exit 4' TERM; echo ready; {WAIT}")
        await node.said(container, "ready")
        pid = (await node.runtime.container_status(container)).pid
        await node.runtime.close()
        ended = asyncio.ensure_future(end_of(pid))
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGTERM)
        await ended
        time_of_exit = time.time_ns()
        await node.open()
        status = await node.exited(container)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 4, "Error")
        assert abs(status.finished_at - time_of_exit) < 2_000_000_000
        await node.restart()
        assert await node.runtime.container_status(container) == status

    run(test)


def test_a_created_container_can_still_be_started(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.create(await node.pod(), "exit 5")
        await node.restart()
        assert (await node.runtime.container_status(container)).state == ContainerState.CREATED
        await node.runtime.start_container(container)
        assert (await node.exited(container)).exit_code == 5

    run(test)


class Killed(BaseException):
    """Stands for the end of the agent."""


def test_a_container_that_ended_before_its_start_was_recorded_has_its_code(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(node: Node) -> None:
        container = await node.create(await node.pod(), "exit 3")
        write = Records.write_container

        def write_until_it_runs(records: Records, record: ContainerRecord) -> None:
            if record.phase != ContainerPhase.RUNNING:
                return write(records, record)
            with contextlib.suppress(ProcessLookupError):  # it may have ended already
                conmon = os.pidfd_open(record.conmon.pid)
                select.select([conmon], [], [], 30)
                os.close(conmon)
            raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(Records, "write_container", write_until_it_runs)
            with pytest.raises(Killed):
                await node.runtime.start_container(container)
        await node.restart()
        status = await node.runtime.container_status(container)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 3, "Error")

    run(test)


def test_a_process_id_that_belongs_to_another_by_now_names_no_conmon(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), "sleep 1000")
        bundle = node.run_dir / "containers" / container
        assert conmon_of(bundle).alive()
        (bundle / "conmon.pid").write_text(str(os.getpid()))
        conmon_of(bundle).kill()
        assert conmon_of(bundle) == Process()
        with pytest.raises(ProcessLookupError):
            Process(os.getpid(), start_time=1).open()

    run(test)


@pytest.mark.parametrize("while_agent_runs", [True, False])
def test_a_container_whose_conmon_died_has_an_unknown_status_and_no_processes(run: Run, while_agent_runs: bool) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), "echo ready; sleep 1000")
        await node.said(container, "ready")
        pid = (await node.runtime.container_status(container)).pid
        conmon = int((node.run_dir / "containers" / container / "conmon.pid").read_text())
        if not while_agent_runs:
            await node.runtime.close()
        ended = asyncio.ensure_future(end_of(conmon))
        await asyncio.sleep(0)
        os.kill(conmon, signal.SIGKILL)
        if not while_agent_runs:
            await ended
            await node.open()
        status = await node.exited(container)
        await ended
        assert (status.exit_code, status.reason) == (137, "ContainerStatusUnknown")
        assert not Process.of(pid).alive()

    run(test)


def test_a_shared_pid_namespace_is_adopted(run: Run) -> None:
    async def test(node: Node) -> None:
        shared = NamespaceOption(pid=NamespaceMode.POD)
        pod = await node.pod(namespaces=shared)
        security = ContainerSecurity(namespaces=shared)
        await node.start(pod, "exec sleep 4711", name="first", security=security)
        await node.restart()
        assert (await node.runtime.pod_sandbox_status(pod)).state == SandboxState.READY
        _, output = await node.finish(pod, "ps -o args", name="second", security=security)
        assert "sleep 4711" in output

    run(test)


def test_after_a_reboot_sandboxes_are_not_ready_and_containers_have_exited(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        ran = await node.start(pod, "sleep 1000", name="ran")
        done, _ = await node.finish(pod, "exit 3", name="done")
        created = await node.create(pod, "true", name="created")
        status = await node.runtime.container_status(ran)
        conmon = int((node.run_dir / "containers" / ran / "conmon.pid").read_text())
        await node.runtime.close()
        for pid in (conmon, status.pid):  # a reboot leaves no process and no exit code
            os.kill(pid, signal.SIGKILL)
        monkeypatch.setattr(runtime_module, "boot_id", lambda: "another boot")
        await node.open()
        assert (await node.runtime.pod_sandbox_status(pod)).state == SandboxState.NOT_READY
        lost = await node.runtime.container_status(ran)
        assert (lost.state, lost.exit_code, lost.reason) == (ContainerState.EXITED, 255, "Unknown")
        kept = await node.runtime.container_status(done.id)
        assert (kept.exit_code, kept.finished_at) == (3, done.finished_at)
        assert created not in [status.id for status in await node.runtime.list_containers()]
        assert isinstance(node.network, Unconnected)
        assert node.network.sandboxes == set()
        assert str(node.run_dir / "containers") not in Path("/proc/self/mounts").read_text()

    run(test)


def test_a_damaged_record_is_as_good_as_none(run: Run) -> None:
    async def test(node: Node) -> None:
        pod, other = await node.pod(), await node.pod()
        container = await node.create(pod, "true", name="whole")
        broken = await node.create(pod, "true", name="broken")
        await node.runtime.close()
        (node.directory / "data" / "containers" / broken / "record").write_bytes(b'{"id": "half')
        with (node.directory / "data" / "containers" / container / "record").open("ab") as file:
            file.write(b'{"id": "half of a line')
        (node.directory / "data" / "sandboxes" / other).write_bytes(b"\0" * 100)
        await node.open()
        assert [status.id for status in await node.runtime.list_containers()] == [container]
        assert [status.id for status in await node.runtime.list_pod_sandbox()] == [pod]
        await node.runtime.start_container(container)
        assert (await node.exited(container)).exit_code == 0
        assert isinstance(node.network, Unconnected)
        node.network.sandboxes.discard(other)  # its network cannot be known without a record

    run(test)


DRIVER = """
import asyncio, random, sys
from pathlib import Path
from tests.support.native import Node

async def main():
    node = Node(Path(sys.argv[1]), [Path(path) for path in sys.argv[3:]])
    node.cgroup = sys.argv[2]
    await node.open()
    print("open", flush=True)
    random.seed()
    async def pods(number):
        while True:
            pod = await node.pod(hostname=f"driver{number}")
            names = ["trap 'exit 0' TERM; echo ready; while :; do sleep 0.01; done", "exit 3", "sleep 1000"]
            containers = []
            for index in range(random.randrange(3)):
                container = await node.create(pod, random.choice(names), name=f"c{index}")
                containers.append(container)
                if random.random() < 0.9:
                    await node.runtime.start_container(container)
            for container in containers:
                await node.runtime.stop_container(container, random.choice([0, 0.1]))
                if random.random() < 0.5:
                    await node.runtime.remove_container(container)
            if random.random() < 0.8:
                await node.runtime.stop_pod_sandbox(pod)
                await node.runtime.remove_pod_sandbox(pod)
    await asyncio.gather(*[pods(number) for number in range(3)])

asyncio.run(main())
"""


def test_killed_at_any_moment_an_agent_leaves_what_the_next_one_completes_or_cleans(
    tmp_path: Path, layers: list[Path]
) -> None:
    seed = int(os.environ.get("PODLING_TEST_SEED", time.time_ns() % 1_000_000))
    print(f"PODLING_TEST_SEED={seed}")
    chance = random.Random(seed)
    rounds = int(os.environ.get("PODLING_TEST_ROUNDS", "8"))

    async def check(node: Node) -> None:
        await node.open()
        for sandbox in await node.runtime.list_pod_sandbox():
            assert sandbox.netns_path
            assert os.path.exists(sandbox.netns_path) == (sandbox.state == SandboxState.READY)
        states = set()
        for status in await node.runtime.list_containers():
            states.add(status.state)
            if status.state == ContainerState.RUNNING:
                assert Process.of(status.pid).alive()
            elif status.state == ContainerState.EXITED:
                assert status.exit_code in (0, 3, 137)
                assert status.finished_at > 0
            else:
                assert status.state == ContainerState.CREATED
                ready = (await node.runtime.pod_sandbox_status(status.sandbox_id)).state == SandboxState.READY
                if ready:
                    await node.runtime.start_container(status.id)
        if chance.random() < 0.5:
            for sandbox in await node.runtime.list_pod_sandbox():
                await node.runtime.remove_pod_sandbox(sandbox.id)
            node.runtime.cgroups.remove(node.cgroup)
            await node.runtime.close()
            assert node.leaks() == []
        else:
            await node.runtime.close()

    async def rounds_of_it() -> None:
        node = Node(tmp_path, layers)
        try:
            for _ in range(rounds):
                arguments = [str(tmp_path), node.cgroup, *map(str, layers)]
                driver = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", DRIVER, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
                )
                assert driver.stdout is not None
                assert await driver.stdout.readline() == b"open\n"
                await asyncio.sleep(chance.uniform(0, 0.4))  # the moment at which it is killed
                driver.kill()
                await driver.wait()
                async with asyncio.timeout(60):
                    await check(node)
        finally:
            async with Node(tmp_path, layers) as last:  # removes everything, and fails when something is left
                last.cgroup = node.cgroup
                last.network = node.network

    asyncio.run(rounds_of_it())
