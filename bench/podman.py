"""The peer: `podman kube play` of the same Pod, with the same image, OCI runtime and conmon.

podman keeps its storage, state and network configuration in a directory of its own here, and works in a network
namespace of its own: the bridge and the firewall rules that it makes go with it. (`nsenter`, which leads there, takes
1 ms.) The Pods are on a bridge, as by default, if the machine has what podman's network needs, and else without network.
"""

from __future__ import annotations

import json
import os
import resource
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.pods import IMAGE, manifest
from podling.runtime.native import syscalls
from podling.runtime.native.cgroup import Cgroups

_OWN_PROCESS_LIMIT = 32768
"""podman lowers its own limit to this; a container's must not be higher where CAP_SYS_RESOURCE is missing."""
_CLEANUP_SECONDS = 10.0
"""More than `podman container cleanup` ever takes."""
_PLUGIN_DIRECTORIES = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
_PLUGINS = ("bridge", "portmap", "firewall", "tuning", "host-local")
_LEASES = Path("/var/lib/cni/networks/podman-default-kube-network")
_NETAVARK = ("/usr/lib/podman/netavark", "/usr/libexec/podman/netavark")


class PodmanFailed(Exception):
    """podman cannot be measured here; the message says why."""


class Podman:
    """Use it in `with podman(...)`."""

    def __init__(self, directory: Path, oci_runtime: str) -> None:
        self._directory = directory
        self._netns = f"bench-{os.getpid()}"
        self.network = network_backend()
        """netavark, cni, or "" for Pods without network."""
        self.version = ""
        self._pods: list[str] = []
        self._had_leases = _LEASES.exists()
        self._argv = ["nsenter", f"--net=/run/netns/{self._netns}", "--", shutil.which("podman") or "podman"]
        self._argv += ["--root", f"{directory}/graph", "--runroot", f"{directory}/run", "--tmpdir", f"{directory}/tmp"]
        self._argv += ["--storage-driver", "overlay", "--runtime", oci_runtime]
        self._environment = {
            **os.environ,
            "CONTAINERS_CONF": str(self._write("containers.conf", self._containers_conf())),
            "CONTAINERS_STORAGE_CONF": str(self._write("storage.conf", self._storage_conf())),
        }

    def open(self, layout: str) -> None:
        """`layout`: the image, as skopeo names it. Raises PodmanFailed."""
        _run(["ip", "netns", "add", self._netns])
        _run(["ip", "-n", self._netns, "link", "set", "lo", "up"])
        storage = f"containers-storage:[overlay@{self._directory}/graph+{self._directory}/run]{IMAGE}"
        _run(["skopeo", "--insecure-policy", "copy", "--quiet", layout, storage], self._environment)
        self.version = self._podman("version", "--format", "{{.Client.Version}}").strip()

    def play(self, name: str) -> float:
        """Starts the Pod; returns the seconds until podman says that it runs. Raises PodmanFailed."""
        path = self._write(f"{name}.json", json.dumps(manifest(name)))
        options = [] if self.network else ["--network", "none"]
        begin = time.perf_counter()
        said = self._podman("kube", "play", *options, str(path))
        elapsed = time.perf_counter() - begin
        self._pods.append(said.split("Pod:\n")[1].split()[0])
        return elapsed

    def down(self, name: str) -> float:
        """Stops and removes the Pod; returns the seconds that it took. Raises PodmanFailed.

        On hosts with cgroup version 1 podman 4.3 mostly spends 3 s of it trying in vain to remove the Pod's cgroup.
        """
        begin = time.perf_counter()
        self._podman("kube", "down", str(self._directory / f"{name}.json"))
        elapsed = time.perf_counter() - begin
        self._settle()
        return elapsed

    def _settle(self) -> None:
        """Waits for the clean-up processes that conmon starts when a container has ended: they take processor time."""
        for process in Path("/proc").iterdir():
            if not process.name.isdigit():
                continue
            with suppress(OSError):
                command = (process / "cmdline").read_bytes().split(b"\0")
                if command[0].endswith(b"podman") and f"{self._directory}/graph".encode() in command:
                    pidfd = os.pidfd_open(int(process.name))
                    try:
                        select.select([pidfd], [], [], _CLEANUP_SECONDS)
                    finally:
                        os.close(pidfd)

    def close(self) -> None:
        """Removes every trace."""
        with suppress(PodmanFailed):
            self._podman("pod", "rm", "--all", "--force", "--time", "0")
        self._settle()
        with suppress(PodmanFailed):
            _run(["ip", "netns", "delete", self._netns])
        cgroups = Cgroups()
        for pod in self._pods:
            cgroups.remove(f"/libpod_parent/{pod}")
        for parent in [Path("/sys/fs/cgroup/libpod_parent"), *Path("/sys/fs/cgroup").glob("*/libpod_parent")]:
            with suppress(OSError):  # in use by another podman
                parent.rmdir()
        if not self._had_leases:
            shutil.rmtree(_LEASES, ignore_errors=True)
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for target in reversed([path for path in mounts if path.startswith(f"{self._directory}/")]):
            syscalls.umount(Path(target))
        shutil.rmtree(self._directory, ignore_errors=True)

    def _containers_conf(self) -> str:
        files, processes = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_NPROC)[1]
        limits = [f"nofile={limit(files, 1 << 20)}", f"nproc={limit(processes, _OWN_PROCESS_LIMIT)}"]
        directories = [path for path in _PLUGIN_DIRECTORIES if os.path.isdir(path)]
        return (
            f'[containers]\ndefault_ulimits = {json.dumps(limits)}\nlog_driver = "k8s-file"\n'
            '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
            f'[network]\nnetwork_backend = "{self.network or "cni"}"\n'
            f'cni_plugin_dirs = {json.dumps(directories)}\nnetwork_config_dir = "{self._directory}/networks"\n'
        )

    def _storage_conf(self) -> str:
        return (
            f'[storage]\ndriver = "overlay"\ngraphroot = "{self._directory}/graph"\nrunroot = "{self._directory}/run"\n'
        )

    def _write(self, name: str, text: str) -> Path:
        path = self._directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def _podman(self, *arguments: str) -> str:
        return _run([*self._argv, *arguments], self._environment)


@contextmanager
def podman(directory: Path, oci_runtime: str, layout: str) -> Iterator[Podman]:
    """A podman that has the image and has run a Pod once. Raises PodmanFailed; leaves nothing behind."""
    if shutil.which("podman") is None:
        raise PodmanFailed("podman is not installed")
    peer = Podman(directory, oci_runtime)
    try:
        peer.open(layout)
        try:
            peer.play("first")
        except PodmanFailed:
            if not peer.network:
                raise
            peer.network = ""
            peer.play("first")
        peer.down("first")
        yield peer
    finally:
        peer.close()


def network_backend() -> str:
    """What podman's bridge networks can be made with on this machine: netavark, cni, or "" for nothing."""
    if any(os.access(path, os.X_OK) for path in _NETAVARK):
        return "netavark"
    for directory in _PLUGIN_DIRECTORIES:
        if all(os.access(os.path.join(directory, name), os.X_OK) for name in _PLUGINS) and shutil.which("iptables"):
            return "cni"
    return ""


def limit(hard: int, most: int) -> str:
    """As containers.conf says it: soft and hard limit."""
    value = most if hard == resource.RLIM_INFINITY else min(hard, most)
    return f"{value}:{value}"


def _run(argv: list[str], environment: dict[str, str] | None = None) -> str:
    done = subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PodmanFailed(f"{' '.join(argv[:6])} ...: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
