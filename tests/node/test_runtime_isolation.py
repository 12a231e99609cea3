"""What a container of the native runtime may do and what it sees: users, capabilities, seccomp, mounts, devices, layers."""

# ruff: noqa: ASYNC240 (a test may read a small file on its event loop)

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.support.native import BUSYBOX, Node, Run, both

from podling.runtime.native import capability
from podling.runtime.protocol import ContainerSecurity, CRIError, Device, ImageConfig, Mount, Seccomp

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
