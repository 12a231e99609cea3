"""Sandboxes of the native runtime: what containers of a Pod share, and what Pods do not."""

# ruff: noqa: ASYNC240 (a test may read a small file on its event loop)

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from tests.support.native import Node, Run, Unconnected, both

from podling.runtime.protocol import (
    ContainerSecurity,
    ContainerState,
    CRIError,
    DNSConfig,
    Mount,
    NamespaceMode,
    NamespaceOption,
    NotFound,
    SandboxConfig,
    SandboxState,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

SHOW = "for kind in net ipc uts pid mnt; do readlink /proc/self/ns/$kind; done; hostname"


async def shown(node: Node, sandbox: str, name: str, **settings: object) -> dict[str, str]:
    _, output = await node.finish(sandbox, SHOW, name=name, **settings)
    *namespaces, hostname = output.splitlines()
    return {**dict(line.split(":", 1) for line in namespaces), "hostname": hostname}


def of_host(kind: str) -> str:
    return os.readlink(f"/proc/self/ns/{kind}").partition(":")[2]


@both
def test_containers_share_network_ipc_and_host_name_within_a_pod_only(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        pod, other = await node.pod(), await node.pod()
        first = await node.start(pod, "sleep 1000", name="first")
        first_pid = (await node.runtime.container_status(first)).pid
        one, two, stranger = [
            await shown(node, sandbox, name) for sandbox, name in ((pod, "one"), (pod, "two"), (other, "x"))
        ]
        for kind in ("net", "ipc", "uts"):
            assert one[kind] == two[kind]
            assert len({one[kind], stranger[kind], of_host(kind)}) == 3
        own = os.readlink(f"/proc/{first_pid}/ns/pid").partition(":")[2]
        assert len({one["pid"], own, of_host("pid")}) == 3
        assert (one["hostname"], stranger["hostname"]) == ("pod1", "pod2")

    run(test, oci_runtime)


def test_shared_memory_is_seen_by_containers_of_the_same_pod_only(run: Run) -> None:
    async def test(node: Node) -> None:
        pod, other = await node.pod(), await node.pod()
        await node.finish(pod, "echo secret > /dev/shm/x", name="writer")
        assert (await node.finish(pod, "cat /dev/shm/x; df -k /dev/shm | tail -1", name="reader"))[1].split()[:3] == [
            "secret",
            "shm",
            "65536",
        ]
        assert (await node.finish(other, "ls /dev/shm", name="stranger"))[1] == ""

    run(test)


@both
def test_a_pod_in_the_hosts_namespaces(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        option = NamespaceOption(network=NamespaceMode.NODE, ipc=NamespaceMode.NODE, pid=NamespaceMode.NODE)
        pod = await node.pod(namespaces=option, hostname="")
        seen = await shown(node, pod, "one", security=ContainerSecurity(namespaces=option))
        for kind in ("net", "ipc", "uts", "pid"):
            assert seen[kind] == of_host(kind)
        assert seen["mnt"] != of_host("mnt")
        assert seen["hostname"] == socket.gethostname()
        status = await node.runtime.pod_sandbox_status(pod)
        assert (status.ips, status.netns_path) == ([], "")

    run(test, oci_runtime)


def test_nothing_of_a_container_in_the_hosts_pid_namespace_survives_its_first_process(run: Run) -> None:
    async def test(node: Node) -> None:
        option = NamespaceOption(pid=NamespaceMode.NODE)
        pod = await node.pod(namespaces=option)
        script = "(setsid sleep 4711 &) ; echo $(pidof sleep)"
        status, _ = await node.finish(pod, script, security=ContainerSecurity(namespaces=option))
        assert status.exit_code == 0
        running = await node.start(
            pod, "setsid sleep 4711 & echo ready; wait", security=ContainerSecurity(namespaces=option), name="second"
        )
        await node.said(running, "ready")
        await node.runtime.stop_container(running, 0)
        await node.runtime.remove_container(running)
        await node.runtime.remove_container(status.id)
        left = []
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    left += [entry] if b"4711" in Path(f"/proc/{entry}/cmdline").read_bytes() else []
                except OSError:
                    continue
        assert left == []

    run(test)


@both
def test_a_shared_pid_namespace_has_a_pause_process_that_reaps(run: Run, oci_runtime: str) -> None:
    async def test(node: Node) -> None:
        shared = NamespaceOption(pid=NamespaceMode.POD)
        security = ContainerSecurity(namespaces=shared, add_capabilities=["SYS_PTRACE"])
        pod = await node.pod(namespaces=shared)
        first = await node.start(pod, "sleep 4711", name="first", security=security)
        # By its arguments: BusyBox may run its own applets under another name.
        kill = "kill $(ps -o pid,args | awk '/[s]leep 4711/ {print $1}')"
        script = f"ps -o args | grep -v grep; ls -d /proc/1/root/etc /proc/1/root/home; {kill}"
        _, output = await node.finish(pod, script, name="second", security=security)
        assert "/catatonit -P" in output
        assert "sleep 4711" in output
        assert "/proc/1/root/home\n" not in output  # the pause process does not lead to the host's files
        assert (await node.exited(first)).exit_code == 143

    run(test, oci_runtime)


def test_the_sandbox_is_not_ready_when_its_pause_process_has_died(run: Run) -> None:
    async def test(node: Node) -> None:
        shared = NamespaceOption(pid=NamespaceMode.POD)
        security = ContainerSecurity(namespaces=shared, privileged=True)
        pod = await node.pod(namespaces=shared)
        first = await node.start(pod, "sleep 4711", name="first", security=security)
        pid = (await node.runtime.container_status(first)).pid
        pause = next(
            entry
            for entry in os.listdir("/proc")
            if entry.isdecimal()
            and Path(f"/proc/{entry}/cmdline").read_bytes().startswith(b"/catatonit")
            and os.readlink(f"/proc/{entry}/ns/pid") == os.readlink(f"/proc/{pid}/ns/pid")
        )
        os.kill(int(pause), 9)
        status = await node.exited(first)
        assert status.exit_code == 137
        await node.runtime.stop_pod_sandbox(pod)
        assert (await node.runtime.pod_sandbox_status(pod)).state == SandboxState.NOT_READY

    run(test)


def test_a_container_can_join_the_pid_namespace_of_another(run: Run) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        target = await node.start(pod, "exec sleep 4711", name="target")
        option = NamespaceOption(pid=NamespaceMode.TARGET, target_id=target)
        _, output = await node.finish(
            pod, "ps -o pid,args", name="debug", security=ContainerSecurity(namespaces=option)
        )
        assert ["1", "sleep", "4711"] in [line.split() for line in output.splitlines()]

    run(test)


def test_sysctls_are_set_in_the_pod_and_not_on_the_host(run: Run) -> None:
    async def test(node: Node) -> None:
        before = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
        pod = await node.pod(sysctls={"net.ipv4.ip_unprivileged_port_start": "77", "kernel.shm_rmid_forced": "1"})
        script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/shm_rmid_forced"
        assert (await node.finish(pod, script))[1] == "77\n1\n"
        assert Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text() == before
        with pytest.raises(CRIError, match=r"cannot set sysctl net\.nonsense=1"):
            await node.pod(sysctls={"net.nonsense": "1"})

    run(test)


PRESENT = Path("/proc/sys/vm/stat_interval").read_text().strip()
"""The machine's value: it is not changed even by an attempt that comes through."""


@pytest.mark.parametrize(
    ("sysctls", "settings"),
    [
        ({"vm.stat_interval": PRESENT}, {}),
        ({"vm/stat_interval": PRESENT}, {}),
        ({"net/../vm/stat_interval": PRESENT}, {}),
        ({"vm.stat_interval": PRESENT}, {"privileged": True}),
        ({"kernel.shm_rmid_forced": "0"}, {"namespaces": NamespaceOption(ipc=NamespaceMode.NODE)}),
        ({"net.ipv4.tcp_syncookies": "1"}, {"namespaces": NamespaceOption(network=NamespaceMode.NODE)}),
        ({"kernel.domainname": "(none)"}, {"hostname": ""}),
    ],
)
def test_a_sysctl_of_the_machine_is_refused_and_nothing_is_made(
    run: Run, sysctls: dict[str, str], settings: dict[str, Any]
) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(CRIError) as refused:
            await node.pod(sysctls=sysctls, **settings)
        assert refused.value.reason == "SysctlError"
        assert await node.runtime.list_pod_sandbox() == []

    run(test)


def test_the_domain_name_is_the_sandboxs_own(run: Run) -> None:
    async def test(node: Node) -> None:
        before = Path("/proc/sys/kernel/domainname").read_text()
        pod = await node.pod(sysctls={"kernel.domainname": "pods"})
        assert (await node.finish(pod, "cat /proc/sys/kernel/domainname"))[1] == "pods\n"
        assert Path("/proc/sys/kernel/domainname").read_text() == before

    run(test)


def test_a_low_port_can_be_taken_without_a_capability(run: Run) -> None:
    async def test(node: Node) -> None:
        security = ContainerSecurity(run_as_user=1000, drop_capabilities=["ALL"])
        _, output = await node.finish(await node.pod(), "timeout 0.1 nc -l -p 80; echo $?", security=security)
        assert "143" in output.split()  # it listened until its time was over

    run(test)


def test_a_sandbox_removed_while_its_container_is_created_leaves_nothing(run: Run) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        creating = asyncio.create_task(node.create(pod, "true"))
        await asyncio.sleep(0)
        await asyncio.gather(creating, node.runtime.remove_pod_sandbox(pod), return_exceptions=True)
        assert await node.runtime.list_containers() == []

    run(test)


def test_hostname_and_resolv_conf_are_made_unless_the_pod_brings_its_own(run: Run, tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        dns = DNSConfig(servers=["10.96.0.10"], searches=["a.svc", "svc"], options=["ndots:5"])
        pod = await node.pod(dns=dns, hostname="web-0")
        script = "cat /etc/hostname /etc/resolv.conf"
        expected = "web-0\nsearch a.svc svc\nnameserver 10.96.0.10\noptions ndots:5\n"
        assert (await node.finish(pod, script, name="a"))[1] == expected
        own = tmp_path / "own"
        own.write_text("own\n")
        mounts = [Mount(container_path=f"/etc/{name}", host_path=str(own)) for name in ("hostname", "resolv.conf")]
        assert (await node.finish(pod, script, name="b", mounts=mounts))[1] == "own\nown\n"

    run(test)


def test_stopping_a_sandbox_kills_its_containers_and_gives_back_the_network(run: Run) -> None:
    async def test(node: Node) -> None:
        network = node.network
        assert isinstance(network, Unconnected)
        pod = await node.pod()
        assert network.sandboxes == {pod}
        status = await node.runtime.pod_sandbox_status(pod)
        assert (status.state, status.ips) == (SandboxState.READY, ["192.0.2.7"])
        container = await node.start(pod, "sleep 1000")
        await node.runtime.stop_pod_sandbox(pod)
        await node.runtime.stop_pod_sandbox(pod)
        assert network.sandboxes == set()
        assert (await node.runtime.container_status(container)).state == ContainerState.EXITED
        assert (await node.runtime.pod_sandbox_status(pod)).state == SandboxState.NOT_READY
        with pytest.raises(CRIError, match="is not ready"):
            await node.create(pod, "true", name="late")
        await node.runtime.remove_pod_sandbox(pod)
        await node.runtime.remove_pod_sandbox(pod)
        with pytest.raises(NotFound):
            await node.runtime.pod_sandbox_status(pod)
        assert await node.runtime.list_containers() == []

    run(test)


class Refusing(Unconnected):
    async def setup(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> list[str]:
        self.sandboxes.add(sandbox_id)
        raise CRIError("NetworkNotReady", "no address is left")


def test_a_sandbox_whose_network_fails_leaves_nothing(run: Run) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(CRIError, match="no address is left"):
            await node.pod()
        assert await node.runtime.list_pod_sandbox() == []
        node.runtime.cgroups.remove(node.cgroup)
        assert [leak for leak in node.leaks() if "/bin/" not in leak] == []

    run(test, network=Refusing())


def test_many_pods_at_once(run: Run) -> None:
    async def test(node: Node) -> None:
        async def one() -> str:
            pod = await node.pod()
            status, output = await node.finish(pod, "hostname")
            assert status.exit_code == 0
            await node.runtime.remove_pod_sandbox(pod)
            return output

        names = await asyncio.gather(*[one() for _ in range(20)])
        assert len(set(names)) == 20

    run(test)


def test_an_unknown_runtime_handler_is_refused(run: Run) -> None:
    async def test(node: Node) -> None:
        with pytest.raises(CRIError, match='no runtime for "kata" is configured'):
            await node.pod(handler="kata")

    run(test)
