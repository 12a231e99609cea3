"""A Pod author against the node's sysctls: by every name and spelling, nothing of the machine changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.pod_end import create, ended
from tests.support.pods import container, pod
from tools.registry import Registry

PRESENT = Path("/proc/sys/vm/stat_interval").read_text().strip()
"""The value that the machine has, so that an attempt that comes through changes nothing."""

NOT_ALLOWED = [
    "vm.stat_interval",
    "vm/stat_interval",
    "vm.overcommit_memory",
    "kernel.panic",
    "kernel.sysrq",
    "kernel.modprobe",
    "kernel.domainname",
    "kernel.hostname",
    "kernel/pid_max",
    "kernel.shmmax",
    "kernel.sem",
    "kernel/msgmax",
    "fs.file-max",
    "fs.mqueue.msg_max",
    "fs/suid_dumpable",
    "net.core.somaxconn",
    "net/ipv4/ip_forward",
    "net.ipv4.conf.all.forwarding",
    "net.netfilter.nf_conntrack_max",
    "user.max_user_namespaces",
    "dev.cdrom.debug",
]

NO_NAMES = [
    "",
    "net/../vm/stat_interval",
    "../vm/stat_interval",
    "net/ipv4/../../vm/stat_interval",
    "net.ipv4.//.//.vm.stat_interval",
    "/vm/stat_interval",
    "/proc/sys/vm/stat_interval",
    "net..vm",
    "vm.stat_interval ",
    "vm.stat_interval\n",
    "vm\u2024stat_interval",
    "VM.stat_interval",
    "net.ipv4.tcp_syncookies\u0000vm",
    "net." + "a" * 254,
]


def present(name: str) -> str:
    """The machine's value of a sysctl, lest an attempt that comes through changes it."""
    path = Path("/proc/sys", name.replace(".", "/"))
    return path.read_text().strip() if path.is_file() else "1"


@pytest.mark.parametrize("name", NOT_ALLOWED)
def test_a_pod_with_a_sysctl_that_is_not_safe_fails_before_anything_is_made(
    cluster: Cluster, admin: Https, namespace: str, name: str
) -> None:
    wanted = {"sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}, {"name": name, "value": present(name)}]}
    uid = create(admin, namespace, pod("p", securityContext=wanted))["metadata"]["uid"]
    status = ended(admin, namespace, "p")["status"]
    message = f'Pod was rejected: forbidden sysctl: "{name.replace("/", ".")}" not allowlisted'
    assert (status["phase"], status["reason"], status["message"]) == ("Failed", "SysctlForbidden", message)
    assert "containerStatuses" not in status
    assert not (cluster.data_dir / "pods" / uid).exists()
    assert cluster.leftovers(uid) == []


@pytest.mark.parametrize("name", NO_NAMES)
def test_what_is_no_name_of_a_sysctl_never_reaches_the_node(admin: Https, name: str) -> None:
    wanted = {"sysctls": [{"name": name, "value": PRESENT}]}
    answer = admin.request("POST", "/api/v1/namespaces/default/pods", pod(unique("p"), securityContext=wanted))
    assert (answer.code, answer.json["reason"]) == (422, "Invalid")
    assert [cause["field"] for cause in answer.json["details"]["causes"]] == ["spec.securityContext.sysctls[0].name"]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("hostNetwork", "net.ipv4.tcp_syncookies"),
        ("hostNetwork", "net/ipv4/ip_local_port_range"),
        ("hostIPC", "kernel.shm_rmid_forced"),
        ("hostIPC", "kernel/shm_rmid_forced"),
    ],
)
def test_a_safe_sysctl_of_a_namespace_of_the_hosts_is_refused(admin: Https, host: str, name: str) -> None:
    wanted = {"sysctls": [{"name": name, "value": present(name)}]}
    settings: dict[str, Any] = {host: True}
    body = pod(unique("p"), securityContext=wanted, **settings)
    answer = admin.request("POST", "/api/v1/namespaces/default/pods", body)
    assert answer.code == 422
    assert f"may not be specified when '{host}' is true" in answer.message


@pytest.mark.parametrize("name", ["vm/stat_interval", "kernel/panic", "kernel/hostname", "net/core/somaxconn"])
def test_a_container_cannot_write_them_itself(admin: Https, namespace: str, name: str) -> None:
    """The value is read and written back: nothing changes even where it comes through."""
    script = f'value=$(cat /proc/sys/{name}) && echo "$value" > /proc/sys/{name}'
    create(admin, namespace, pod("p", container(script=script), restartPolicy="Never"))
    assert ended(admin, namespace, "p")["status"]["phase"] == "Failed"


def test_what_the_administrator_allows_stays_in_the_pod_and_nothing_else_is_allowed(registry: Registry) -> None:
    path = Path("/proc/sys/net/ipv4/tcp_max_syn_backlog")
    before = path.read_text()
    flags = ("--allowed-unsafe-sysctls", "net.ipv4.tcp_max*,kernel/msgmax")
    with Cluster(registry.registries_conf, flags=flags) as cluster:
        admin = cluster.https().administrator()
        allowed = [{"name": "net/ipv4/tcp_max_syn_backlog", "value": "77"}, {"name": "kernel.msgmax", "value": "4096"}]
        look = container(script="cat /proc/sys/net/ipv4/tcp_max_syn_backlog /proc/sys/kernel/msgmax; true")
        create(admin, "default", pod("a", look, securityContext={"sysctls": allowed}, restartPolicy="Never"))
        assert ended(admin, "default", "a")["status"]["phase"] == "Succeeded"
        assert cluster.logs("a").split() == ["77", "4096"]
        for name in ("kernel.msgmnb", "vm.stat_interval", "net.core.somaxconn"):
            pod_name = unique("p")
            wanted = {"sysctls": [{"name": name, "value": present(name)}]}
            create(admin, "default", pod(pod_name, securityContext=wanted))
            assert ended(admin, "default", pod_name)["status"]["reason"] == "SysctlForbidden"
    assert path.read_text() == before
