"""Control groups: version 1, version 2 and hybrid hosts, laid out by the cgroupfs driver.

A group is named by its path below every hierarchy's root ("/podling/burstable/pod<uid>"). All functions are plain
system calls of some ten microseconds each; call them in a thread where the event loop must not wait.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import select
import signal
import time
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from podling.runtime import shortage
from podling.runtime.native import syscalls
from podling.runtime.protocol import LinuxResources

log = logging.getLogger(__name__)

ROOT = Path("/sys/fs/cgroup")
_AWAITED = 16
"""Killed processes that are waited for at a time, each by a descriptor. A group may hold more of them than we have, and
two threads kill one container at a time: `stop`, and the last look after its first process has ended."""
_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids", "hugetlb")


class Mode(StrEnum):
    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"


class CgroupStats(Struct, kw_only=True):
    """What a group and the groups below it use: CPU time in ns since its creation, memory in bytes."""

    cpu_usage_ns: int
    memory_usage: int
    memory_working_set: int
    memory_rss: int
    pids: int


class HostChanges(Struct, kw_only=True):
    """What `prepare_host` changed, so that `undo` can take it back."""

    mounted_hugetlb: str = ""
    """The v1 hugetlb hierarchy that was mounted there."""
    favoring_dynmods: str = ""
    """The cgroup2 mount that got the option favordynmods."""


class Cgroups:
    """The control groups of this machine, read from /proc/self/mountinfo."""

    def __init__(self) -> None:
        self._v1: dict[str, Path] = {}
        """Controller (or name=...) to the mount point of its hierarchy."""
        self._v2: Path | None = None
        self._v2_options: list[str] = []
        self._read_mounts()
        self._roots = list(dict.fromkeys(self._v1.values()))
        if self._v2 is not None:
            self._roots.append(self._v2)
        controllers = [name for name in self._v1 if not name.startswith("name=")]
        self.mode = Mode.V2 if not controllers else Mode.V1 if self._v2 is None else Mode.HYBRID
        if not self._roots:
            raise FileNotFoundError(errno.ENOENT, "no control groups are mounted", str(ROOT))

    def _read_mounts(self) -> None:
        known = set(Path("/proc/cgroups").read_text().split()) if Path("/proc/cgroups").exists() else set()
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            left, _, right = line.partition(" - ")
            fstype, _, options = right.split(" ", 2)
            mountpoint = Path(left.split()[4])
            if fstype == "cgroup":
                for option in options.split(","):
                    if option in known or option.startswith("name="):
                        self._v1.setdefault(option, mountpoint)
            elif fstype == "cgroup2" and self._v2 is None:
                self._v2 = mountpoint
                self._v2_options = [option for option in options.split(",") if option not in ("rw", "ro")]

    def _remount_v2(self, options: list[str]) -> None:
        assert self._v2 is not None
        flags = _flags(self._v2) | syscalls.MS_REMOUNT
        syscalls.mount("none", self._v2, "cgroup2", flags, ",".join(options))

    # groups

    def create(self, path: str) -> None:
        """Makes the group and its parents in every hierarchy. Idempotent. Raises OSError."""
        for root in self._roots:
            if root == self._v2 and self.mode == Mode.V2:
                self._delegate_down_to(path)
            _make(root, path)
            if root == self._v1.get("cpuset"):
                for name in ("cpuset.cpus", "cpuset.mems"):
                    _fill_cpuset(root, path, name)

    def _delegate_down_to(self, path: str) -> None:
        """Make the parents of the group, each with its controllers for the next: also where an agent was killed before."""
        assert self._v2 is not None
        parent = self._v2
        for part in Path(path).parts[1:]:
            parent.mkdir(exist_ok=True)
            self._delegate(parent)
            parent /= part

    def _delegate(self, group: Path) -> None:
        enabled = (group / "cgroup.subtree_control").read_text().split()
        available = (group / "cgroup.controllers").read_text().split()
        for controller in _V2_CONTROLLERS:
            if controller in available and controller not in enabled:
                try:
                    (group / "cgroup.subtree_control").write_text(f"+{controller}")
                except OSError as error:
                    log.warning("cannot enable the controller %s below %s: %s", controller, group, error.strerror)

    def exists(self, path: str) -> bool:
        return any(_below(root, path).is_dir() for root in self._roots)

    def children(self, path: str) -> list[str]:
        """Names of the groups right below, in whichever hierarchy they are."""
        found: set[str] = set()
        for root in self._roots:
            with contextlib.suppress(FileNotFoundError):
                found.update(entry.name for entry in os.scandir(_below(root, path)) if entry.is_dir())
        return sorted(found)

    def remove(self, path: str, timeout: float = 2.0) -> None:
        """Removes the group and those below it. Idempotent. A process in it is killed.

        Raises OSError (EBUSY) when a process does not go within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        for root in self._roots:
            self._remove(str(_below(root, path)), path, deadline)

    def _remove(self, group: str, top: str, deadline: float) -> None:
        """Remove a group: first those below it, then what runs in it, in turn, since either may come back meanwhile."""
        kill = False
        while True:
            try:
                os.rmdir(group)
                return
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as error:
                if error.errno != errno.EBUSY or time.monotonic() > deadline:
                    raise
            if kill:
                # Either a process is left, or the last one is dead and its parent has not reaped it yet. Control groups of
                # version 1 have no event for that; those of version 2 are treated alike.
                self.kill(top, timeout=max(0.0, deadline - time.monotonic()))
                time.sleep(0.002)
            else:
                with contextlib.suppress(FileNotFoundError):  # another thread, or the OCI runtime, removes it too
                    for child in _children(group):
                        self._remove(child, top, deadline)
            kill = not kill

    # processes

    def pids(self, path: str) -> list[int]:
        """The processes in the group and below it; empty when it does not exist. Raises OSError."""
        found: dict[int, None] = {}
        for root in (self._v1.get("freezer"), self._v1.get("pids"), self._v1.get("memory"), self._v2):
            if root is None:
                continue
            for group in _subtree(str(_below(root, path))):
                try:
                    with open(f"{group}/cgroup.procs") as file:
                        found.update(dict.fromkeys(map(int, file.read().split())))
                except OSError as error:
                    # A group that goes meanwhile has no processes. One that cannot be read for now may have many.
                    if shortage.passes(error):
                        raise
        return list(found)

    def kill(self, path: str, timeout: float = 2.0) -> bool:
        """Kills every process in the group and below it, and waits until they are gone (True) or `timeout` is over."""
        deadline = time.monotonic() + timeout
        if self.mode == Mode.V2 and self._v2 is not None:
            with contextlib.suppress(OSError):
                (_below(self._v2, path) / "cgroup.kill").write_text("1")
        while pids := self.pids(path):
            if time.monotonic() > deadline:
                return False
            self._kill_all(path, pids, deadline)
        return True

    def _kill_all(self, path: str, pids: list[int], deadline: float) -> None:
        freezer = _below(self._v1["freezer"], path) / "freezer.state" if "freezer" in self._v1 else None
        if freezer is not None and len(pids) > 1:  # a group that forks faster than we read it
            with contextlib.suppress(OSError):
                freezer.write_text("FROZEN")
                pids = self.pids(path)
        poll = select.poll()
        fds: list[int] = []
        try:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    fd = os.pidfd_open(pid)
                    fds.append(fd)
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
                    if len(fds) <= _AWAITED:
                        poll.register(fd, select.POLLIN)
                    else:
                        os.close(fds.pop())
            if freezer is not None:
                with contextlib.suppress(OSError):
                    freezer.write_text("THAWED")
            waiting = set(fds)
            while waiting and (left := deadline - time.monotonic()) > 0:
                for fd, _ in poll.poll(left * 1000):
                    poll.unregister(fd)
                    waiting.discard(fd)
        finally:
            for fd in fds:
                os.close(fd)

    # resources

    def apply(self, path: str, resources: LinuxResources) -> None:
        """Writes what is not None. Raises OSError, for a value that the kernel refuses among others."""
        if self.mode == Mode.V2:
            assert self._v2 is not None
            self._apply_v2(_below(self._v2, path), resources)
        else:
            self._apply_v1(path, resources)

    def _apply_v1(self, path: str, r: LinuxResources) -> None:
        def write(controller: str, name: str, value: int) -> None:
            root = self._v1.get(controller)
            if root is None:
                log.warning(
                    "the controller %s is not mounted: %s=%d of %s has no effect", controller, name, value, path
                )
                return
            (_below(root, path) / name).write_text(str(value))

        if r.cpu_shares is not None:
            write("cpu", "cpu.shares", max(2, r.cpu_shares))
        if r.cpu_quota is not None and r.cpu_period is not None:
            write("cpu", "cpu.cfs_quota_us", -1)  # else the new period may be refused together with the old quota
        if r.cpu_period is not None:
            write("cpu", "cpu.cfs_period_us", r.cpu_period)
        if r.cpu_quota is not None:
            write("cpu", "cpu.cfs_quota_us", r.cpu_quota if r.cpu_quota > 0 else -1)
        if r.memory_limit is not None:
            write("memory", "memory.limit_in_bytes", r.memory_limit if r.memory_limit > 0 else -1)
        if r.pids_limit is not None:
            root = self._v1.get("pids")
            if root is not None:
                (_below(root, path) / "pids.max").write_text(str(r.pids_limit) if r.pids_limit > 0 else "max")
        for size, limit in r.hugepage_limits.items():
            write("hugetlb", f"hugetlb.{page_size(size)}.limit_in_bytes", limit)

    def _apply_v2(self, group: Path, r: LinuxResources) -> None:
        if r.cpu_shares is not None:
            (group / "cpu.weight").write_text(str(cpu_weight(r.cpu_shares)))
        if r.cpu_quota is not None or r.cpu_period is not None:
            quota, period = (group / "cpu.max").read_text().split()
            if r.cpu_quota is not None:
                quota = str(r.cpu_quota) if r.cpu_quota > 0 else "max"
            (group / "cpu.max").write_text(f"{quota} {r.cpu_period or period}")
        if r.memory_limit is not None:
            (group / "memory.max").write_text(str(r.memory_limit) if r.memory_limit > 0 else "max")
        if r.pids_limit is not None:
            (group / "pids.max").write_text(str(r.pids_limit) if r.pids_limit > 0 else "max")
        for size, limit in r.hugepage_limits.items():
            (group / f"hugetlb.{page_size(size)}.max").write_text(str(limit))

    def stats(self, path: str) -> CgroupStats:
        """Raises FileNotFoundError when the group does not exist."""
        if self.mode == Mode.V2:
            assert self._v2 is not None
            group = _below(self._v2, path)
            memory = _table(group / "memory.stat")
            usage = int((group / "memory.current").read_text())
            return CgroupStats(
                cpu_usage_ns=_table(group / "cpu.stat").get("usage_usec", 0) * 1000,
                memory_usage=usage,
                memory_working_set=max(0, usage - memory.get("inactive_file", 0)),
                memory_rss=memory.get("anon", 0),
                pids=int((group / "pids.current").read_text()),
            )
        group = _below(self._v1["memory"], path)
        memory = _table(group / "memory.stat")
        usage = int((group / "memory.usage_in_bytes").read_text())
        return CgroupStats(
            cpu_usage_ns=int((_below(self._v1["cpuacct"], path) / "cpuacct.usage").read_text()),
            memory_usage=usage,
            memory_working_set=max(0, usage - memory.get("total_inactive_file", 0)),
            memory_rss=memory.get("total_rss", 0),
            pids=int((_below(self._v1["pids"], path) / "pids.current").read_text()) if "pids" in self._v1 else 0,
        )

    def oom_kills(self, path: str) -> int:
        """How many processes of this group the kernel has killed for want of memory; 0 when the group is gone."""
        try:
            if self.mode == Mode.V2:
                assert self._v2 is not None
                return _table(_below(self._v2, path) / "memory.events").get("oom_kill", 0)
            return _table(_below(self._v1["memory"], path) / "memory.oom_control").get("oom_kill", 0)
        except (FileNotFoundError, KeyError):
            return 0


def prepare_host() -> HostChanges:
    """Makes the host fit for crun and fast, as far as that can be taken back. Call it before Cgroups is made.

    crun (1.8) refuses a hybrid host while the version 2 hierarchy holds a controller. Mounting hugetlb as a version
    1 hierarchy, as cgroupfs-mount lays hosts out, takes the last one off it. And moving a process into a group
    waits for an RCU grace period (some 10 ms, by far the longest wait in a container's start) unless the kernel is
    told by favordynmods (Linux 6.0) that groups come and go.
    """
    changes = HostChanges()
    cgroups = Cgroups()
    v2 = cgroups._v2
    if v2 is None:
        return changes
    if cgroups.mode == Mode.HYBRID and (v2 / "cgroup.controllers").read_text().split() == ["hugetlb"]:
        target = ROOT / "hugetlb"
        try:
            target.mkdir(exist_ok=True)
            syscalls.mount("cgroup", target, "cgroup", 0, "hugetlb")
            changes.mounted_hugetlb = str(target)
        except OSError as error:
            log.warning("cannot mount the hugetlb hierarchy at %s: %s", target, error.strerror)
    if "favordynmods" not in cgroups._v2_options:
        try:
            cgroups._remount_v2([*cgroups._v2_options, "favordynmods"])
            changes.favoring_dynmods = str(v2)
        except OSError as error:
            log.info("favordynmods is not available (%s): containers start some 10 ms later", error.strerror)
    return changes


def undo(changes: HostChanges) -> None:
    """Takes back what prepare_host did, unless someone else came to use it. Never raises."""
    if changes.mounted_hugetlb:
        target = Path(changes.mounted_hugetlb)
        with contextlib.suppress(OSError):
            if not any(entry.is_dir() for entry in target.iterdir()) and syscalls.umount(target):
                target.rmdir()
    if changes.favoring_dynmods:
        cgroups = Cgroups()
        if "favordynmods" in cgroups._v2_options:
            options = [option for option in cgroups._v2_options if option != "favordynmods"]
            with contextlib.suppress(OSError):
                cgroups._remount_v2([*options, "nofavordynmods"])


def page_size(name: str) -> str:
    """Return the name of a size of huge pages, which becomes part of a file's name. Raises OSError for anything else."""
    if not re.fullmatch(r"[1-9][0-9]{0,9}[KMG]B", name):
        raise OSError(errno.EINVAL, "no such size of huge pages", name)
    return name


def cpu_weight(shares: int) -> int:
    """cgroup v1 cpu.shares (2..262144) as v2 cpu.weight (1..10000), by the linear rule of KEP-2254."""
    return 1 + ((min(262144, max(2, shares)) - 2) * 9999) // 262142


def _below(root: Path, path: str) -> Path:
    return root / path.lstrip("/")


def _flags(mountpoint: Path) -> int:
    """The mount flags of a mounted file system, which a remount would drop otherwise."""
    current = os.statvfs(mountpoint).f_flag
    flags = 0
    for statvfs_flag, mount_flag in (
        (os.ST_NOSUID, syscalls.MS_NOSUID),
        (os.ST_NODEV, syscalls.MS_NODEV),
        (os.ST_NOEXEC, syscalls.MS_NOEXEC),
        (os.ST_RELATIME, 1 << 21),
    ):
        if current & statvfs_flag:
            flags |= mount_flag
    return flags


def _make(root: Path, path: str) -> None:
    """Make a group in one hierarchy, and its parents if they are missing, which is rare. Raises OSError."""
    group = _below(root, path)
    try:
        os.mkdir(group)
    except FileExistsError:
        pass
    except FileNotFoundError:
        parent = path.rpartition("/")[0]
        if not parent:
            raise
        _make(root, parent)
        with contextlib.suppress(FileExistsError):
            os.mkdir(group)


def _subtree(group: str) -> Iterator[str]:
    """The group and those below it, parents first."""
    try:
        below = _children(group)
    except (FileNotFoundError, NotADirectoryError):
        return
    yield group
    for child in below:
        yield from _subtree(child)


def _children(group: str) -> list[str]:
    """Return the paths of the groups right below. Raises OSError."""
    if os.stat(group).st_nlink == 2:  # kernfs counts a link for each directory below, so that most need no listing
        return []
    return [entry.path for entry in os.scandir(group) if entry.is_dir(follow_symlinks=False)]


def _table(path: Path) -> dict[str, int]:
    rows = (line.split() for line in path.read_text().splitlines())
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _fill_cpuset(root: Path, path: str, name: str) -> str:
    """Return what a v1 cpuset allows. A new one is empty, and takes no process until it has what its parent has.

    The parent may be empty, too, where an agent was killed before it wrote it.
    """
    file = _below(root, path) / name
    value = file.read_text().strip()
    if not value and path:
        value = _fill_cpuset(root, path.rpartition("/")[0], name)
        file.write_text(value)
    return value
