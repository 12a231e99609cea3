"""The native runtime: CRI's operations on sandboxes and containers, by the programs and file systems of this machine."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Sequence
from importlib import metadata
from pathlib import Path

import msgspec
from msgspec import Struct, field

from podling.runtime.native import adopt, cgroup, container, oci, sandbox
from podling.runtime.native.container import Container
from podling.runtime.native.exec import exec_sync
from podling.runtime.native.host import Host, LayeredImages, together
from podling.runtime.native.sandbox import Sandbox
from podling.runtime.native.spawn import Workers
from podling.runtime.native.state import Layout, boot_id, write_atomically
from podling.runtime.protocol import (
    ContainerConfig,
    ContainerEvent,
    ContainerStats,
    ContainerStatus,
    CRIError,
    ExecResult,
    LinuxResources,
    NetworkPlugin,
    NotFound,
    RuntimeCondition,
    RuntimeVersion,
    SandboxConfig,
    SandboxStatus,
)


class NativeConfig(Struct, kw_only=True):
    data_dir: Path
    run_dir: Path
    network: NetworkPlugin
    images: LayeredImages
    oci_runtime: str = ""
    """Name or path of the OCI runtime; empty: crun, or runc where crun does not work."""
    conmon: str = "conmon"
    log_file_bytes: int = 0
    """When a container's log has this size, an empty file takes its name; 0: it grows without end."""
    handlers: dict[str, str] = field(default_factory=dict)
    """RuntimeClass handlers and the OCI runtimes, by name or path, that they stand for."""


class NativeRuntime:
    """Implements RuntimeService. Between open and close, on one event loop."""

    def __init__(self, config: NativeConfig) -> None:
        self._config = config
        self._sandboxes: dict[str, Sandbox] = {}
        self._containers: dict[str, Container] = {}
        self._opened: Host | None = None
        self._workers: Workers | None = None
        self._second_look: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Prepares the machine and takes over what an earlier agent left. Raises CRIError when nothing can run here."""
        layout = Layout(self._config.data_dir, self._config.run_dir)
        self._workers = workers = Workers()
        await workers.run(layout.create)
        await workers.run(prepare_machine, layout)
        runtime = await workers.run(oci.select, self._config.oci_runtime, layout)
        self._opened = host = Host(
            layout=layout,
            workers=workers,
            cgroups=await workers.run(cgroup.Cgroups),
            boot_id=boot_id(),
            images=self._config.images,
            network=self._config.network,
            runtime=runtime,
            handlers={name: await workers.run(oci.load, path, layout) for name, path in self._config.handlers.items()},
            conmon=oci.find(self._config.conmon),
            log_file_bytes=self._config.log_file_bytes,
            on_exit=self._on_exit,
            watched=lambda: [*self._sandboxes.values(), *self._containers.values()],
        )
        host.exits.open()
        await adopt.adopt(host, self._sandboxes, self._containers)
        self._second_look = asyncio.create_task(host.second_look.run(), name="second looks")

    async def close(self) -> None:
        """Lets go; containers run on."""
        if self._second_look is not None:
            self._second_look.cancel()
            await asyncio.wait([self._second_look])
            self._second_look = None
        if self._opened is not None:
            await self._opened.tasks.join()
            self._opened.exits.close()
            oci.unload(self._opened.layout)
            self._opened = None
        for one in self._containers.values():
            one.close()
        for pod in self._sandboxes.values():
            pod.close()
        self._containers.clear()
        self._sandboxes.clear()
        if self._workers is not None:
            self._workers.close()
            self._workers = None

    @property
    def _host(self) -> Host:
        if self._opened is None:
            raise CRIError("RuntimeNotReady", "the runtime is not open")
        return self._opened

    @property
    def oci_runtime(self) -> str:
        """The name of the program that runs containers: crun, runc."""
        return self._host.runtime.name

    @property
    def cgroups(self) -> cgroup.Cgroups:
        return self._host.cgroups

    def _on_exit(self, container_id: str) -> None:
        one = self._containers.get(container_id)
        if one is not None:
            one.look()

    def _sandbox(self, sandbox_id: str) -> Sandbox:
        try:
            return self._sandboxes[sandbox_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find sandbox "{sandbox_id}": not found') from None

    def _container(self, container_id: str) -> Container:
        try:
            return self._containers[container_id]
        except KeyError:
            raise NotFound(f'an error occurred when try to find container "{container_id}": not found') from None

    # the runtime

    async def version(self) -> RuntimeVersion:
        return RuntimeVersion(runtime_name="podling", runtime_version=metadata.version("podling"))

    async def status(self) -> Sequence[RuntimeCondition]:
        return [RuntimeCondition(type="RuntimeReady", status=True), await self._host.network.status()]

    def events(self) -> AsyncIterator[ContainerEvent]:
        return self._host.events.stream()

    # sandboxes

    async def run_pod_sandbox(self, config: SandboxConfig, runtime_handler: str = "") -> str:
        host = self._host
        if runtime_handler and runtime_handler not in host.handlers:
            raise CRIError("RuntimeHandlerNotFound", f'no runtime for "{runtime_handler}" is configured')
        record = sandbox.new_record(os.urandom(32).hex(), config, runtime_handler, host.boot_id)
        one = Sandbox(host, record)

        async def create() -> None:
            await one.create()
            self._sandboxes[one.id] = one

        await host.tasks.finish(create(), f"create sandbox {one.id}")
        return one.id

    async def stop_pod_sandbox(self, sandbox_id: str) -> None:
        one = self._sandboxes.get(sandbox_id)
        if one is not None:
            await self._host.tasks.finish(one.stop(), f"stop sandbox {sandbox_id}")

    async def remove_pod_sandbox(self, sandbox_id: str) -> None:
        one = self._sandboxes.get(sandbox_id)
        if one is not None:
            await self._host.tasks.finish(self._remove_sandbox(one), f"remove sandbox {sandbox_id}")

    async def _remove_sandbox(self, one: Sandbox) -> None:
        await one.stop()
        await together(self._remove_container(inner) for inner in list(one.containers.values()))
        async with one.lock:
            if one.id in self._sandboxes:
                await one.destroy()
                one.close()
                del self._sandboxes[one.id]

    async def pod_sandbox_status(self, sandbox_id: str) -> SandboxStatus:
        return self._sandbox(sandbox_id).status()

    async def list_pod_sandbox(self, pod_uid: str = "") -> Sequence[SandboxStatus]:
        return [one.status() for one in self._sandboxes.values() if not pod_uid or one.pod_uid == pod_uid]

    # containers

    async def create_container(self, sandbox_id: str, config: ContainerConfig) -> str:
        host, parent = self._host, self._sandbox(sandbox_id)
        image = await host.images.image_status(config.image)
        if image is None:
            raise NotFound(f"image {config.image} is not present")
        record = container.new_record(os.urandom(32).hex(), parent, config, host.boot_id)
        one = Container(host, parent, record)
        one.targets = self._containers

        async def create() -> None:
            async with parent.lock:
                if not parent.ready:
                    raise CRIError("InvalidState", f"sandbox {sandbox_id} is not ready")
                # Now it is known to a removal of the sandbox, which waits until it is whole.
                self._containers[one.id] = parent.containers[one.id] = one
            try:
                await one.create(image)
            except BaseException:
                self._containers.pop(one.id, None)
                parent.containers.pop(one.id, None)
                raise

        await host.tasks.finish(create(), f"create container {one.id}")
        return one.id

    async def start_container(self, container_id: str) -> None:
        await self._host.tasks.finish(self._container(container_id).start(), f"start container {container_id}")

    async def stop_container(self, container_id: str, grace_seconds: float) -> None:
        one = self._containers.get(container_id)
        if one is not None:
            await one.stop(grace_seconds)

    async def remove_container(self, container_id: str) -> None:
        one = self._containers.get(container_id)
        if one is not None:
            await self._host.tasks.finish(self._remove_container(one), f"remove container {container_id}")

    async def _remove_container(self, one: Container) -> None:
        if one.id in self._containers:
            await one.remove()
            self._containers.pop(one.id, None)
            one.sandbox.containers.pop(one.id, None)

    async def container_status(self, container_id: str) -> ContainerStatus:
        return self._container(container_id).status()

    async def list_containers(self, sandbox_id: str = "", pod_uid: str = "") -> Sequence[ContainerStatus]:
        return [
            one.status()
            for one in self._containers.values()
            if one.made
            and (not sandbox_id or one.sandbox.id == sandbox_id)
            and (not pod_uid or one.sandbox.pod_uid == pod_uid)
        ]

    async def update_container_resources(self, container_id: str, resources: LinuxResources) -> None:
        await self._container(container_id).update_resources(resources)

    async def reopen_container_log(self, container_id: str) -> None:
        await self._container(container_id).reopen_log()

    async def exec_sync(self, container_id: str, cmd: Sequence[str], timeout_seconds: float) -> ExecResult:
        return await exec_sync(self._host, self._container(container_id), cmd, timeout_seconds)

    async def container_stats(self, container_id: str) -> ContainerStats:
        return await self._container(container_id).stats()


def prepare_machine(layout: Layout) -> None:
    """Changes the machine as containers need it and notes what was changed, for `reset`. Blocking."""
    changes = _noted(layout)
    new = cgroup.prepare_host()
    changes.mounted_hugetlb = new.mounted_hugetlb or changes.mounted_hugetlb
    changes.favoring_dynmods = new.favoring_dynmods or changes.favoring_dynmods
    write_atomically(layout.host_changes, msgspec.json.encode(changes))


def reset_machine(data_dir: Path, run_dir: Path) -> None:
    """Takes back what prepare_machine changed, unless others use it. Call when all Pods are gone. Blocking."""
    layout = Layout(data_dir, run_dir)
    oci.unload(layout)
    cgroup.undo(_noted(layout))
    layout.host_changes.unlink(missing_ok=True)


def _noted(layout: Layout) -> cgroup.HostChanges:
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):
        return msgspec.json.decode(layout.host_changes.read_bytes(), type=cgroup.HostChanges)
    return cgroup.HostChanges()
