"""Containers: from the image's layers and a configuration to a process and its exit code.

create makes the root file system and the OCI bundle; no process exists before start, which has conmon and the OCI
runtime create and start the container. So whatever a user can get wrong (a command that does not exist, a mount that
cannot be) fails in start, with the OCI runtime's message in the container's status, as with containerd.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from pathlib import Path

import msgspec

from podling.kit import file_error
from podling.runtime import tree
from podling.runtime.native import bundle, oci, stop_signal
from podling.runtime.native.host import Host
from podling.runtime.native.monitor import Exit, ProcessWatch, conmon_of, reopen_log
from podling.runtime.native.sandbox import Sandbox
from podling.runtime.native.spec import SandboxFiles
from podling.runtime.native.state import ContainerPhase, ContainerRecord, Process
from podling.runtime.protocol import (
    ContainerConfig,
    ContainerState,
    ContainerStats,
    ContainerStatus,
    CRIError,
    EventType,
    Image,
    LinuxResources,
    Mount,
    NamespaceMode,
)

log = logging.getLogger(__name__)

KILL_TIMEOUT = 30.0
"""Seconds after SIGKILL in which a process must be gone; a longer wait means that it hangs in the kernel."""

_LAST_LOOKS = (0.0, 0.1, 0.4, 1.6)
"""Seconds before each try to clear up after an exit; it is told after the last one, whatever that saw."""

_STATES = {
    ContainerPhase.CREATING: ContainerState.CREATED,
    ContainerPhase.CREATED: ContainerState.CREATED,
    ContainerPhase.STARTING: ContainerState.CREATED,
    ContainerPhase.RUNNING: ContainerState.RUNNING,
    ContainerPhase.EXITED: ContainerState.EXITED,
}


class Container:
    def __init__(self, host: Host, sandbox: Sandbox, record: ContainerRecord) -> None:
        self._host = host
        self.sandbox = sandbox
        self.record = record
        self._lock = asyncio.Lock()
        """Held while it is created, started or removed."""
        self._exited = asyncio.Event()
        self._finishing: asyncio.Task[None] | None = None
        self._process: ProcessWatch | None = None
        self._conmon: ProcessWatch | None = None
        self.targets: dict[str, Container] = {}
        """Other containers by ID, for a PID namespace of mode TARGET."""
        if record.phase == ContainerPhase.EXITED:
            self._exited.set()

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def bundle(self) -> Path:
        return self._host.layout.bundles / self.id

    @property
    def running(self) -> bool:
        return self.record.phase == ContainerPhase.RUNNING

    @property
    def made(self) -> bool:
        return self.record.phase != ContainerPhase.CREATING

    @property
    def own_pid_namespace(self) -> bool:
        return self.record.config.security.namespaces.pid == NamespaceMode.CONTAINER

    @property
    def _directory(self) -> Path:
        return self._host.records.container_dir(self.id)

    async def _save(self) -> None:
        await self._host.workers.run(self._host.records.write_container, self.record)

    def _publish(self, kind: EventType) -> None:
        self._host.events.publish(kind, self.id, self.sandbox.id, self.sandbox.pod_uid)

    # create

    async def create(self, image: Image) -> None:
        """Mounts the root file system and writes the bundle. Raises CRIError; then nothing is left."""
        async with self._lock:
            record = self.record
            record.image_id = image.id
            record.image_name = next(iter(image.repo_tags), image.id)
            record.image_ref = next(iter(image.repo_digests), image.id)
            record.stop_signal = stop_signal.canonical(
                record.config.stop_signal or image.config.stop_signal or "SIGTERM"
            )
            if image.artifact:
                raise CRIError(
                    "CreateContainerError",
                    f'"{record.image_name}" is an OCI artifact without a root file system: only an image volume can mount it',
                )
            layers = await self._host.images.layers(image.id)
            image_mounts = {
                index: await self._image_layers(mount)
                for index, mount in enumerate(record.config.mounts)
                if mount.image
            }
            try:
                await self._host.workers.run(self._prepare, image, layers, image_mounts)
            except BaseException as error:
                await self._host.workers.run(bundle.remove_traces, self._host, self.id)
                if isinstance(error, OSError):
                    raise CRIError(
                        "CreateContainerError", f"cannot make the container: {file_error.reason(error)}"
                    ) from error
                raise
            self._publish(EventType.CREATED)

    async def _image_layers(self, mount: Mount) -> list[Path]:
        image = await self._host.images.image_status(mount.image)
        if image is None:
            raise CRIError("CreateContainerError", f"image {mount.image} of a volume is not present")
        return await self._host.images.layers(image.id)

    def _prepare(self, image: Image, layers: list[Path], volumes: dict[int, list[Path]]) -> None:
        bundle.make(self._host, self.record, self._files(), image, layers, volumes)
        self.record.phase = ContainerPhase.CREATED
        self._host.records.write_container(self.record)

    def _files(self) -> SandboxFiles:
        files = self.sandbox.files()
        option = self.record.config.security.namespaces
        joined = dict(files.namespaces)
        if option.pid == NamespaceMode.CONTAINER:
            joined["pid"] = ""
        elif option.pid == NamespaceMode.POD:
            joined["pid"] = self.sandbox.pid_namespace
        elif option.pid == NamespaceMode.TARGET:
            target = self.targets.get(option.target_id)
            if target is None or not target.running:
                raise CRIError("CreateContainerError", f"target container {option.target_id} is not running")
            joined["pid"] = f"/proc/{target.record.process.pid}/ns/pid"
        return msgspec.structs.replace(files, namespaces=joined)

    # start

    async def start(self) -> None:
        """Raises CRIError: with reason StartError, the container has exited with code 128 and that message."""
        async with self._lock:
            record = self.record
            if record.phase != ContainerPhase.CREATED:
                raise CRIError("InvalidState", f"container {self.id} is in state {record.phase}, not created")
            if not self.sandbox.ready:
                raise CRIError("InvalidState", f"sandbox {self.sandbox.id} is not ready")
            record.phase = ContainerPhase.STARTING
            record.started_at = time.time_ns()
            try:
                started = await self._host.workers.run(self._start)
            except (CRIError, OSError) as error:
                message = oci.create_error(
                    oci.explain(error.message if isinstance(error, CRIError) else file_error.reason(error))
                )
                await self._start_failed(message)
                raise CRIError("StartError", message) from error
            self.record = started
            self._publish(EventType.STARTED)
            self.look()  # it may have ended before it counted as running

    def _start(self) -> ContainerRecord:
        """All in one thread, since each change of thread costs 0.1 ms; returns the record of the running container."""
        record, config, runtime = self.record, self.record.config, self.sandbox.runtime
        self._host.records.write_container(record)
        process, conmon = self._host.conmon(runtime).create(
            self.id,
            config.metadata.name,
            self.bundle,
            record.log_path,
            tty=config.tty,
            stdin=config.stdin,
            stdin_once=config.stdin_once,
        )
        runtime.start(self.id)
        started = msgspec.structs.replace(
            record, phase=ContainerPhase.RUNNING, started_at=time.time_ns(), process=process, conmon=conmon
        )
        self._host.records.write_container(started)
        return started

    async def _start_failed(self, message: str) -> None:
        record = self.record

        def clean() -> None:
            conmon_of(self.bundle).kill()
            self.sandbox.runtime.delete(self.id)

        # What was begun must not run on unknown, however short the machine is of descriptors.
        tasks, workers = self._host.tasks, self._host.workers
        await tasks.insist(lambda: workers.run(clean), f"cleaning up after the start of container {self.id}")
        record.phase = ContainerPhase.EXITED
        record.exit_code, record.reason, record.message = 128, "StartError", message
        record.finished_at = time.time_ns()
        record.process = Process()
        self._exited.set()
        self._publish(EventType.STOPPED)
        try:
            await self._save()
        except OSError as error:  # an agent that starts now tries the container again
            log.warning("container %s: its failed start is not recorded: %s", self.id, file_error.reason(error))

    # exit

    def look(self) -> None:
        """Take note of the exit if the container has ended. Events only hint at it; a look that fails is repeated."""
        if self.record.phase != ContainerPhase.RUNNING or self._finishing is not None:
            return
        try:
            # pidfds: to signal the very process, and to notice a conmon that died without an exit code.
            if self._process is None:
                self._process = ProcessWatch(self.record.process, lambda: None)
            if self._conmon is None:
                self._conmon = ProcessWatch(self.record.conmon, self.look)
            conmon_over = self._conmon.over  # asked first: conmon writes the exit file before it ends
            ended = self._host.exits.read(self.id)
        except OSError as error:
            log.warning("container %s: whether it has ended is looked at again: %s", self.id, file_error.reason(error))
            self._host.second_look.again(self)
            return
        if ended is None and conmon_over:
            log.warning("container %s: conmon has died, its exit code is lost", self.id)
        if ended is not None or conmon_over:
            self._finishing = self._host.tasks.start(self._end(ended), f"end of container {self.id}")

    async def _end(self, ended: Exit | None) -> None:
        record = self.record

        def last_look() -> int:
            if ended is None or not self.own_pid_namespace:
                # The kernel ends what is left in a PID namespace of the container's own; here nobody would.
                self._host.cgroups.kill(record.cgroup)
            return self._host.cgroups.oom_kills(record.cgroup)

        oom_kills = 0
        for again_in in _LAST_LOOKS:
            await asyncio.sleep(again_in)
            try:
                oom_kills = await self._host.workers.run(last_look)
                break
            except OSError as error:  # the exit must be told all the same
                log.warning("container %s: %s", self.id, file_error.reason(error))
        if ended is None or ended.code < 0:
            record.exit_code, record.reason = 137, "ContainerStatusUnknown"
            record.message = "The container's monitor died, its exit status is not known"
            record.finished_at = time.time_ns()
        else:
            record.exit_code, record.finished_at = ended.code, ended.time
            record.reason = "Completed" if ended.code == 0 else "OOMKilled" if oom_kills else "Error"
        # A process can end before `start` has returned, and a file's time is some milliseconds coarse.
        record.started_at = min(record.started_at, record.finished_at)
        record.phase = ContainerPhase.EXITED
        self._exited.set()
        self._publish(EventType.STOPPED)
        await self._host.workers.run(self._after_end)

    def _after_end(self) -> None:
        """What fails here is made good: the exit file stays until the container is removed, which deletes the rest."""
        try:
            self._host.records.write_container(self.record)
        finally:
            self.sandbox.runtime.delete(self.id)

    # stop

    async def stop(self, grace_seconds: float) -> None:
        """Returns when it has exited. Idempotent. Raises CRIError when even SIGKILL does not end it."""
        if self.record.phase == ContainerPhase.STARTING:
            async with self._lock:
                pass
        self.look()
        if not self.running:
            return
        try:
            if self._process is None:
                self._process = ProcessWatch(self.record.process, lambda: None)
        except OSError as error:
            raise CRIError(
                "StopContainerError", f"container {self.id} cannot be signalled: {error.strerror}"
            ) from error
        if grace_seconds > 0:
            self._process.signal(stop_signal.number_of(self.record.stop_signal))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_seconds):
                    await self._exited.wait()
                    return
        if self._process is not None:  # by now it may have been removed
            self._process.signal(signal.SIGKILL)
        try:
            async with asyncio.timeout(KILL_TIMEOUT):
                if not self.own_pid_namespace:
                    await self._host.workers.run(self._host.cgroups.kill, self.record.cgroup, KILL_TIMEOUT)
                await self._exited.wait()
        except TimeoutError:
            raise CRIError("DeadlineExceeded", f"container {self.id} does not end after SIGKILL") from None
        except OSError as error:
            raise CRIError("StopContainerError", f"container {self.id} cannot be killed: {error.strerror}") from error

    # remove

    async def remove(self) -> None:
        """Kills it if it runs; nothing of it remains but its log. Idempotent."""
        await self.stop(0)
        async with self._lock:
            if self._finishing is not None:
                await asyncio.wait([self._finishing])
            if self._conmon is not None:
                try:
                    async with asyncio.timeout(5):
                        await self._conmon.ended()
                except TimeoutError:
                    self._conmon.signal(signal.SIGKILL)  # a descendant holds its pipes
            self.close()
            await self._host.workers.run(self._remove)
        self._publish(EventType.DELETED)

    def _remove(self) -> None:
        if (self.sandbox.runtime.root / self.id).exists():
            self.sandbox.runtime.delete(self.id)
        self._host.cgroups.remove(self.record.cgroup)
        bundle.remove_traces(self._host, self.id)

    def close(self) -> None:
        """Lets go of descriptors; the container goes on."""
        for watch in (self._process, self._conmon):
            if watch is not None:
                watch.close()
        self._process = self._conmon = None

    # adoption after the agent has started anew

    async def adopt(self) -> bool:
        """Takes over what an earlier agent left. False: it was incomplete and is gone.

        Programs that the earlier agent had started have ended by now.
        """
        record = self.record
        same_boot = record.boot_id == self._host.boot_id
        if record.phase == ContainerPhase.CREATED and not (same_boot and await self._host.workers.run(self._mounted)):
            await self._host.workers.run(self._remove)
            return False
        if not same_boot:
            await self._lost_with_the_machine()
        elif record.phase == ContainerPhase.STARTING:
            await self._adopt_starting()
        elif record.phase == ContainerPhase.RUNNING:
            await self._adopt_running()
        elif record.phase == ContainerPhase.EXITED and (self.sandbox.runtime.root / self.id).exists():
            await self._host.workers.run(self.sandbox.runtime.delete, self.id)
        return True

    def _mounted(self) -> bool:
        """False after a removal that was cut short."""
        return os.path.ismount(self.bundle / "rootfs")

    async def _lost_with_the_machine(self) -> None:
        record = self.record
        record.boot_id = self._host.boot_id
        if record.phase != ContainerPhase.EXITED:
            ended = self._host.exits.read(self.id) or Exit(255, time.time_ns())
            record.exit_code, record.finished_at, record.reason = ended.code, ended.time, "Unknown"
            record.phase = ContainerPhase.EXITED
            record.process = record.conmon = Process()
            self._exited.set()

        def clean() -> None:
            bundle.remove(self._host, self.id)
            self.sandbox.runtime.forget(self.id)

        await self._host.workers.run(clean)
        await self._save()

    async def _adopt_starting(self) -> None:
        """A start that was cut short: complete if the process has begun, else as if it had never been asked for."""
        record = self.record
        record.conmon = conmon_of(self.bundle)
        with contextlib.suppress(FileNotFoundError, ValueError):
            record.process = Process.of(int((self.bundle / "pidfile").read_text()))
        state = await self._host.workers.run(self.sandbox.runtime.state, self.id)
        if state in ("running", "stopped") and (record.conmon.alive() or self._host.exits.read(self.id)):
            record.phase = ContainerPhase.RUNNING
            await self._adopt_running()
            return
        record.conmon.kill()
        await self._host.workers.run(self.sandbox.runtime.delete, self.id)
        await self._host.workers.run(self._host.cgroups.remove, record.cgroup)
        (self._host.layout.exits / self.id).unlink(missing_ok=True)
        record.phase, record.started_at = ContainerPhase.CREATED, 0
        record.process = record.conmon = Process()
        await self._save()

    async def _adopt_running(self) -> None:
        self.look()
        if self._finishing is not None:
            await self._finishing
        else:
            await self._save()

    # other operations

    async def update_resources(self, resources: LinuxResources) -> None:
        """Raises CRIError when the kernel refuses a value."""
        if self.record.phase != ContainerPhase.RUNNING:
            raise CRIError("InvalidState", f"container {self.id} is not running")
        try:
            await self._host.workers.run(self._host.cgroups.apply, self.record.cgroup, resources)
        except OSError as error:
            raise CRIError(
                "UpdateFailed", f"cannot change the resources of container {self.id}: {file_error.reason(error)}"
            ) from error
        changed = {name: value for name, value in msgspec.structs.asdict(resources).items() if value not in (None, {})}
        self.record.resources = msgspec.structs.replace(self.record.resources, **changed)
        await self._save()

    async def reopen_log(self) -> None:
        if not self.running:
            raise CRIError("InvalidState", f"container {self.id} is not running")
        await self._host.workers.run(reopen_log, self.bundle, Path(self.record.log_path))

    async def stats(self) -> ContainerStats:
        def read() -> ContainerStats:
            used = self._host.cgroups.stats(self.record.cgroup)
            size, inodes = tree.usage(self._directory / "upper")
            return ContainerStats(
                id=self.id,
                metadata=self.record.config.metadata,
                timestamp=time.time_ns(),
                cpu_usage_core_ns=used.cpu_usage_ns,
                memory_working_set=used.memory_working_set,
                memory_usage=used.memory_usage,
                memory_rss=used.memory_rss,
                writable_layer_bytes=size,
                writable_layer_inodes=inodes,
            )

        try:
            return await self._host.workers.run(read)
        except FileNotFoundError as error:
            raise CRIError("NotRunning", f"container {self.id} is not running") from error

    def status(self) -> ContainerStatus:
        r = self.record
        return ContainerStatus(
            id=r.id,
            sandbox_id=r.sandbox_id,
            metadata=r.config.metadata,
            state=_STATES[r.phase],
            created_at=r.created_at,
            started_at=r.started_at if r.phase in (ContainerPhase.RUNNING, ContainerPhase.EXITED) else 0,
            finished_at=r.finished_at,
            exit_code=r.exit_code,
            reason=r.reason,
            message=r.message,
            image=r.image_name,
            image_ref=r.image_ref,
            image_id=r.image_id,
            labels=r.config.labels,
            annotations=r.config.annotations,
            log_path=r.log_path,
            pid=r.process.pid if r.phase == ContainerPhase.RUNNING else 0,
            stop_signal=r.stop_signal,
            resources=r.resources,
            user=r.user,
            mounts=r.config.mounts,
        )


def new_record(container_id: str, sandbox: Sandbox, config: ContainerConfig, boot_id: str) -> ContainerRecord:
    parent = sandbox.record.config
    log_path = os.path.join(parent.log_directory, config.log_path) if config.log_path else ""
    return ContainerRecord(
        id=container_id,
        sandbox_id=sandbox.id,
        config=config,
        phase=ContainerPhase.CREATING,
        created_at=time.time_ns(),
        boot_id=boot_id,
        cgroup=f"{parent.cgroup_parent.rstrip('/')}/{container_id}",
        log_path=log_path,
        resources=config.resources,
    )
