"""A Pod author's program under the seccomp profile RuntimeDefault: the kernel is not asked what is not every container's.

Each program is one system call, in machine code of its own (x86-64), and exits with its error number.
"""

from __future__ import annotations

import errno
import platform
import struct
from collections.abc import Iterator

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.images import busybox_layer, push
from tests.support.pod_end import create, ended
from tests.support.pods import container, pod
from tools.registry import Registry

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the programs are for x86-64")

BUFFER = 0x400800
"""Zeros, for calls that want memory."""
X32 = 0x40000000
SIGCHLD = 17

CALLS: dict[str, tuple[int, ...]] = {
    "unshare of users": (272, 0x10000000),
    "unshare of the network": (272, 0x40000000),
    "unshare of mounts": (272, 0x20000),
    "unshare by the other number": (X32 | 272, 0x10000000),
    "setns": (308, 0, 0),
    "clone with users": (56, 0x10000000 | SIGCHLD),
    "clone with mounts": (56, 0x20000 | SIGCHLD),
    "clone with processes": (56, 0x20000000 | SIGCHLD),
    "clone with the network": (56, 0x40000000 | SIGCHLD),
    "clone with control groups": (56, 0x2000000 | SIGCHLD),
    "clone with IPC": (56, 0x8000000 | SIGCHLD),
    "clone with names": (56, 0x4000000 | SIGCHLD),
    "clone3": (435, BUFFER, 64),
    "mount": (165, BUFFER, BUFFER, BUFFER, 4096, 0),
    "umount2": (166, BUFFER, 2),
    "pivot_root": (155, BUFFER, BUFFER),
    "fsopen": (430, BUFFER, 0),
    "fspick": (433, 0, BUFFER, 0),
    "open_tree": (428, 0, BUFFER, 0),
    "move_mount": (429, 0, BUFFER, 0, BUFFER, 0),
    "mount_setattr": (442, 0, BUFFER, 0, BUFFER, 32),
    "keyctl": (250, 0, 0xFFFFFFFFFFFFFFFD, 0),
    "add_key": (248, BUFFER, BUFFER, BUFFER, 1, 0),
    "request_key": (249, BUFFER, BUFFER, 0, 0),
    "bpf": (321, 0, BUFFER, 32),
    "perf_event_open": (298, BUFFER, 0, 0xFFFFFFFFFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0),
    "userfaultfd": (323, 1),
    "io_uring_setup": (425, 1, BUFFER),
    "open_by_handle_at": (304, 0, BUFFER, 0),
    "process_vm_readv": (310, 1, BUFFER, 0, BUFFER, 0, 0),
    "ptrace": (101, 16, 1, 0, 0),
    "kcmp": (312, 1, 1, 0, 0, 0),
    "pidfd_getfd": (438, 0, 0, 0),
    "init_module": (175, BUFFER, 0, BUFFER),
    "finit_module": (313, 0, BUFFER, 0),
    "delete_module": (176, BUFFER, 0),
    "kexec_file_load": (320, 0, 0, 0, BUFFER, 0),
    "swapon": (167, BUFFER, 0),
    "reboot without its magic numbers": (169, 0, 0, 0),
    "clock_settime": (227, 99, BUFFER),
    "settimeofday": (164, 0, 0),
    "ioperm": (173, 0, 1, 1),
    "iopl": (172, 0),
    "quotactl": (179, 0, BUFFER, 0, BUFFER),
    "fanotify_init": (300, 0, 0),
    "move_pages": (279, 0, 0, BUFFER, 0, BUFFER, 0),
    "mbind": (237, 0, 0, 0, 0, 0, 0),
    "set_mempolicy": (238, 0, 0, 0),
    "syslog": (103, 10, 0, 0),
    "sethostname": (170, BUFFER, 0),
    "setdomainname": (171, BUFFER, 0),
    "personality without randomized addresses": (135, 0x40000),
    "a socket to the hypervisor": (41, 40, 1, 0),
    "uselib": (134, BUFFER),
    "ustat": (136, 0, BUFFER),
    "vhangup": (153,),
    "a call that nobody knows": (9999,),
}

USUAL: dict[str, tuple[int, ...]] = {
    "getpid": (39,),
    "clone as fork does": (56, SIGCHLD),
    "a socket of the network": (41, 2, 1, 0),
    "personality as usual": (135, 0xFFFFFFFF),
    "chroot, by its capability": (161, 0x400801),
}
"""What ordinary programs do; the last argument of chroot is a path."""


def program(number: int, *arguments: int) -> bytes:
    """An ELF executable that makes one system call and exits with its error number, 0 if there is none."""
    loads = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
    code = b"".join(load + struct.pack("<Q", argument) for load, argument in zip(loads, arguments, strict=False))
    code += b"\xb8" + struct.pack("<I", number) + b"\x0f\x05"
    code += b"\x48\x89\xc7\x48\xf7\xdf\x48\x85\xc0\x78\x02\x31\xff"  # the negated result, or 0
    code += b"\xb8\x3c\x00\x00\x00\x0f\x05"  # exit
    base, start = 0x400000, 0x78
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    image = header + struct.pack("<IIQQQQQQ", 1, 7, 0, base, base, 0x1000, 0x1000, 0x1000) + code
    return image.ljust(0x801, b"\0").ljust(0x802, b"/").ljust(0x1000, b"\0")


@pytest.fixture(scope="module")
def errors(cluster: Cluster, admin: Https, registry: Registry) -> Iterator[dict[str, int]]:
    """The error number of each call, by name."""
    calls = {**CALLS, **USUAL}
    layer = busybox_layer()
    for index, call in enumerate(calls.values()):
        layer.file(f"attack/{index}", program(*call), 0o755)
    script = f"i=0; while [ $i -lt {len(calls)} ]; do /attack/$i; echo $i $?; i=$((i+1)); done"
    name = unique("attacker")
    confined = {"seccompProfile": {"type": "RuntimeDefault"}}
    attacker = container(script=script, image=push(registry, layer), securityContext=confined)
    create(admin, "default", pod(name, attacker, restartPolicy="Never"))
    ended(admin, "default", name)
    said = [line.split() for line in cluster.logs(name).splitlines()]
    names = list(calls)
    yield {names[int(index)]: int(code) for index, code in said if index.isdigit()}
    admin.request("DELETE", f"/api/v1/namespaces/default/pods/{name}")


@pytest.mark.parametrize("call", CALLS)
def test_a_system_call_that_needs_a_capability_is_refused(errors: dict[str, int], call: str) -> None:
    assert errors[call] in (errno.EPERM, errno.ENOSYS)


def test_c_libraries_are_told_to_use_clone_in_the_place_of_clone3(errors: dict[str, int]) -> None:
    assert errors["clone3"] == errno.ENOSYS


@pytest.mark.parametrize("call", USUAL)
def test_what_ordinary_programs_do_is_allowed(errors: dict[str, int], call: str) -> None:
    assert errors[call] == 0
