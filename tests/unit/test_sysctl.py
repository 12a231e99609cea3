"""Sysctls: names, the kubelet's list, and what the runtime writes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.pods import pod as manifest

from podling.api import sysctl as names
from podling.api.codec import convert
from podling.api.core.v1 import Pod
from podling.kubelet import sysctls
from podling.runtime.native import sysctl
from podling.runtime.protocol import CRIError

OWN = frozenset({"net", "ipc", "uts"})


@pytest.mark.parametrize(
    ("name", "normal", "path"),
    [
        ("kernel.shmmax", "kernel.shmmax", "kernel/shmmax"),
        ("kernel/shmmax", "kernel.shmmax", "kernel/shmmax"),
        ("net/ipv4/conf/eth0.100/rp_filter", "net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("net.ipv4.conf.eth0/100.rp_filter", "net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter"),
        ("kernel", "kernel", "kernel"),
    ],
)
def test_a_name_has_one_normal_form_whatever_separates_its_parts(name: str, normal: str, path: str) -> None:
    assert names.normalize(name) == normal
    assert names.path(normal) == path


@pytest.mark.parametrize(
    ("name", "namespace"),
    [
        ("net.core.somaxconn", "net"),
        ("kernel.shm_rmid_forced", "ipc"),
        ("kernel.msgmax", "ipc"),
        ("kernel.sem", "ipc"),
        ("fs.mqueue.msg_max", "ipc"),
        ("kernel.semaphores", ""),
        ("kernel.core_pattern", ""),
        ("vm.stat_interval", ""),
        ("fs.file-max", ""),
        ("network.x", ""),
    ],
)
def test_the_namespace_of_a_sysctl(name: str, namespace: str) -> None:
    assert names.namespace(name) == namespace


def test_the_runtime_takes_sysctls_of_the_sandboxs_own_namespaces() -> None:
    given = {"net/core/somaxconn": "5", "kernel.sem": "1 2 3 4", "kernel.domainname": "d"}
    assert sysctl.check(given, OWN) == {"net.core.somaxconn": "5", "kernel.sem": "1 2 3 4", "kernel.domainname": "d"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vm.stat_interval", 'sysctl "vm.stat_interval" is not in a separate kernel namespace'),
        ("vm/stat_interval", 'sysctl "vm.stat_interval" is not in a separate kernel namespace'),
        ("kernel.core_pattern", "is not in a separate kernel namespace"),
        ("net/../vm/stat_interval", "has no valid name"),
        ("net.ipv4.//.//vm.stat_interval", "has no valid name"),
        ("net//vm", "has no valid name"),
        ("/net/core/somaxconn", "has no valid name"),
        ("net.core.somaxconn\n", "has no valid name"),
        ("net.core.soma xconn", "has no valid name"),
        ("", "has no valid name"),
        ("net." * 64 + "x", "has no valid name"),
        ("kernel.hostname", "conflicts with the host name"),
    ],
)
def test_the_runtime_refuses_every_other_sysctl(name: str, words: str) -> None:
    with pytest.raises(CRIError, match=words):
        sysctl.check({name: "1"}, OWN)


@pytest.mark.parametrize(
    ("name", "namespace"),
    [("net.core.somaxconn", "net"), ("net/core/somaxconn", "net"), ("kernel.sem", "ipc"), ("kernel.domainname", "uts")],
)
def test_the_runtime_refuses_sysctls_of_a_namespace_that_is_the_hosts(name: str, namespace: str) -> None:
    with pytest.raises(CRIError, match=f"is not allowed in the {namespace} namespace of the host"):
        sysctl.check({name: "1"}, OWN - {namespace})


def test_two_spellings_with_two_values_are_refused() -> None:
    assert sysctl.check({"kernel.sem": "1", "kernel/sem": "1"}, OWN) == {"kernel.sem": "1"}
    with pytest.raises(CRIError, match="given twice"):
        sysctl.check({"kernel.sem": "1", "kernel/sem": "2"}, OWN)


# the kubelet


def asking(*wanted: str, **spec: Any) -> Pod:
    context = {"sysctls": [{"name": name, "value": "1"} for name in wanted]}
    return convert(manifest("p", securityContext=context, **spec), Pod)


def test_safe_sysctls_depend_on_the_kernel() -> None:
    new, old = sysctls.allowlist(release="6.1.0-13-amd64"), sysctls.allowlist(release="4.5.0")
    assert new.allows("net.ipv4.tcp_rmem")
    assert not old.allows("net.ipv4.tcp_rmem")
    assert old.allows("net.ipv4.tcp_keepalive_time")
    assert not old.allows("net.ipv4.tcp_fin_timeout")
    assert sysctls.allowlist(release="unknown").allows("net.ipv4.tcp_syncookies")


@pytest.mark.parametrize(
    ("pod", "told"),
    [
        (asking("net.ipv4.tcp_syncookies"), ""),
        (asking("net/ipv4/tcp_syncookies", "kernel/shm_rmid_forced"), ""),
        (asking("net.core.somaxconn"), ""),
        (asking("kernel.msgmax"), ""),
        (asking("vm.stat_interval"), 'forbidden sysctl: "vm.stat_interval" not allowlisted'),
        (asking("kernel.shmmax"), 'forbidden sysctl: "kernel.shmmax" not allowlisted'),
        (
            asking("net.core.somaxconn", hostNetwork=True),
            'forbidden sysctl: "net.core.somaxconn" not allowed with host net enabled',
        ),
        (asking("kernel.msgmax", hostIPC=True), 'forbidden sysctl: "kernel.msgmax" not allowed with host ipc enabled'),
        (convert(manifest("p"), Pod), ""),
    ],
)
def test_the_kubelet_refuses_what_is_on_no_list(pod: Pod, told: str) -> None:
    assert sysctls.refusal(pod, sysctls.allowlist(["net.core.*", "kernel.msgmax"], "6.1.0")) == told


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("vm.*", r'the sysctls "vm\." are not known to be namespaced'),
        ("*", r'the sysctls "" are not known to be namespaced'),
        ("kernel.core_pattern", r'the sysctls "kernel\.core_pattern" are not known to be namespaced'),
        ("kernel/core_pattern", r'the sysctls "kernel\.core_pattern" are not known to be namespaced'),
        ("net.*.x", "match regex"),
        ("net/../vm", "match regex"),
        ("", "match regex"),
    ],
)
def test_what_is_not_namespaced_cannot_be_allowed(pattern: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        names.Allowlist.of([pattern])
