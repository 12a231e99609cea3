"""A Pod author inside an ordinary container, as root: /proc, /sys, devices, mounts, control groups, processes.

One Pod makes all attempts, for each is a few system calls only. An attempt is a script that succeeds if the attack does;
what it would change, it writes back as it was, and what cannot be undone (a reboot) is not tried.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Any

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.https import Https
from tests.support.pod_end import create, ended
from tests.support.pods import container, mount, pod


def rewrite(path: str) -> str:
    """Write to a file what it holds."""
    return f'test -e {path} && value=$(cat {path}) && printf %s "$value" > {path}'


def device(kind: str, major: int, minor: int) -> str:
    """Make the node of a device and read from it, or at least open it."""
    return f"mknod /tmp/$$ {kind} {major} {minor} && (: < /tmp/$$)"


def in_user_namespace(script: str) -> str:
    """With all capabilities over a user namespace of the container's own."""
    return f"unshare -U -r -m sh -c {shlex.quote(script)}"


SET_CLOCK = '! date -s @$(date +%s) 2>&1 | grep -q "can\'t set"'
# A process of busybox is called "exe" for a moment, until it knows which of its programs it is. So that is seen once, and a
# process of others again and again.
SEEN = "cat /proc/[0-9]*/comm | grep -vE '^(busybox|cat|grep|nsenter|sh|timeout)$'"
FOREIGN_PROCESS = " && ".join([SEEN] * 5)

ATTEMPTS = {
    # What /proc and /sys show and take.
    "read the kernel's memory": "head -c 1 /proc/kcore | grep -q .",
    "read the kernel's keys": "grep -q . /proc/keys",
    "read the kernel's timers": "grep -q . /proc/timer_list",
    "read the interrupts": "grep -q . /proc/interrupts",
    "read the firmware's tables": "ls /sys/firmware | grep -q .",
    "read the power meters": "ls /sys/devices/virtual/powercap | grep -q .",
    "press a system request key": "echo h > /proc/sysrq-trigger",
    "write a sysctl": rewrite("/proc/sys/vm/stat_interval"),
    "write a sysctl of the namespace": rewrite("/proc/sys/net/ipv4/ip_forward"),
    "write a sysctl of the host name": rewrite("/proc/sys/kernel/hostname"),
    "write the affinity of interrupts": rewrite("/proc/irq/default_smp_affinity"),
    "write below /sys/kernel": rewrite("/sys/kernel/mm/transparent_hugepage/enabled"),
    "write below /sys/module": rewrite("/sys/module/kernel/parameters/panic"),
    "write below /sys/class/net": rewrite("/sys/class/net/eth0/mtu"),
    "write the helper of uevents": "test -e /sys/kernel/uevent_helper && printf '' > /sys/kernel/uevent_helper",
    "write a file system of /proc": "ls /proc/fs/* | grep -q . && touch /proc/fs/x",
    "raise its chances to survive": "echo -900 > /proc/self/oom_score_adj",
    # Mounts.
    "mount a tmpfs": "mount -t tmpfs none /tmp",
    "mount /proc anew": "mkdir -p /tmp/proc && mount -t proc proc /tmp/proc",
    "mount /sys anew": "mkdir -p /tmp/sys && mount -t sysfs sysfs /tmp/sys",
    "mount the devices of the machine": "mkdir -p /tmp/dev && mount -t devtmpfs devtmpfs /tmp/dev",
    "mount the control groups": "mkdir -p /tmp/cg && mount -t cgroup -o memory none /tmp/cg",
    "mount the control groups of version 2": "mkdir -p /tmp/cg2 && mount -t cgroup2 none /tmp/cg2",
    "mount the root elsewhere": "mkdir -p /tmp/root && mount --bind / /tmp/root",
    "mount the kernel's debugging files": "mkdir -p /tmp/debug && mount -t debugfs none /tmp/debug",
    "make /sys writable": "mount -o remount,rw /sys",
    "make /proc/sys writable": "mount -o remount,rw /proc/sys",
    "take the mask off /proc/kcore": "umount /proc/kcore",
    "take the cover off /proc/sys": "umount /proc/sys",
    "take the cover off in a user namespace": in_user_namespace("umount /proc/sys"),
    "take the mask off in a user namespace": in_user_namespace("umount /proc/kcore"),
    "make /sys writable in a user namespace": in_user_namespace("mount -o remount,bind,rw /sys"),
    "mount /proc without masks in a user namespace": in_user_namespace("mount -t proc proc /tmp"),
    "mount control groups in a user namespace": in_user_namespace("mount -t cgroup -o memory none /tmp"),
    "mount the devices in a user namespace": in_user_namespace("mount -t devtmpfs devtmpfs /tmp"),
    "write a sysctl in a user namespace": in_user_namespace(rewrite("/proc/sys/vm/stat_interval")),
    "change the clock in a user namespace": in_user_namespace(SET_CLOCK),
    # Devices.
    "read the memory through a device": device("c", 1, 1),
    "read the ports through a device": device("c", 1, 4),
    "read the kernel's log through a device": device("c", 1, 11),
    "open the first disk": device("b", 8, 0),
    "open the first virtual disk": device("b", 254, 0),
    "open a loop device": device("b", 7, 0),
    "open the control of loop devices": device("c", 10, 237),
    "open FUSE": device("c", 10, 229),
    "open TUN": device("c", 10, 200),
    "open KVM": device("c", 10, 232),
    "open the first terminal": device("c", 4, 0),
    "open the console of the machine": device("c", 5, 1),
    "see a device that is not every container's": (
        "ls /dev | grep -vE '^(core|fd|full|mqueue|null|ptmx|pts|random|shm|std(err|in|out)|termination-log|tty|urandom|zero)$'"
    ),
    # Control groups.
    "make a control group": (
        "for root in /sys/fs/cgroup /sys/fs/cgroup/*; do mkdir $root/x; test -e $root/x/cgroup.procs && exit 0; done; false"
    ),
    "leave its control group": (
        "for file in $(find /sys/fs/cgroup -name cgroup.procs); do echo $$ > $file && exit 0; done; false"
    ),
    "raise its own memory limit": (
        "for file in $(find /sys/fs/cgroup -name memory.max -o -name memory.limit_in_bytes); do"
        " echo 1000000000 > $file && exit 0; done; false"
    ),
    "set a program for empty control groups": (
        "for file in $(find /sys/fs/cgroup -name release_agent); do echo /x > $file && exit 0; done; false"
    ),
    "allow itself a device": (
        "for file in $(find /sys/fs/cgroup -name devices.allow); do echo 'a *:* rwm' > $file && exit 0; done; false"
    ),
    "see the control groups of others": "find /sys/fs/cgroup -path '*pod*' -name cgroup.procs | grep -q .",
    # Processes and the machine.
    "see processes of others": FOREIGN_PROCESS,
    "hold a descriptor of the agent's": (
        "ls -l /proc/1/fd | grep -e '->' | grep -vE '(/dev/null|pipe:.*|/proc/1/fd)$' | grep -q ."
    ),
    "reach an abstract socket of the machine": "grep -q '@' /proc/net/unix",
    "enter namespaces of process 1's parent": f"nsenter -t 1 -m -n -p -i -u sh -c {shlex.quote(FOREIGN_PROCESS)}",
    "set the clock": SET_CLOCK,
    "set the host name": "hostname evil",
    "load a module": "touch /tmp/x.ko && insmod /tmp/x.ko",
    "lower its niceness": "nice -n -5 true",
    "change an interface": "ip link set eth0 down",
    "add an address": "ip addr add 10.1.2.3/32 dev eth0",
    "add a route": "ip route add 10.1.2.0/24 dev eth0",
    "have a capability beyond the default": (
        # Of containerd's: 0xa80425fb.
        "test $((0x$(grep CapBnd /proc/self/status | cut -f2) & ~0xa80425fb)) -ne 0"
    ),
    "see the files of the node": "ls -d /var/lib/podling* /var/tmp/podling* /run/podling* | grep -q .",
    "make a file immutable": "touch /tmp/i && chattr +i /tmp/i",
    "run a program of /dev/shm": "cp /bin/busybox /dev/shm/true && /dev/shm/true",
    "keep a device in /dev/shm": "mknod /dev/shm/null c 1 3 && (: < /dev/shm/null)",
}


def script(attempts: dict[str, str]) -> str:
    """Make all attempts and say of each what came of it."""
    lines = []
    for number, attempt in enumerate(attempts.values()):
        lines.append(
            f"timeout 5 sh -c {shlex.quote(attempt)} >/dev/null 2>&1 && echo {number} came through || echo {number} held"
        )
    return "\n".join(lines)


@pytest.fixture(scope="module")
def outcome(cluster: Cluster, admin: Https) -> Iterator[dict[str, str]]:
    """What came of each attempt."""
    name = unique("attacker")
    volume: dict[str, Any] = {"volumes": [{"name": "v", "emptyDir": {}}]}
    attacker = container(script=script(ATTEMPTS), volumeMounts=[mount("v", "/volume")])
    create(admin, "default", pod(name, attacker, restartPolicy="Never", **volume))
    ended(admin, "default", name)
    said = [line.split(maxsplit=1) for line in cluster.logs(name).splitlines()]
    names = list(ATTEMPTS)
    yield {names[int(number)]: what for number, what in said}
    admin.request("DELETE", f"/api/v1/namespaces/default/pods/{name}")


@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_an_ordinary_container_is_confined(outcome: dict[str, str], attempt: str) -> None:
    assert outcome[attempt] == "held"
