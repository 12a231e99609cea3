"""Pod sandboxes: namespaces, network, /dev/shm and the files that the containers of a Pod share."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from podling.kit import file_error, oom_score
from podling.runtime.native import namespaces, oci, sysctl
from podling.runtime.native.host import Host, together
from podling.runtime.native.monitor import ProcessWatch
from podling.runtime.native.oci import OCIRuntime
from podling.runtime.native.spec import SandboxFiles, attainable_oom_score_adj
from podling.runtime.native.state import Process, SandboxPhase, SandboxRecord
from podling.runtime.protocol import (
    CRIError,
    DNSConfig,
    NamespaceMode,
    SandboxConfig,
    SandboxState,
    SandboxStatus,
)

if TYPE_CHECKING:
    from podling.runtime.native.container import Container

log = logging.getLogger(__name__)

_OPEN_NETWORK = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv4.ping_group_range": "0 2147483647"}
"""In a network of its own a Pod's processes may ping and take low ports without capabilities, as in containerd."""


class Sandbox:
    def __init__(self, host: Host, record: SandboxRecord) -> None:
        self._host = host
        self.record = record
        self.containers: dict[str, Container] = {}
        self.lock = asyncio.Lock()
        """Held while it is stopped or removed, and while a container is added."""
        self._pause: ProcessWatch | None = None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def pod_uid(self) -> str:
        return self.record.config.metadata.uid

    @property
    def ready(self) -> bool:
        return self.record.phase == SandboxPhase.READY

    @property
    def _directory(self) -> Path:
        return self._host.layout.sandboxes / self.id

    @property
    def own_network(self) -> bool:
        return self.record.config.namespaces.network != NamespaceMode.NODE

    @property
    def netns_path(self) -> str:
        return str(self._directory / "net") if self.own_network else ""

    @property
    def hostname(self) -> str:
        return self.record.config.hostname or socket.gethostname()

    def _kinds(self) -> frozenset[str]:
        kinds = set()
        if self.own_network:
            kinds.add("net")
        if self.record.config.namespaces.ipc != NamespaceMode.NODE:
            kinds.add("ipc")
        if self.record.config.hostname:
            kinds.add("uts")
        return frozenset(kinds)

    @property
    def runtime(self) -> OCIRuntime:
        return self._host.runtime_of(self.record.handler)

    # life

    async def create(self) -> None:
        """Makes what the record describes. Raises CRIError; then nothing is left."""
        try:
            await self._host.workers.run(self._prepare)
            if self.record.config.namespaces.pid == NamespaceMode.POD:
                await self._start_pause()
            if self.own_network:
                self.record.ips = await self._host.network.setup(self.id, self.netns_path, self.record.config)
            self.record.phase = SandboxPhase.READY
            await self._host.workers.run(self._host.records.write_sandbox, self.record)
            self.look()
        except BaseException:
            await self.destroy()
            raise

    def _prepare(self) -> None:
        config = self.record.config
        kinds = self._kinds()
        sysctls = sysctl.check(config.sysctls, kinds)
        if "net" in kinds:
            sysctls = {**_OPEN_NETWORK, **sysctls}
        self._directory.mkdir(mode=0o711)
        namespaces.create(self._directory, kinds, config.hostname, sysctls, meanwhile=self._write_files)

    def _write_files(self) -> None:
        config = self.record.config
        self._host.records.write_sandbox(self.record)
        if config.namespaces.ipc != NamespaceMode.NODE:
            namespaces.mount_shm(self._directory / "shm")
        if config.hostname:
            (self._directory / "hostname").write_text(config.hostname + "\n")
        resolv_conf = _resolv_conf(config.dns)
        if resolv_conf:
            (self._directory / "resolv.conf").write_text(resolv_conf)

    async def stop(self) -> None:
        """Kills its containers and gives the network back. Idempotent. Raises CRIError when a container does not end."""
        async with self.lock:
            if self.record.phase == SandboxPhase.STOPPED:
                return
            await together(container.stop(0) for container in self.containers.values())
            await self._finish_stop()

    async def _finish_stop(self) -> None:
        # A sandbox whose network is gone in part must not count as ready, should this be cut short.
        self.record.phase = SandboxPhase.STOPPING
        await self._host.workers.run(self._note)
        await self._release()
        self.record.phase = SandboxPhase.STOPPED
        await self._host.workers.run(self._note)

    def _note(self) -> None:
        """Writes the record of a sandbox that stops; on a full disk it goes, since stopping is what makes room."""
        try:
            self._host.records.write_sandbox(self.record)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            # Without a record, an agent that starts now clears up all that is left of the sandbox.
            log.warning("sandbox %s: it stops without a record: %s", self.id, file_error.reason(error))
            self._host.records.remove_sandbox(self.id)

    async def _release(self) -> None:
        await self._stop_pause()
        if self.own_network:
            await self._host.network.teardown(self.id, self.netns_path, self.record.config)
        await self._host.workers.run(namespaces.unpin, self._directory)

    async def destroy(self) -> None:
        """Removes everything but the containers, whatever is there of it; the record goes last. Idempotent."""
        if self.record.phase != SandboxPhase.STOPPED:
            await self._release()
        await self._host.workers.run(remove_traces, self._host, self.id)

    # the pause process, for a shared PID namespace

    @property
    def _pause_bundle(self) -> Path:
        return self._host.layout.pause / self.id

    @property
    def _pause_cgroup(self) -> str:
        return f"{self.record.config.cgroup_parent.rstrip('/')}/{self.id}"

    async def _start_pause(self) -> None:
        """A container of the OCI runtime's, so that the Pod's processes cannot reach the host through /proc/1/root."""
        runtime = self.runtime
        catatonit = oci.find("catatonit")
        pid_file = self._pause_bundle / "pidfile"

        def start() -> Process:
            self._write_pause_bundle(catatonit)
            done = runtime.command("create", "--bundle", str(self._pause_bundle), "--pid-file", str(pid_file), self.id)
            if done.exit_code != 0:
                raise CRIError("NamespaceError", f"cannot start the Pod's pause process: {oci.explain(done.stderr)}")
            runtime.start(self.id)
            pid = int(pid_file.read_text())
            namespaces.pin(f"/proc/{pid}/ns/pid", self._directory / "pid")
            return Process.of(pid)

        self.record.pause = await self._host.workers.run(start)

    def _write_pause_bundle(self, catatonit: str) -> None:
        bundle = self._pause_bundle
        (bundle / "rootfs").mkdir(parents=True)
        joined = [
            {"type": {"net": "network"}.get(kind, kind), "path": str(self._directory / kind)}
            for kind in sorted(self._kinds())
        ]
        score = attainable_oom_score_adj(oom_score.NEUTRAL)
        spec = {
            "ociVersion": "1.0.2",
            "process": {
                "args": ["/catatonit", "-P"],
                "cwd": "/",
                "user": {"uid": 65535, "gid": 65535},
                "noNewPrivileges": True,
                "capabilities": {},
                **({} if score is None else {"oomScoreAdj": score}),
            },
            "root": {"path": "rootfs", "readonly": True},
            "mounts": [
                {
                    "destination": "/proc",
                    "type": "proc",
                    "source": "proc",
                    "options": ["nosuid", "noexec", "nodev", "ro"],
                },
                {
                    "destination": "/dev",
                    "type": "tmpfs",
                    "source": "tmpfs",
                    "options": ["nosuid", "noexec", "size=64k"],
                },
                {"destination": "/catatonit", "type": "bind", "source": catatonit, "options": ["bind", "ro"]},
            ],
            "linux": {
                "cgroupsPath": self._pause_cgroup,
                "namespaces": [{"type": "mount"}, {"type": "pid"}, *joined],
                "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            },
        }
        (bundle / "config.json").write_bytes(msgspec.json.encode(spec))

    def look(self) -> None:
        """Stop the sandbox if its pause process has ended; a look or a stop that fails is repeated."""
        has_pause = self.record.config.namespaces.pid == NamespaceMode.POD
        if not has_pause or self.lock.locked() or self.record.phase not in (SandboxPhase.READY, SandboxPhase.STOPPING):
            return
        try:
            if self._pause is None and self.ready:
                self._pause = ProcessWatch(self.record.pause, self.look)
        except OSError as error:
            log.warning(
                "sandbox %s: whether its pause process has ended is looked at again: %s",
                self.id,
                file_error.reason(error),
            )
            self._host.second_look.again(self)
            return
        if self._pause is None or self._pause.over:
            log.warning("sandbox %s: the pause process has ended", self.id)
            self._host.tasks.start(self._stop_or_look_again(), f"stop sandbox {self.id}")

    async def _stop_or_look_again(self) -> None:
        try:
            await self.stop()
        except (CRIError, OSError) as error:
            log.warning("sandbox %s: it is stopped again: %s", self.id, file_error.reason(error))
            self._host.second_look.again(self)

    async def _stop_pause(self) -> None:
        if self._pause is not None:
            watch, self._pause = self._pause, None
            watch.signal(signal.SIGKILL)
            watch.close()
        if self.record.config.namespaces.pid == NamespaceMode.POD:
            await self._host.workers.run(self.runtime.delete, self.id)
            await self._host.workers.run(self._host.cgroups.remove, self._pause_cgroup)

    # adoption after the agent has started anew

    async def adopt(self) -> bool:
        """Takes over what an earlier agent left. False: it was incomplete and is gone."""
        if self.record.phase == SandboxPhase.CREATING:
            await self.destroy()
            return False
        if self.record.boot_id != self._host.boot_id:
            # Its namespaces went with the machine; the network plugin still holds its address.
            self.record.boot_id = self._host.boot_id
            if self.record.phase != SandboxPhase.STOPPED:
                await self._finish_stop()
            await self._host.workers.run(remove_directory, self._host, self.id)
        elif self.record.phase == SandboxPhase.STOPPING:
            await self._finish_stop()
        elif self.ready and self.record.config.namespaces.pid == NamespaceMode.POD:
            self.look()
        return True

    def close(self) -> None:
        if self._pause is not None:
            self._pause.close()
            self._pause = None

    # what others see

    def files(self) -> SandboxFiles:
        """What a container joins and mounts; the PID namespace is the container's own matter."""
        joined = {kind: str(self._directory / kind) for kind in self._kinds()}
        if "net" in joined:
            joined["network"] = joined.pop("net")
        hostname, resolv_conf = self._directory / "hostname", self._directory / "resolv.conf"
        return SandboxFiles(
            namespaces=joined,
            shm=str(self._directory / "shm") if "ipc" in joined else "/dev/shm",
            hostname_file=str(hostname) if hostname.exists() else "",
            resolv_conf=str(resolv_conf) if resolv_conf.exists() else "",
            hostname=self.hostname,
        )

    @property
    def pid_namespace(self) -> str:
        return str(self._directory / "pid")

    def status(self) -> SandboxStatus:
        config = self.record.config
        return SandboxStatus(
            id=self.id,
            metadata=config.metadata,
            state=SandboxState.READY if self.ready else SandboxState.NOT_READY,
            created_at=self.record.created_at,
            ips=list(self.record.ips),
            labels=config.labels,
            annotations=config.annotations,
            netns_path=self.netns_path,
        )


def new_record(sandbox_id: str, config: SandboxConfig, handler: str, boot_id: str) -> SandboxRecord:
    return SandboxRecord(
        id=sandbox_id,
        config=config,
        phase=SandboxPhase.CREATING,
        created_at=time.time_ns(),
        boot_id=boot_id,
        handler=handler,
    )


def remove_traces(host: Host, sandbox_id: str) -> None:
    """Unmounts and deletes what is named after a sandbox. Idempotent; blocking. The record goes last."""
    remove_directory(host, sandbox_id)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(host.layout.pause / sandbox_id)
    host.records.remove_sandbox(sandbox_id)


def remove_directory(host: Host, sandbox_id: str) -> None:
    directory = host.layout.sandboxes / sandbox_id
    namespaces.unpin(directory)
    namespaces.unmount_shm(directory / "shm")
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(directory)


def _resolv_conf(dns: DNSConfig | None) -> str:
    if dns is None:
        return ""
    lines = []
    if dns.searches:
        lines.append("search " + " ".join(dns.searches))
    lines += [f"nameserver {server}" for server in dns.servers]
    if dns.options:
        lines.append("options " + " ".join(dns.options))
    return "".join(line + "\n" for line in lines)
