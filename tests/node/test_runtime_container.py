"""Containers of the native runtime: real programs, real cgroups, real namespaces."""

# ruff: noqa: ASYNC240 (a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.support.native import BUSYBOX, Node, make_busybox

from podling.runtime.native import capability
from podling.runtime.protocol import (
    ContainerSecurity,
    ContainerState,
    CRIError,
    Device,
    EventType,
    ImageConfig,
    LinuxResources,
    Mount,
    NotFound,
    Seccomp,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

Test = Callable[[Node], Awaitable[None]]


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_busybox(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def run(tmp_path: Path, layers: list[Path]) -> Callable[..., None]:
    """Runs an async test against a runtime of its own, and fails when that leaves anything behind."""

    def run(test: Test, oci_runtime: str = "crun") -> None:
        async def bounded() -> None:
            async with asyncio.timeout(90), Node(tmp_path, layers, oci_runtime) as node:
                await test(node)

        asyncio.run(bounded())

    return run


Run = Callable[..., None]
both = pytest.mark.parametrize("oci_runtime", ["crun", "runc"])


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


@pytest.mark.parametrize(
    ("image_user", "security", "expected"),
    [
        ("", ContainerSecurity(), (0, 0, [0])),
        ("app", ContainerSecurity(), (1000, 1000, [1000, 44])),
        ("1000", ContainerSecurity(), (1000, 1000, [1000, 44])),
        ("app:logs", ContainerSecurity(), (1000, 45, [45, 44])),
        ("app", ContainerSecurity(supplemental_groups_policy="Strict"), (1000, 1000, [1000])),
        ("", ContainerSecurity(run_as_user=1000, supplemental_groups=[7, 8]), (1000, 1000, [1000, 44, 7, 8])),
        ("app", ContainerSecurity(run_as_user=4711, run_as_group=4712), (4711, 4712, [4712])),
        ("", ContainerSecurity(run_as_username="app"), (1000, 1000, [1000, 44])),
    ],
)
def test_user_and_groups_come_from_the_images_own_accounts(
    run: Run, image_user: str, security: ContainerSecurity, expected: tuple[int, int, list[int]]
) -> None:
    async def test(node: Node) -> None:
        node.images.add("image", await node.images.layers(BUSYBOX), ImageConfig(user=image_user))
        status, output = await node.finish(await node.pod(), "id -u; id -g; id -G", image="image", security=security)
        uid, gid, groups = expected
        assert status.user == expected
        lines = output.splitlines()
        assert lines[:2] == [str(uid), str(gid)]
        assert sorted(map(int, lines[2].split())) == sorted(groups)

    run(test)


def test_an_unknown_user_is_an_error_and_leaves_nothing(run: Run) -> None:
    async def test(node: Node) -> None:
        node.images.add("image", await node.images.layers(BUSYBOX), ImageConfig(user="nobody-knows"))
        with pytest.raises(CRIError, match="unable to find user nobody-knows: no matching entries in passwd file"):
            await node.create(await node.pod(), "true", image="image")

    run(test)


def test_accounts_are_never_read_through_a_link_out_of_the_image(run: Run, tmp_path: Path, layers: list[Path]) -> None:
    async def test(node: Node) -> None:
        secret = tmp_path / "host-passwd"
        secret.write_text("intruder:x:0:0::/:/bin/sh\n")
        layer = tmp_path / "layer"
        (layer / "etc").mkdir(parents=True)
        (layer / "etc" / "passwd").symlink_to(secret)
        (layer / "work").symlink_to("/")
        node.images.add("image", [layer, layers[1]], ImageConfig(user="intruder", working_dir="/work/made/here"))
        with pytest.raises(CRIError, match="unable to find user intruder"):
            await node.create(await node.pod(), "true", image="image")
        node.images.add("other", [layer, layers[1]], ImageConfig(working_dir="/work/made/here"))
        _, output = await node.finish(await node.pod(), "pwd; ls -d /made/here", image="other")
        assert output.endswith("/made/here\n")
        assert not Path("/made").exists()

    run(test)


def mask(names: list[str]) -> int:
    return sum(1 << capability.NAMES.index(name) for name in names)


@both
@pytest.mark.parametrize(
    ("security", "expected"),
    [
        (ContainerSecurity(), mask(list(capability.DEFAULT))),
        (ContainerSecurity(drop_capabilities=["ALL"]), 0),
        (ContainerSecurity(drop_capabilities=["ALL"], add_capabilities=["NET_ADMIN"]), mask(["NET_ADMIN"])),
        (ContainerSecurity(drop_capabilities=["KILL"]), mask([n for n in capability.DEFAULT if n != "KILL"])),
        (ContainerSecurity(add_capabilities=["ALL"]), mask(sorted(capability.available()))),
        (ContainerSecurity(privileged=True), mask(sorted(capability.available()))),
    ],
)
def test_capabilities_are_the_default_set_with_add_and_drop(
    run: Run, oci_runtime: str, security: ContainerSecurity, expected: int
) -> None:
    async def test(node: Node) -> None:
        _, output = await node.finish(await node.pod(), "grep CapEff /proc/self/status", security=security)
        assert int(output.split()[1], 16) == expected

    run(test, oci_runtime)


def test_an_unknown_capability_is_refused(run: Run) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(CRIError, match='unknown capability "CAP_FLYING"'):
            await node.create(await node.pod(), "true", security=ContainerSecurity(add_capabilities=["FLYING"]))

    run(test)


@both
def test_a_container_is_confined_by_default_and_a_privileged_one_is_not(run: Run, oci_runtime: str) -> None:
    script = "cat /proc/interrupts | wc -c; touch /proc/sys/kernel/hostname && echo rw; ls /dev | wc -l"

    async def test(node: Node) -> None:
        pod = await node.pod()
        _, output = await node.finish(pod, f"({script}) 2>/dev/null", name="a")
        interrupts, devices = output.split()
        assert interrupts == "0"
        security = ContainerSecurity(privileged=True)
        _, output = await node.finish(pod, f"({script}) 2>/dev/null", name="b", security=security)
        more_interrupts, written, more_devices = output.split()
        assert (int(more_interrupts) > 0, written) == (True, "rw")
        assert int(more_devices) > int(devices)

    run(test, oci_runtime)


def test_read_only_root_no_new_privileges_and_seccomp(run: Run) -> None:
    async def test(node: Node) -> None:
        security = ContainerSecurity(readonly_rootfs=True, no_new_privs=True, seccomp=Seccomp(profile="RuntimeDefault"))
        script = "touch /x 2>&1; touch /dev/shm/y && echo shm; grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status"
        _, output = await node.finish(await node.pod(), script, security=security)
        assert "Read-only file system" in output
        assert output.split("\n", 1)[1].split() == ["shm", "NoNewPrivs:", "1", "Seccomp:", "2"]

    run(test)


def test_a_missing_seccomp_profile_is_an_error_not_less_protection(run: Run) -> None:
    async def test(node: Node) -> None:
        security = ContainerSecurity(seccomp=Seccomp(profile="Localhost", path="/nonexistent/profile.json"))
        with pytest.raises(CRIError, match=r"seccomp profile /nonexistent/profile\.json does not exist"):
            await node.create(await node.pod(), "true", security=security)

    run(test)


def test_a_localhost_seccomp_profile_is_enforced(run: Run, tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    profile.write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO",'
        ' "errnoRet": 13}]}'
    )

    async def test(node: Node) -> None:
        security = ContainerSecurity(seccomp=Seccomp(profile="Localhost", path=str(profile)))
        status, output = await node.finish(await node.pod(), "mkdir /tmp/x 2>&1", security=security)
        assert status.exit_code == 1
        assert "Permission denied" in output

    run(test)


@both
def test_mounts_read_only_read_write_and_of_single_files(run: Run, oci_runtime: str, tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        shared, single = tmp_path / "shared", tmp_path / "hosts"
        shared.mkdir()
        single.write_text("127.0.0.1 localhost\n")
        mounts = [
            Mount(container_path="/data/inner", host_path=str(shared)),
            Mount(container_path="/data", host_path=str(shared), readonly=True),
            Mount(container_path="/etc/hosts", host_path=str(single)),
        ]
        script = "touch /data/inner/made; touch /data/refused 2>/dev/null || echo refused; cat /etc/hosts"
        (shared / "inner").mkdir()
        _, output = await node.finish(await node.pod(), script, mounts=mounts)
        assert output == "refused\n127.0.0.1 localhost\n"
        assert (shared / "made").exists()

    run(test, oci_runtime)


def test_devices_are_there_with_their_permissions(run: Run) -> None:
    async def test(node: Node) -> None:
        script = "(exec 3>/dev/kernel) && echo writable; (exec 3</dev/kernel) && echo readable"
        pod = await node.pod()
        device = Device(container_path="/dev/kernel", host_path="/dev/kmsg", permissions="w")
        _, output = await node.finish(pod, f"({script}) 2>/dev/null", devices=[device], name="with")
        assert output == "writable\n"
        _, output = await node.finish(pod, f"(mknod /dev/kernel c 1 11; {script}) 2>/dev/null", name="without")
        assert output == ""
        missing = Device(container_path="/dev/x", host_path="/dev/missing")
        with pytest.raises(CRIError, match="device /dev/missing does not exist"):
            await node.create(pod, "true", devices=[missing], name="missing")

    run(test)


def test_more_layers_than_fit_into_a_page_of_mount_options(run: Run, tmp_path: Path, layers: list[Path]) -> None:
    async def test(node: Node) -> None:
        many = []
        for number in range(100):
            layer = tmp_path / ("a-directory-with-a-rather-long-name-" * 2 + str(number))
            layer.mkdir()
            (layer / f"file{number}").touch()
            many.append(layer)
        (many[0] / "which").write_text("topmost")
        (many[99] / "which").write_text("lowest")
        node.images.add("image", [*many, *layers], ImageConfig())
        _, output = await node.finish(await node.pod(), "ls /file* | wc -l; cat /which", image="image")
        assert output == "100\ntopmost"

    run(test)


def test_paths_with_commas_colons_and_backslashes(run: Run, tmp_path: Path, layers: list[Path]) -> None:
    async def test(node: Node) -> None:
        layer = tmp_path / "a,b:c\\d"
        layer.mkdir()
        (layer / "found").touch()
        node.images.add("image", [layer, *layers], ImageConfig())
        _, output = await node.finish(await node.pod(), "ls /found", image="image")
        assert output == "/found\n"

    run(test)


def test_an_image_is_mounted_as_a_volume(run: Run, tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        layer = tmp_path / "layer"
        (layer / "model").mkdir(parents=True)
        (layer / "model" / "weights").write_text("1 2 3\n")
        (layer / "current").symlink_to("/model")
        node.images.add("data", [layer], ImageConfig())
        pod = await node.pod()
        mounts = [
            Mount(container_path="/all", host_path="", image="data"),
            Mount(container_path="/some", host_path="", image="data", image_sub_path="current"),
        ]
        script = "cat /all/model/weights /some/weights; touch /all/x 2>&1"
        _, output = await node.finish(pod, script, mounts=mounts)
        assert output.startswith("1 2 3\n1 2 3\n")
        assert "Read-only file system" in output
        bad = Mount(container_path="/x", host_path="", image="data", image_sub_path="../../../etc")
        with pytest.raises(CRIError, match="of the image volume: No such file or directory"):
            await node.create(pod, "true", mounts=[bad], name="bad")

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
        container = await node.start(await node.pod(), "sleep 1000")
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
