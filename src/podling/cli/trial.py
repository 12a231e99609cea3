"""A trial run for `podling doctor`: one Pod, made by the very code of the agent, in a place of its own.

    load an image ── open network and runtime ── sandbox ── container, which runs and ends ── remove everything

The trial has its own directories, and a new network namespace stands for its node, so it meets no cluster of this machine.
Whatever fails fails with the words that the agent would use.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import platform
import tarfile
import tempfile
from contextlib import AsyncExitStack
from hashlib import sha256
from pathlib import Path

import uvloop

from podling.cli.errors import one_line
from podling.kit import error_group
from podling.network import netns
from podling.network.bridge import Bridge, BridgeConfig
from podling.network.errors import NetworkError
from podling.runtime.native import oci
from podling.runtime.native.image import ImageStore
from podling.runtime.native.runtime import NativeConfig, NativeRuntime, reset_machine
from podling.runtime.protocol import (
    ContainerConfig,
    ContainerMetadata,
    ContainerSecurity,
    ContainerState,
    LinuxResources,
    PortMapping,
    SandboxConfig,
    SandboxMetadata,
    Seccomp,
)

_SECONDS = 60.0
_NAME = "podling-doctor"
_POD_CIDR = "192.0.2.0/29"
_IMAGE = "localhost/podling-doctor:latest"
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class TrialFailed(Exception):
    """A Pod does not run on this machine; the message says why, `in_network` whether the Pod network failed."""

    in_network = False


def run(directory: Path, oci_runtime: str) -> str:
    """Run a Pod with files below `directory` and return the OCI runtime that ran it. Raises TrialFailed. Needs root."""
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".podling-doctor-", dir=directory) as place,
            netns.new(),
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            return runner.run(_run(Path(place), oci_runtime))
    except TimeoutError:
        raise TrialFailed(f"it did not run and end within {_SECONDS:.0f} s") from None
    except Exception as error:
        failed = TrialFailed(one_line(error))
        failed.in_network = isinstance(error_group.first(error), NetworkError)
        raise failed from error


async def _run(place: Path, oci_runtime: str) -> str:
    data_dir, run_dir = place / "data", place / "run"
    async with asyncio.timeout(_SECONDS), AsyncExitStack() as stack:
        images = ImageStore(data_dir / "images", run_dir / "images")
        stack.push_async_callback(images.close)
        await images.open()
        archive = place / "image.tar"
        _write_image(archive, Path(oci.find("catatonit")))
        (image,) = await images.load(archive)

        network = Bridge(BridgeConfig(_NAME[:15], _POD_CIDR, data_dir))
        stack.push_async_callback(network.reset)
        await network.open()

        runtime = NativeRuntime(
            NativeConfig(data_dir=data_dir, run_dir=run_dir, network=network, images=images, oci_runtime=oci_runtime)
        )
        stack.callback(reset_machine, data_dir, run_dir)
        stack.push_async_callback(runtime.close)
        await runtime.open()
        cgroup = f"/{_NAME}-{os.getpid()}"
        stack.callback(runtime.cgroups.remove, cgroup)
        await _run_pod(runtime, image, cgroup, place / "logs")
        return runtime.oci_runtime


async def _run_pod(runtime: NativeRuntime, image: str, cgroup: str, logs: Path) -> None:
    """One container, with the limits, the seccomp profile and the host port that a Pod may have."""
    runtime.cgroups.create(cgroup)
    runtime.cgroups.apply(cgroup, LinuxResources(cpu_shares=2, memory_limit=64 << 20, pids_limit=32))
    sandbox = await runtime.run_pod_sandbox(
        SandboxConfig(
            metadata=SandboxMetadata(name=_NAME, namespace="default", uid=_NAME),
            hostname=_NAME,
            log_directory=str(logs),
            cgroup_parent=cgroup,
            port_mappings=[PortMapping(protocol="TCP", container_port=80, host_port=80)],
        )
    )
    try:
        container = await runtime.create_container(
            sandbox,
            ContainerConfig(
                metadata=ContainerMetadata(name="main"),
                image=image,
                command=["/catatonit", "--version"],
                log_path="main.log",
                security=ContainerSecurity(no_new_privs=True, seccomp=Seccomp(profile="RuntimeDefault")),
            ),
        )
        events = runtime.events()
        ended = asyncio.ensure_future(anext(events))
        await runtime.start_container(container)
        while (status := await runtime.container_status(container)).state != ContainerState.EXITED:
            await ended
            ended = asyncio.ensure_future(anext(events))
        ended.cancel()
        if status.exit_code:
            raise TrialFailed(
                f"its container ended with exit code {status.exit_code} ({status.reason}) {status.message}"
            )
    finally:
        await runtime.remove_pod_sandbox(sandbox)


def _write_image(path: Path, program: Path) -> None:
    """An image of one layer with one static program, as `docker save` writes it."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        tar.add(os.path.realpath(program), "catatonit")
    config = {
        "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [_IMAGE], "Layers": ["layer.tar"]}]
    with tarfile.open(path, "w") as tar:
        for name, content in (
            ("layer.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
