"""A native runtime of its own for a test, on real programs, with an image made of busybox, and a check for leaks."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
from inotify_simple import INotify, flags

from podling.runtime.native.runtime import NativeConfig, NativeRuntime
from podling.runtime.protocol import (
    AuthConfig,
    ContainerConfig,
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    FilesystemUsage,
    Image,
    ImageConfig,
    NetworkPlugin,
    RuntimeCondition,
    SandboxConfig,
    SandboxMetadata,
)

BUSYBOX = "sha256:" + "b" * 64
TIMEOUT = 30

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\nvideo:x:44:app\nlogs:x:45:other\n"


def make_busybox(directory: Path) -> list[Path]:
    """Two layers, topmost first: accounts over the programs."""
    programs, accounts = directory / "programs", directory / "accounts"
    (programs / "bin").mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None, "busybox is not installed"
    shutil.copy(busybox, programs / "bin" / "busybox")
    for name in os.popen(f"{busybox} --list").read().split():
        if not (programs / "bin" / name).exists():
            (programs / "bin" / name).symlink_to("busybox")
    for name in ("proc", "sys", "dev", "tmp", "etc", "root"):
        (programs / name).mkdir()
    (programs / "tmp").chmod(0o1777)
    (accounts / "etc").mkdir(parents=True)
    (accounts / "etc" / "passwd").write_text(PASSWD)
    (accounts / "etc" / "group").write_text(GROUP)
    return [accounts, programs]


class Images:
    """Images that lie unpacked in directories."""

    def __init__(self, layers: list[Path]) -> None:
        self.images: dict[str, tuple[Image, list[Path]]] = {}
        self.add(BUSYBOX, layers, ImageConfig(cmd=["/bin/sh"]))

    def add(self, image_id: str, layers: list[Path], config: ImageConfig) -> None:
        image = Image(id=image_id, repo_tags=["docker.io/library/test:latest"], config=config)
        self.images[image_id] = (image, layers)

    async def layers(self, image_id: str) -> list[Path]:
        return self.images[image_id][1]

    async def image_status(self, image: str) -> Image | None:
        return self.images[image][0] if image in self.images else None

    async def list_images(self) -> Sequence[Image]:
        return [image for image, _ in self.images.values()]

    async def pull_image(
        self,
        image: str,
        auth: AuthConfig | None = None,
        *,
        labels: Any = None,
        on_start: Any = None,
        on_progress: Any = None,
    ) -> str:
        return self.images[image][0].id

    async def remove_image(self, image: str) -> None:
        self.images.pop(image, None)

    async def image_fs_info(self) -> FilesystemUsage:
        return FilesystemUsage(timestamp=time.time_ns(), mountpoint="/", used_bytes=0, inodes_used=0)


class Unconnected:
    """A network plugin for Pods that need no network; remembers which sandboxes hold one."""

    def __init__(self) -> None:
        self.sandboxes: set[str] = set()

    async def setup(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> list[str]:
        os.close(os.open(netns_path, os.O_RDONLY))
        self.sandboxes.add(sandbox_id)
        return ["192.0.2.7"]

    async def teardown(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> None:
        self.sandboxes.discard(sandbox_id)

    async def status(self) -> RuntimeCondition:
        return RuntimeCondition(type="NetworkReady", status=True)


class Node:
    """An opened runtime. On leaving it removes all sandboxes and fails when anything of them is left."""

    def __init__(
        self, directory: Path, layers: list[Path], oci_runtime: str = "crun", network: NetworkPlugin | None = None
    ) -> None:
        self.directory = directory
        self.logs = directory / "logs"
        self.cgroup = f"/podling-test-{os.getpid()}-{directory.name}"
        self.images = Images(layers)
        self.network = network or Unconnected()
        self._oci_runtime = oci_runtime
        self._pods = 0

    @property
    def run_dir(self) -> Path:
        return self.directory / "run"

    async def open(self) -> None:
        self.runtime = NativeRuntime(
            NativeConfig(
                data_dir=self.directory / "data",
                run_dir=self.run_dir,
                network=self.network,
                images=self.images,
                oci_runtime=self._oci_runtime,
            )
        )
        await self.runtime.open()

    async def restart(self) -> None:
        """As a new agent after the old one has gone."""
        await self.runtime.close()
        await self.open()

    async def __aenter__(self) -> Node:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sandbox in await self.runtime.list_pod_sandbox():
            await self.runtime.remove_pod_sandbox(sandbox.id)
        self.runtime.cgroups.remove(self.cgroup)
        await self.runtime.close()
        if error is None:
            assert self.leaks() == []

    def leaks(self) -> list[str]:
        """Mounts, control groups, processes and files that belong to this runtime."""
        found = [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(self.directory) in line]
        for root, directories, _ in os.walk("/sys/fs/cgroup"):
            found += [f"{root}/{name}" for name in directories if name == self.cgroup.strip("/")]
        for entry in os.listdir("/proc"):
            if entry.isdecimal():
                try:
                    arguments = Path(f"/proc/{entry}/cmdline").read_bytes()
                except OSError:
                    continue
                if str(self.run_dir).encode() in arguments and int(entry) != os.getpid():
                    found.append(f"process {entry}: {arguments.decode(errors='replace')}")
        for directory in (self.directory / "data", self.run_dir):
            for path in directory.rglob("*"):
                # Newer crun keeps compiled seccomp filters beside its containers.
                if path.parent != directory and ".cache" not in path.relative_to(directory).parts:
                    found.append(str(path))
        if isinstance(self.network, Unconnected):
            found += [f"network of {sandbox}" for sandbox in self.network.sandboxes]
        return found

    # Pods

    async def pod(self, *, handler: str = "", **settings: Any) -> str:
        self._pods += 1
        name = f"pod{self._pods}"
        settings = {"hostname": name, "log_directory": str(self.logs / name), **settings}
        self.runtime.cgroups.create(f"{self.cgroup}/{name}")
        config = SandboxConfig(
            metadata=SandboxMetadata(name=name, namespace="default", uid=name),
            cgroup_parent=f"{self.cgroup}/{name}",
            **settings,
        )
        return await self.runtime.run_pod_sandbox(config, handler)

    async def create(self, sandbox: str, script: str = "", *, name: str = "main", **settings: Any) -> str:
        """A container; `script` is for sh."""
        settings = {"command": ["/bin/sh", "-c", script] if script else [], **settings}
        config = ContainerConfig(
            metadata=ContainerMetadata(name=name),
            image=settings.pop("image", BUSYBOX),
            log_path=f"{name}/0.log",
            **settings,
        )
        return await self.runtime.create_container(sandbox, config)

    async def start(self, sandbox: str, script: str = "", **settings: Any) -> str:
        container = await self.create(sandbox, script, **settings)
        await self.runtime.start_container(container)
        return container

    async def finish(self, sandbox: str, script: str = "", **settings: Any) -> tuple[ContainerStatus, str]:
        """Runs a container to its end: its status and output."""
        container = await self.start(sandbox, script, **settings)
        status = await self.exited(container)
        return status, self.output(status)

    async def said(self, container: str, text: str) -> None:
        """Returns when the container's log holds `text`; a test's command says so when it is ready."""
        status = await self.runtime.container_status(container)

        def wait() -> None:
            with INotify() as inotify:
                inotify.add_watch(status.log_path, flags.MODIFY)
                while text not in self.output(status):
                    assert inotify.read(timeout=TIMEOUT * 1000), f"{text!r} was not said: {self.output(status)!r}"

        await asyncio.to_thread(wait)

    async def exited(self, container: str) -> ContainerStatus:
        async with asyncio.timeout(TIMEOUT), aclosing(self.runtime.events()) as events:  # type: ignore[type-var]
            following = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)  # now it is subscribed
            try:
                while True:
                    status = await self.runtime.container_status(container)
                    if status.state == ContainerState.EXITED:
                        return status
                    await following
                    following = asyncio.ensure_future(anext(events))
            finally:
                following.cancel()
                await asyncio.wait([following])

    def output(self, status: ContainerStatus) -> str:
        """The log's text without time, stream and tag."""
        try:
            lines = Path(status.log_path).read_text().splitlines(keepends=True)
        except FileNotFoundError:
            return ""
        text = ""
        for line in lines:
            _, _, tag, rest = line.split(" ", 3)
            text += rest if tag == "F" else rest.removesuffix("\n")
        return text


Test = Callable[[Node], Awaitable[None]]
Run = Callable[..., None]
both = pytest.mark.parametrize("oci_runtime", ["crun", "runc"])


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_busybox(tmp_path_factory.mktemp("busybox"))


@pytest.fixture
def run(tmp_path: Path, layers: list[Path]) -> Run:
    """Runs an async test against a runtime of its own, and fails when that leaves anything behind."""

    def run(test: Test, oci_runtime: str = "crun", network: Unconnected | None = None) -> None:
        async def bounded() -> None:
            async with asyncio.timeout(90), Node(tmp_path, layers, oci_runtime, network) as node:
                await test(node)

        asyncio.run(bounded())

    return run
