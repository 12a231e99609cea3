"""The native runtime's pure parts: error texts, signals, environment, seccomp profiles, records, CPU weights."""

from __future__ import annotations

import asyncio
import os
import platform
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.shortage import no_descriptors

from podling.runtime.native import mount_point, oci, sandbox, seccomp, spawn, spec, state, stop_signal, user
from podling.runtime.native.cgroup import Cgroups, Mode, cpu_weight
from podling.runtime.native.user import User
from podling.runtime.protocol import (
    ContainerConfig,
    ContainerMetadata,
    ContainerSecurity,
    CRIError,
    Device,
    ImageConfig,
    LinuxResources,
    Mount,
    SandboxConfig,
    SandboxMetadata,
    Seccomp,
)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("2026-11-23T16:28:05.123456Z: open `x`: No such file\n", "open `x`: No such file"),
        ('time="2026-11-23T16:28:05Z" level=error msg="exec: \\"foo\\": not found"\n', 'exec: "foo": not found'),
        ("", "the OCI runtime failed without a message"),
    ],
)
def test_messages_of_oci_runtimes_lose_their_log_decoration(stderr: str, expected: str) -> None:
    assert oci.explain(stderr) == expected


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "executable file `foo` not found in $PATH: No such file or directory",
            'exec: "foo": executable file not found in $PATH',
        ),
        (
            "the path `/etc/passwd` exists but it is not executable: Operation not permitted",
            'exec: "/etc/passwd": permission denied',
        ),
        (
            "runc create failed: unable to start container process: error during container init: "
            'exec: "foo": executable file not found in $PATH',
            'exec: "foo": executable file not found in $PATH',
        ),
        ("executable file `/x` not found: No such file or directory", 'exec: "/x": stat /x: no such file or directory'),
        (
            'runc create failed: unable to start container process: exec: "foo": executable file not found in $PATH',
            'exec: "foo": executable file not found in $PATH',
        ),
    ],
)
def test_a_missing_executable_is_told_in_the_known_words_by_every_oci_runtime(message: str, expected: str) -> None:
    assert oci.create_error(message).endswith(f"unable to start container process: {expected}")


@pytest.mark.parametrize(
    ("name", "number", "canonical"),
    [
        ("SIGTERM", 15, "SIGTERM"),
        ("term", 15, "SIGTERM"),
        ("9", 9, "SIGKILL"),
        ("SIGRTMIN+3", 37, "SIGRTMIN+3"),
        ("RTMAX-1", 63, "SIGRTMIN+29"),
    ],
)
def test_signals_by_name_and_number(name: str, number: int, canonical: str) -> None:
    assert stop_signal.number_of(name) == number
    assert stop_signal.canonical(name) == canonical


@pytest.mark.parametrize("name", ["", "SIGNONE", "0", "65", "SIGRTMIN+x", "SIGRTMAX+1", "-9"])
def test_what_is_no_signal_is_refused(name: str) -> None:
    with pytest.raises(CRIError):
        stop_signal.number_of(name)


@pytest.mark.parametrize(("shares", "weight"), [(2, 1), (1024, 39), (262144, 10000), (0, 1), (10**9, 10000)])
def test_cpu_shares_as_weight(shares: int, weight: int) -> None:
    assert cpu_weight(shares) == weight


def container(**settings: Any) -> ContainerConfig:
    return ContainerConfig(metadata=ContainerMetadata(name="c"), image="i", **settings)


def test_the_last_of_equal_variables_wins_and_the_configuration_wins_over_the_image() -> None:
    config = container(env=[("A", "1"), ("B", "2"), ("A", "3")], tty=True)
    image = ImageConfig(env=["A=image", "C=a=b", "HOME=/image"])
    env = spec.environment(config, image, User(0, 0, [], "/root"), "host")
    assert env == [f"PATH={spec.DEFAULT_PATH}", "HOSTNAME=host", "TERM=xterm", "A=3", "C=a=b", "HOME=/image", "B=2"]


def test_a_command_makes_the_images_cmd_void() -> None:
    image = ImageConfig(entrypoint=["e"], cmd=["c"])
    assert spec.command(container(), image) == ["e", "c"]
    assert spec.command(container(args=["a"]), image) == ["e", "a"]
    assert spec.command(container(command=["x"]), image) == ["x"]
    assert spec.command(container(command=["x"], args=["a"]), image) == ["x", "a"]


def test_a_mount_replaces_the_default_at_its_place_and_parents_come_first(tmp_path: Path) -> None:
    mounts = [
        Mount(container_path="/data/deep/er", host_path="/h3"),
        Mount(container_path="/dev/shm/", host_path="/h1"),
        Mount(container_path="/data", host_path="/h2"),
    ]
    files = spec.SandboxFiles(namespaces={"ipc": "/ns/ipc"}, shm="/run/shm-of-pod")
    built = spec._mounts(container(), mount_point.place(tmp_path, mounts, False), files, privileged=False)
    destinations = [mount["destination"] for mount in built]
    assert destinations.count("/dev/shm") == 1
    assert next(mount["source"] for mount in built if mount["destination"] == "/dev/shm") == "/h1"
    assert destinations.index("/data") < destinations.index("/data/deep/er")


@pytest.mark.parametrize(
    ("path", "destination"),
    [
        ("/data/../x", "/x"),
        ("data", "/data"),
        ("../../../../x", "/x"),
        ("//x//y/", "/x/y"),
        ("/procedure", "/procedure"),
        ("/proc/meminfo", "/proc/meminfo"),
    ],
)
def test_a_mount_goes_to_an_absolute_path_however_it_is_written(tmp_path: Path, path: str, destination: str) -> None:
    placed = mount_point.place(tmp_path, [Mount(container_path=path, host_path="/h")], False)
    assert [mount.container_path for mount in placed] == [destination]


@pytest.mark.parametrize(
    "path", ["/", "", "..", "/proc", "/proc/", "//proc", "/x/../proc/self", "../proc/sys/kernel", "/proc/self/attr"]
)
def test_nothing_is_mounted_over_the_root_or_inside_proc(tmp_path: Path, path: str) -> None:
    with pytest.raises(CRIError, match="cannot"):
        mount_point.place(tmp_path, [Mount(container_path=path, host_path="/h")], False)


def test_a_link_is_followed_in_the_file_system_that_is_mounted_there(tmp_path: Path) -> None:
    root, volume = tmp_path / "root", tmp_path / "volume"
    for directory in (root / "dev", root / "x" / "y", volume):
        directory.mkdir(parents=True)
    (root / "dev" / "shm").symlink_to("/run/shm")  # hidden by the /dev of the container
    (root / "x" / "y" / "z").symlink_to("/a")
    (root / "etc").symlink_to("/usr/etc")
    (volume / "link").symlink_to("../proc/self")
    (volume / "round").symlink_to("round")

    def place(*paths: str) -> list[str]:
        mounts = [Mount(container_path=path, host_path=str(volume)) for path in paths]
        return [mount.container_path for mount in mount_point.place(root, mounts, False)]

    assert place("/dev/shm", "/etc/hosts") == ["/dev/shm", "/usr/etc/hosts"]
    assert place("/x/y/z", "/a/link") == ["/a/link", "/a"], "the volume comes over the other one and hides it"
    for paths in (("/v", "/v/link"), ("/x/y/z", "/x/y/z/link"), ("/v", "/v/round/x")):
        with pytest.raises(CRIError, match="cannot"):
            place(*paths)


@pytest.mark.parametrize(
    ("link", "target"),
    [("proc", "/x"), ("sys", "/x"), ("dev", "proc"), ("etc", "proc/self"), ("etc/resolv.conf", "/proc/self/environ")],
)
def test_no_link_of_an_image_leads_what_every_container_has_into_proc(tmp_path: Path, link: str, target: str) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(target)
    with pytest.raises(CRIError, match="cannot"):
        mount_point.place(tmp_path, [], False)


def test_a_size_of_huge_pages_names_no_other_file() -> None:
    for size in ("2MB/../../x", "../cgroup.procs", "2Mi", "", "2MB\n"):
        with pytest.raises(OSError, match="no such size of huge pages"):
            spec.resources(LinuxResources(hugepage_limits={size: 1}), [], False, Mode.V1)


PROFILE = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 38,
    "defaultErrno": "ENOSYS",
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [], "includes": {}, "excludes": {}},
        {"names": ["reboot"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_BOOT"]}},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errno": "EPERM", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["new"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "999.0"}},
        {"names": ["s390"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
    ],
}


def test_only_rules_for_these_capabilities_architectures_and_kernels_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    plain = seccomp.translate(PROFILE, ["CAP_CHOWN"])
    assert plain["architectures"] == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]
    assert plain["defaultErrnoRet"] == 38
    assert plain["syscalls"] == [
        {"names": ["read"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["clone"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
    ]
    powerful = seccomp.translate(PROFILE, ["CAP_SYS_BOOT", "CAP_SYS_ADMIN"])
    assert [rule["names"] for rule in powerful["syscalls"]] == [["read"], ["reboot"]]


def sandbox_record(number: int) -> state.SandboxRecord:
    config = SandboxConfig(metadata=SandboxMetadata(name="n" * 1000, namespace="d", uid="u"))
    return state.SandboxRecord(id="s", config=config, phase=state.SandboxPhase.READY, created_at=number, boot_id="b")


def test_the_last_complete_line_of_a_record_counts_and_records_do_not_grow_forever(tmp_path: Path) -> None:
    layout = state.Layout(tmp_path / "data", tmp_path / "run")
    layout.create()
    records = state.Records(layout)
    path = layout.sandbox_records / "s"
    for number in range(600):
        records.write_sandbox(sandbox_record(number))
    assert path.stat().st_size < 300_000
    with path.open("ab") as file:
        file.write(b'{"id": "cut sho')
    assert dict(records.load_sandboxes())["s"] == sandbox_record(599)
    records.write_sandbox(sandbox_record(600))
    assert dict(records.load_sandboxes())["s"] == sandbox_record(600)
    path.write_bytes(b"\0\0\0")
    assert dict(records.load_sandboxes())["s"] is None


def test_a_container_that_does_not_end_is_a_cri_error_of_its_sandbox_and_the_others_are_stopped() -> None:
    stopped = []

    class Stubborn:
        async def stop(self, grace_seconds: float) -> None:
            raise CRIError("DeadlineExceeded", "it does not end after SIGKILL")

    class Willing:
        async def stop(self, grace_seconds: float) -> None:
            await asyncio.sleep(0)
            stopped.append(self)

    async def stop() -> None:
        config = SandboxConfig(metadata=SandboxMetadata(name="p", namespace="n", uid="u"))
        host: Any = None
        pod = sandbox.Sandbox(host, sandbox.new_record("s", config, "", "boot"))
        pod.containers = {"a": Stubborn(), "b": Willing()}  # type: ignore[dict-item]
        with pytest.raises(CRIError, match="SIGKILL"):
            await pod.stop()

    asyncio.run(stop())
    assert len(stopped) == 1


def test_a_program_whose_start_is_cancelled_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    started: list[int] = []
    real = spawn.spawn

    def slow(*args: Any, **options: Any) -> int:
        begun.set()
        go_on.wait(10)
        started.append(real(*args, **options))
        return started[0]

    async def cancel() -> None:
        workers = spawn.Workers(1)
        running = asyncio.create_task(spawn.run_async(workers, ["/bin/sleep", "1000"]))
        await asyncio.to_thread(begun.wait, 10)
        running.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        await asyncio.wait([running])
        assert running.cancelled()
        await asyncio.to_thread(workers.close)

    monkeypatch.setattr(spawn, "spawn", slow)
    asyncio.run(cancel())
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


ENDLESS = "9" * 5000
"""More digits than Python makes a number of."""


@pytest.mark.parametrize("image_user", [ENDLESS, f"0:{ENDLESS}", "\u0663"])
def test_a_user_of_an_image_that_is_no_number_is_refused(tmp_path: Path, image_user: str) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text(f"x:x:{ENDLESS}:0::/:/bin/sh\n")
    (tmp_path / "etc" / "group").write_text(f"x:x:{ENDLESS}:\n")
    with pytest.raises(CRIError, match="unable to find"):
        user.resolve(tmp_path, image_user, ContainerSecurity())


@pytest.mark.parametrize("file", ["/etc/passwd", "/etc/group"])
@pytest.mark.parametrize(
    ("make", "why"),
    [
        (os.mkdir, "of the image is not a regular file"),
        (os.mkfifo, "of the image is not a regular file"),
        (lambda path: os.mknod(path, stat.S_IFSOCK | 0o666), "of the image: No such device or address"),
        (lambda path: os.symlink(path.name, path), "of the image: Too many levels of symbolic links"),
    ],
    ids=["directory", "fifo", "socket", "link to itself"],
)
def test_a_passwd_or_group_file_of_another_kind_is_named_and_left_closed(
    tmp_path: Path, file: str, make: Callable[[Path], None], why: str
) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / file[1:])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(CRIError) as caught:
        user.resolve(tmp_path, "0", ContainerSecurity())
    assert (caught.value.reason, caught.value.message) == ("CreateContainerError", f"{file} {why}")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_passwd_file_that_cannot_be_read_now_is_not_taken_for_missing(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "passwd").write_text("app:x:7:8::/:/bin/sh\n")
    with no_descriptors(spare=1), pytest.raises(CRIError, match=r"^/etc/passwd of the image: Too many open files$"):
        user.resolve(tmp_path, "7", ContainerSecurity())
    assert user.resolve(tmp_path, "7", ContainerSecurity()).gid == 8


def test_a_signal_of_an_image_that_is_no_number_is_refused() -> None:
    with pytest.raises(CRIError, match="unknown signal"):
        stop_signal.number_of(ENDLESS)


def test_a_seccomp_profile_that_lacks_what_it_must_have_is_refused(tmp_path: Path) -> None:
    (tmp_path / "profile.json").write_text("{}")
    with pytest.raises(CRIError, match="cannot load seccomp profile"):
        seccomp.profile(Seccomp(profile="Localhost", path=str(tmp_path / "profile.json")), [])


def test_a_device_of_the_machine_that_goes_meanwhile_keeps_no_privileged_container_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone, null = str(tmp_path / "gone"), "/dev/null"
    known = [Device(container_path=path, host_path=path) for path in (gone, null)]
    monkeypatch.setattr(spec, "_host_devices", lambda: known)
    assert [device["path"] for device in spec._devices([], True)] == ["/dev/null"]
    with pytest.raises(CRIError, match="does not exist"):
        spec._devices(known, False)


def test_a_cpuset_that_a_killed_agent_left_empty_is_filled(tmp_path: Path) -> None:
    groups = Cgroups.__new__(Cgroups)
    groups.mode, groups._v1, groups._v2, groups._roots = Mode.V1, {"cpuset": tmp_path}, None, [tmp_path]
    (tmp_path / "burstable" / "pod").mkdir(parents=True)
    for name in ("cpuset.cpus", "cpuset.mems"):
        (tmp_path / name).write_text("0-1\n")
        (tmp_path / "burstable" / name).write_text("\n")
        (tmp_path / "burstable" / "pod" / name).write_text("\n")
    groups.create("/burstable/pod")
    for group in ("burstable", "burstable/pod"):
        assert (tmp_path / group / "cpuset.cpus").read_text().strip() == "0-1"
