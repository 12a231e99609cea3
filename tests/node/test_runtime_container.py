"""Containers of the native runtime: real programs, how they start, run and end."""

# ruff: noqa: ASYNC240 (a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest
from tests.support.native import BUSYBOX, Node, Run, both

from podling.runtime.native import capability
from podling.runtime.protocol import ContainerState, CRIError, EventType, ImageConfig, LinuxResources, NotFound

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@both
def test_success_is_completed_with_its_times_and_a_log_in_cri_format(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        before = time.time_ns()
        status, output = await node.finish(await node.pod(), "echo out; echo err >&2; printf partial")
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 0, "Completed")
        assert before < status.created_at < status.started_at <= status.finished_at < time.time_ns()
        assert sorted(output.replace("partial", "partial\n").split()) == ["err", "out", "partial"]
        lines = Path(status.log_path).read_text().splitlines()
        assert sorted(line.split(" ", 1)[1] for line in lines) == ["stderr F err", "stdout F out", "stdout P partial"]

    run(test, oci_runtime)


@both
def test_failure_is_error_with_its_exit_code(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        status, _ = await node.finish(await node.pod(), "exit 3")
        assert (status.exit_code, status.reason) == (3, "Error")

    run(test, oci_runtime)


@pytest.mark.parametrize("command", [["nope"], ["/bin/nope", "-x"]])
@both
def test_missing_executable_is_a_start_error_with_code_128(run: Run, oci_runtime: str, command: list[str]) -> None:
    async def test(node: Node) -> None:
        container = await node.create(await node.pod(), command=command)
        with pytest.raises(CRIError) as raised:
            await node.runtime.start_container(container)
        assert raised.value.reason == "StartError"
        status = await node.runtime.container_status(container)
        assert (status.state, status.exit_code, status.reason) == (ContainerState.EXITED, 128, "StartError")
        known = "executable file not found in $PATH" if command == ["nope"] else "no such file or directory"
        assert f'unable to start container process: exec: "{command[0]}": ' in status.message
        assert status.message.endswith(known)
        assert status.message == raised.value.message

    run(test, oci_runtime)


def test_a_container_without_any_command_is_refused(run: Run) -> None:
    async def test(node: Node) -> None:
        node.images.add("empty", await node.images.layers(BUSYBOX), ImageConfig())
        with pytest.raises(CRIError, match="no command specified"):
            await node.create(await node.pod(), image="empty")
        assert await node.runtime.list_containers() == []

    run(test)


def test_image_entrypoint_cmd_and_environment_are_overridden_as_kubernetes_does(run: Run) -> None:
    async def test(node: Node) -> None:
        image = ImageConfig(
            entrypoint=["/bin/echo", "entry"], cmd=["cmd"], env=["A=image", "B=image", "PATH=/bin"], working_dir="/a/b"
        )
        node.images.add("image", await node.images.layers(BUSYBOX), image)
        pod = await node.pod()
        assert (await node.finish(pod, image="image", name="a"))[1] == "entry cmd\n"
        assert (await node.finish(pod, image="image", args=["args"], name="b"))[1] == "entry args\n"
        assert (await node.finish(pod, image="image", command=["/bin/echo", "own"], name="c"))[1] == "own\n"
        env = [("A", "first"), ("A", "own"), ("C", "x=y")]
        _, output = await node.finish(pod, "pwd; env", image="image", env=env, name="d")
        lines = output.splitlines()
        assert lines[0] == "/a/b"
        assert {"A=own", "B=image", "C=x=y", "PATH=/bin", "HOSTNAME=pod1", "HOME=/root"} <= set(lines)

    run(test)


@both
def test_sigterm_ends_a_process_that_handles_it(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), 'trap "exit 7" TERM; echo ready; while :; do sleep 0.01; done')
        await node.said(container, "ready")
        await node.runtime.stop_container(container, 20)
        status = await node.runtime.container_status(container)
        assert (status.exit_code, status.reason) == (7, "Error")

    run(test, oci_runtime)


def test_sigkill_ends_what_ignores_sigterm_when_the_grace_period_is_over(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), 'trap "" TERM; echo ready; while :; do sleep 0.01; done')
        await node.said(container, "ready")
        begin = time.monotonic()
        await node.runtime.stop_container(container, 0.3)
        assert 0.3 <= time.monotonic() - begin < 5
        status = await node.runtime.container_status(container)
        assert (status.exit_code, status.reason) == (137, "Error")
        await node.runtime.stop_container(container, 5)  # again: no error

    run(test)


@pytest.mark.parametrize("signal", ["SIGUSR1", "USR1", "10"])
def test_the_images_stop_signal_is_sent(run: Run, signal: str) -> None:
    async def test(node: Node) -> None:
        image = ImageConfig(stop_signal=signal)
        node.images.add("image", await node.images.layers(BUSYBOX), image)
        script = 'trap "exit 9" USR1; echo ready; while :; do sleep 0.01; done'
        container = await node.start(await node.pod(), script, image="image")
        await node.said(container, "ready")
        assert (await node.runtime.container_status(container)).stop_signal == "SIGUSR1"
        await node.runtime.stop_container(container, 20)
        assert (await node.runtime.container_status(container)).exit_code == 9

    run(test)


EAT = "head -c 200000000 /dev/zero | tail"


@pytest.mark.parametrize("script", ["exec tail /dev/zero", f"{EAT}; exit $?", "tail /dev/zero & wait $!"])
@both
def test_memory_limit_ends_in_oomkilled_137(run: Run, oci_runtime: str, script: str) -> None:
    async def test(node: Node) -> None:
        limited = LinuxResources(memory_limit=24 << 20)
        status, _ = await node.finish(await node.pod(), script, resources=limited)
        assert (status.exit_code, status.reason) == (137, "OOMKilled")

    run(test, oci_runtime)


def test_a_container_killed_by_somebody_else_is_not_oomkilled(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), "sleep 1000", resources=LinuxResources(memory_limit=24 << 20))
        os.kill((await node.runtime.container_status(container)).pid, 9)
        status = await node.exited(container)
        assert (status.exit_code, status.reason) == (137, "Error")

    run(test)


@both
def test_limits_reach_the_cgroup_and_can_be_updated(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        first = LinuxResources(memory_limit=64 << 20, cpu_shares=128, cpu_quota=25000, cpu_period=100000, pids_limit=50)
        container = await node.start(await node.pod(), "sleep 1000", resources=first)
        status = await node.runtime.container_status(container)
        groups = dict(line.split(":", 2)[1:] for line in Path(f"/proc/{status.pid}/cgroup").read_text().splitlines())

        def read(v1: str, v2: str) -> str:
            controller, _, name = v1.partition("/")
            root = Path("/sys/fs/cgroup")
            if controller in groups:
                return (root / f"{controller}{groups[controller]}" / name).read_text().strip()
            return (root / groups[""].strip("/") / v2).read_text().strip()

        assert read("memory/memory.limit_in_bytes", "memory.max") == str(64 << 20)
        assert read("pids/pids.max", "pids.max") == "50"
        assert read("cpu/cpu.cfs_quota_us", "cpu.max").startswith("25000")
        await node.runtime.update_container_resources(
            container, LinuxResources(memory_limit=96 << 20, cpu_quota=50000, cpu_period=100000)
        )
        assert read("memory/memory.limit_in_bytes", "memory.max") == str(96 << 20)
        assert read("cpu/cpu.cfs_quota_us", "cpu.max").startswith("50000")
        resources = (await node.runtime.container_status(container)).resources
        assert resources is not None
        assert (resources.memory_limit, resources.cpu_quota, resources.pids_limit) == (96 << 20, 50000, 50)

    run(test, oci_runtime)


def test_stats_count_memory_cpu_and_the_writable_layer(run: Run) -> None:
    async def test(node: Node) -> None:
        script = "dd if=/dev/zero of=/big bs=1M count=3; sync; echo ready; sleep 1000"
        container = await node.start(await node.pod(), script)
        await node.said(container, "ready")
        stats = await node.runtime.container_stats(container)
        assert stats.cpu_usage_core_ns > 0
        assert 0 < stats.memory_working_set <= stats.memory_usage
        assert 3 << 20 <= stats.writable_layer_bytes < 4 << 20
        assert stats.writable_layer_inodes >= 1

    run(test)


def test_a_terminal_is_there_when_asked_for(run: Run) -> None:
    async def test(node: Node) -> None:
        _, output = await node.finish(await node.pod(), "tty; echo $TERM", tty=True)
        lines = output.splitlines()
        assert lines[0].strip().startswith(("/dev/pts/", "/dev/console"))
        assert lines[1].strip() == "xterm"

    run(test)


@both
def test_exec_runs_a_command_with_its_output_and_exit_code(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), "sleep 1000", env=[("NAME", "value")])
        done = await node.runtime.exec_sync(container, ["/bin/sh", "-c", "echo $NAME; echo err >&2; exit 5"], 10)
        assert (done.stdout, done.stderr, done.exit_code) == (b"value\n", b"err\n", 5)
        big = await node.runtime.exec_sync(container, ["head", "-c", "3000000", "/dev/zero"], 10)
        assert len(big.stdout) == 3000000
        for command in (["nope"], ["-x"]):
            with pytest.raises(CRIError, match="executable file not found in") as raised:
                await node.runtime.exec_sync(container, command, 10)
            assert raised.value.reason == "ExecFailed"

    run(test, oci_runtime)


def test_exec_that_takes_too_long_is_killed_with_its_descendants(run: Run) -> None:
    async def test(node: Node) -> None:
        # A shell that sleeps by itself ends when an orphan does.
        container = await node.start(await node.pod(), "exec sleep 1000")
        command = ["/bin/sh", "-c", "sleep 4711 & setsid sleep 4712 & wait"]
        with pytest.raises(CRIError) as raised:
            await node.runtime.exec_sync(container, command, 0.3)
        assert raised.value.reason == "DeadlineExceeded"
        left = await node.runtime.exec_sync(container, ["/bin/sh", "-c", "ps -o stat,args"], 10)
        alive = [line for line in left.stdout.decode().splitlines() if "sleep 471" in line and not line.startswith("Z")]
        assert alive == []
        assert (await node.runtime.container_status(container)).state == ContainerState.RUNNING

    run(test)


def test_the_log_is_reopened_for_rotation(run: Run) -> None:
    async def test(node: Node) -> None:
        script = "echo before; while [ ! -e /tmp/go ]; do sleep 0.01; done; echo after; sleep 1000"
        container = await node.start(await node.pod(), script)
        await node.said(container, "before")
        log = Path((await node.runtime.container_status(container)).log_path)
        log.rename(log.with_suffix(".old"))
        await node.runtime.reopen_container_log(container)
        await node.runtime.exec_sync(container, ["touch", "/tmp/go"], 10)
        await node.said(container, "after")
        assert "before" in log.with_suffix(".old").read_text()
        assert "before" not in log.read_text()

    run(test)


def test_events_tell_the_life_of_a_container(run: Run) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        events = asyncio.create_task(collect_first(node))
        await asyncio.sleep(0)
        status, _ = await node.finish(pod, "true")
        await node.runtime.remove_container(status.id)
        seen = await events
        assert [event.type for event in seen] == list(EventType)
        assert {(event.container_id, event.sandbox_id, event.pod_uid) for event in seen} == {(status.id, pod, "pod1")}

    async def collect_first(node: Node) -> list:  # type: ignore[type-arg]
        found = []
        async for event in node.runtime.events():
            found.append(event)
            if event.type == EventType.DELETED:
                return found
        return found

    run(test)


def test_what_is_gone_is_not_found_and_its_removal_is_no_error(run: Run) -> None:
    async def test(node: Node) -> None:
        status, _ = await node.finish(await node.pod(), "true")
        await node.runtime.remove_container(status.id)
        await node.runtime.remove_container(status.id)
        await node.runtime.stop_container(status.id, 1)
        with pytest.raises(NotFound):
            await node.runtime.container_status(status.id)
        with pytest.raises(NotFound):
            await node.create(await node.pod(), "true", image="unknown")

    run(test)


def test_a_container_starts_only_once(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.start(await node.pod(), "sleep 1000")
        with pytest.raises(CRIError) as raised:
            await node.runtime.start_container(container)
        assert raised.value.reason == "InvalidState"
        assert (await node.runtime.container_status(container)).state == ContainerState.RUNNING

    run(test)


def test_a_caller_that_gives_up_leaves_a_whole_container(run: Run) -> None:
    async def test(node: Node) -> None:
        container = await node.create(await node.pod(), "sleep 1000")
        starting = asyncio.create_task(node.runtime.start_container(container))
        await asyncio.sleep(0.005)
        starting.cancel()
        await asyncio.wait([starting])
        await node.runtime.stop_container(container, 0)
        assert (await node.runtime.container_status(container)).state == ContainerState.EXITED

    run(test)


def test_a_lower_oom_score_than_allowed_does_not_keep_a_container_from_starting(run: Run) -> None:
    async def test(node: Node) -> None:
        low, high = LinuxResources(oom_score_adj=-997), LinuxResources(oom_score_adj=936)
        pod = await node.pod()
        _, output = await node.finish(pod, "cat /proc/self/oom_score_adj", resources=low, name="low")
        allowed = "SYS_RESOURCE" in capability.available()
        assert output.strip() == ("-997" if allowed else Path("/proc/self/oom_score_adj").read_text().strip())
        _, output = await node.finish(pod, "cat /proc/self/oom_score_adj", resources=high, name="high")
        assert output.strip() == "936"

    run(test)


def test_files_in_very_deep_directories_are_measured_and_go_with_the_container(run: Run) -> None:
    async def test(node: Node) -> None:
        deep = "i=0; while [ $i -lt 1100 ]; do mkdir d; cd d; i=$((i + 1)); done; echo made; sleep 1000"
        container = await node.start(await node.pod(), deep)
        await node.said(container, "made")
        assert (await node.runtime.container_stats(container)).writable_layer_inodes > 1100
        await node.runtime.remove_container(container)
        assert not (node.directory / "data" / "containers" / container).exists()

    run(test)
