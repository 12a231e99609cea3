"""The raw limit: what this machine needs for a Pod without Podling.

The same bundle, made by the same system calls and programs, and nothing else: new network, IPC and UTS namespaces
pinned by bind mounts, the Pod's /dev/shm, an overlay of the image's layers, conmon, crun create, crun start. No API
server, no kubelet, no records, no address in the network namespace. Straight-line code in threads, so that as little as
possible of Python is measured.

Run it alone (as root): `python bench/raw.py`; the bench imports `measure`. The state of the machine counts: moving a
process into a cgroup takes some 10 ms unless cgroup2 is mounted with favordynmods, which Podling's runtime does when it
starts; `measure` leaves that as it finds it, so run it beside a running Podling for a fair ratio.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import socket
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from podling.runtime.native import spec, syscalls
from podling.runtime.native.cgroup import Cgroups
from podling.runtime.native.user import User
from podling.runtime.protocol import ContainerConfig, ContainerMetadata, ImageConfig

_ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}


class Raw(msgspec.Struct, frozen=True):
    one_by_one: list[float]
    """Seconds of each Pod, from nothing to its process started."""
    burst: int
    burst_seconds: float

    @property
    def p50(self) -> float:
        return statistics.median(self.one_by_one)

    @property
    def pods_per_second(self) -> float:
        return self.burst / self.burst_seconds


def measure(
    layers: Sequence[Path],
    command: Sequence[str],
    *,
    count: int = 20,
    burst: int = 30,
    parallel: int = 8,
    directory: Path | None = None,
    runtime: str = "crun",
    image: ImageConfig | None = None,
) -> Raw:
    """Starts `count` Pods one after the other, then `burst` Pods with `parallel` threads; removes them all.

    `layers` are the image's directories, topmost first; `directory` is where the Pods are made, best on the file system
    that Podling uses. Raises RuntimeError when a container cannot be started.
    """
    with tempfile.TemporaryDirectory(dir=directory, prefix="raw-") as made:
        bench = RawPods(Path(made), layers, command, runtime, image or ImageConfig())
        try:
            durations = []
            for number in range(count):
                begin = time.perf_counter()
                bench.start(f"one{number}")
                durations.append(time.perf_counter() - begin)
                bench.remove(f"one{number}")
            with ThreadPoolExecutor(parallel, initializer=syscalls.unshare, initargs=(syscalls.CLONE_FS,)) as pool:
                names = [f"burst{number}" for number in range(burst)]
                begin = time.perf_counter()
                list(pool.map(bench.start, names))
                burst_seconds = time.perf_counter() - begin
                list(pool.map(bench.remove, names))
            return Raw(durations, burst, burst_seconds)
        finally:
            bench.close()


class RawPods:
    """Starts and removes Pods, for those who want to take turns with them."""

    def __init__(
        self,
        directory: Path,
        layers: Sequence[Path],
        command: Sequence[str],
        runtime: str,
        image: ImageConfig,
        *,
        run_directory: Path | None = None,
    ) -> None:
        """`run_directory` is for what need not outlive the machine: on a tmpfs if Podling's is on one."""
        self._data = directory
        self._directory = run_directory or directory
        self._layers = ":".join(map(str, layers))
        self._command = list(command)
        self._image = image
        self._runtime = shutil.which(runtime) or runtime
        self._conmon = shutil.which("conmon") or "conmon"
        self._cgroup = f"/{directory.name}"
        self._cgroups = Cgroups()
        self._pods: set[str] = set()
        (self._directory / "exits").mkdir()
        # On a read-only mount the OCI runtime need not copy itself into memory at each start.
        program = self._directory / "runtime"
        program.touch()
        syscalls.bind(self._runtime, program)
        syscalls.mount("none", program, "", syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
        self._runtime = str(program)

    def start(self, name: str) -> None:
        pod, data = self._directory / name, self._data_of(name)
        for path in (pod, data):
            path.mkdir()
        self._pods.add(name)
        failures: list[BaseException] = []
        namespaces = threading.Thread(target=self._namespaces, args=(pod, name, failures))
        namespaces.start()
        shm, root = pod / "shm", pod / "rootfs"
        for path in (shm, root, data / "upper", data / "work"):
            path.mkdir()
        flags = syscalls.MS_NOSUID | syscalls.MS_NODEV | syscalls.MS_NOEXEC
        syscalls.mount("shm", shm, "tmpfs", flags, "mode=1777,size=67108864")
        options = f"lowerdir={self._layers},upperdir={data}/upper,workdir={data}/work,volatile"
        syscalls.mount("overlay", root, "overlay", 0, options)
        (pod / "config.json").write_bytes(self._spec(pod, name))
        namespaces.join()
        if failures:
            raise failures[0]
        self._create(pod, name)
        self._run([self._runtime, "--root", f"{self._directory}/oci", "start", name])

    def _data_of(self, name: str) -> Path:
        return self._data / f"{name}.data"

    def _namespaces(self, pod: Path, name: str, failures: list[BaseException]) -> None:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS)
            socket.sethostname(name)
            for kind in ("net", "ipc", "uts"):
                os.close(os.open(pod / kind, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC))
                syscalls.bind(f"/proc/thread-self/ns/{kind}", pod / kind)
        except BaseException as error:
            failures.append(error)

    def _spec(self, pod: Path, name: str) -> bytes:
        return msgspec.json.encode(
            spec.build(
                ContainerConfig(metadata=ContainerMetadata(name=name), image="", command=self._command),
                self._image,
                User(0, 0, [0], "/root"),
                spec.SandboxFiles(
                    namespaces={
                        "network": f"{pod}/net",
                        "ipc": f"{pod}/ipc",
                        "uts": f"{pod}/uts",
                        "pid": "",
                    },
                    shm=f"{pod}/shm",
                    hostname=name,
                ),
                rootfs=f"{pod}/rootfs",
                cgroup=f"{self._cgroup}/{name}/container",
                cgroup_mode=self._cgroups.mode,
                mounts=[],
            )
        )

    def _create(self, pod: Path, name: str) -> None:
        argv = [self._conmon, "--api-version", "1", "-c", name, "-u", name, "-n", name, "-r", self._runtime]
        argv += [
            "-b",
            str(pod),
            "-p",
            f"{pod}/pidfile",
            "-P",
            f"{pod}/conmon.pid",
            "-l",
            f"k8s-file:{self._data_of(name)}/log",
        ]
        argv += ["--exit-dir", f"{self._directory}/exits", "--persist-dir", str(pod), "--full-attach", "--no-sync-log"]
        argv += ["--runtime-arg", "--root", "--runtime-arg", f"{self._directory}/oci"]
        read_end, write_end = os.pipe2(os.O_CLOEXEC)
        try:
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDWR, 0),
                (os.POSIX_SPAWN_DUP2, 0, 1),
                (os.POSIX_SPAWN_DUP2, 0, 2),
                (os.POSIX_SPAWN_DUP2, write_end, 3),
            ]
            pid = os.posix_spawn(argv[0], argv, {**_ENVIRONMENT, "_OCI_SYNCPIPE": "3"}, file_actions=actions)
            os.close(write_end)
            answer = os.read(read_end, 65536)
            os.waitpid(pid, 0)
        finally:
            os.close(read_end)
        if msgspec.json.decode(answer or b'{"data":-1}').get("data", -1) <= 0:
            raise RuntimeError(f"cannot create a container: {answer.decode(errors='replace')}")

    def _run(self, argv: list[str]) -> None:
        actions = [(os.POSIX_SPAWN_OPEN, fd, "/dev/null", os.O_RDWR, 0) for fd in (0, 1)]
        pid = os.posix_spawn(argv[0], argv, _ENVIRONMENT, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        if status != 0:
            raise RuntimeError(f"{' '.join(argv)} failed")

    def remove(self, name: str) -> None:
        pod = self._directory / name
        subprocess.run(
            [self._runtime, "--root", f"{self._directory}/oci", "delete", "--force", name],
            check=False,
            capture_output=True,
        )
        self._cgroups.remove(f"{self._cgroup}/{name}")
        for target in ("rootfs", "shm", "net", "ipc", "uts"):
            while syscalls.umount(pod / target):
                pass
        # conmon still writes its exit file.
        with contextlib.suppress(ProcessLookupError, FileNotFoundError, ValueError):
            _wait(int((pod / "conmon.pid").read_text()))
        for path in (pod, self._data_of(name)):
            shutil.rmtree(path, ignore_errors=True)
        self._pods.discard(name)

    def close(self) -> None:
        for name in list(self._pods):
            self.remove(name)
        self._cgroups.remove(self._cgroup)
        syscalls.umount(self._directory / "runtime")


def _wait(pid: int) -> None:
    fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        poll.poll(5000)
    finally:
        os.close(fd)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="raw-image-") as made:
        layer = Path(made)
        (layer / "bin").mkdir()
        busybox = shutil.which("busybox")
        if busybox is None:
            raise SystemExit("busybox is not installed")
        shutil.copy(busybox, layer / "bin" / "sleep")
        result = measure([layer], ["/bin/sleep", "1000"])
    print(f"one by one: p50 {result.p50 * 1000:.1f} ms")
    print(f"{result.burst} in parallel: {result.pods_per_second:.1f} Pods/s")


if __name__ == "__main__":
    main()
