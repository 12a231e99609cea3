"""The node agent: runtime, network, Pods, node status and the kubelet's own server, put together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from msgspec import Struct

from podling.api.core.v1 import Node, Pod, Service
from podling.client.client import Client, ClientConfig
from podling.client.events import EventRecorder
from podling.client.informer import Informer
from podling.kubelet import image_auth_file, image_credential_provider, sysctls
from podling.kubelet.cgroups import qos_parents
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_gc import ImageGC, ImageGCPolicy
from podling.kubelet.image_manager import ImageManager
from podling.kubelet.image_pull_credentials import PullCredentials
from podling.kubelet.image_pull_manager import Allowlist, PullManager, VerificationPolicy
from podling.kubelet.image_pull_records import PullRecords
from podling.kubelet.local_storage import LocalStorageEviction
from podling.kubelet.log_rotation import LogPolicy, LogRotation
from podling.kubelet.node_status import Capacity, NodeReporter, meminfo, node_ip
from podling.kubelet.objects import ApiObjects, ObjectWatches
from podling.kubelet.pod_context import PodContext
from podling.kubelet.pod_paths import PodPaths
from podling.kubelet.pod_workers import PodWorkers
from podling.kubelet.server import KubeletServer
from podling.kubelet.service_account_tokens import ServiceAccountTokens
from podling.kubelet.volumes.manager import VolumeManager
from podling.network.bridge import Bridge, BridgeConfig
from podling.runtime.native.image import ImageStore
from podling.runtime.native.runtime import NativeConfig, NativeRuntime

log = logging.getLogger(__name__)

_HOUSEKEEPING_PAUSE = 10.0
"""Seconds."""


class KubeletConfig(Struct, kw_only=True, frozen=True):
    """One node. Directories are the cluster's own on this machine; `api_socket` is the API server's unix socket for it."""

    node_name: str
    data_dir: Path
    run_dir: Path
    api_socket: Path
    port: int = 10250
    api_server_port: int = 0
    """The API server's, if it runs on this node."""
    bridge: str = "podling0"
    pod_cidr: str = "10.244.0.0/24"
    registries_conf: Path | None = None
    oci_runtime: str = "crun"
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = "cluster.local"
    version: str = "v1.36.0"
    auth_file: Path | None = None
    """The node's own credentials for registries; None: image_auth_file.default_paths."""
    image_credential_provider_config: Path | None = None
    image_credential_provider_bin_dir: Path | None = None
    """Both or none."""
    image_pull_credentials_verification_policy: VerificationPolicy = VerificationPolicy.NEVER_PRELOADED
    preloaded_images_verification_allowlist: tuple[str, ...] = ()
    image_gc: ImageGCPolicy = ImageGCPolicy()
    logs: LogPolicy = LogPolicy()
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Names, or patterns with `*` at their end, besides the safe ones."""

    @property
    def paths(self) -> PodPaths:
        return PodPaths(self.data_dir / "pods", self.data_dir / "logs" / "pods")

    @property
    def daemon_ports(self) -> frozenset[int]:
        """TCP ports of this node that no Pod may have as host ports."""
        return frozenset({self.port, self.api_server_port} - {0})

    @property
    def cgroup_root(self) -> str:
        """Named after the bridge, which is what tells two clusters on one machine apart."""
        return f"/podling-{self.bridge}"


class Kubelet:
    """`run` is the whole life of the agent."""

    def __init__(self, config: KubeletConfig) -> None:
        self.config = config

    async def run(self, stop: asyncio.Event, ready: asyncio.Event | None = None) -> None:
        """Until `stop` is set; containers go on running then. `ready` is set when the node is registered."""
        config = self.config
        images = ImageStore(config.data_dir / "images", config.run_dir / "images", config.registries_conf)
        network = Bridge(BridgeConfig(config.bridge, config.pod_cidr, config.data_dir, config.daemon_ports))
        runtime = NativeRuntime(
            NativeConfig(
                data_dir=config.data_dir,
                run_dir=config.run_dir,
                oci_runtime=config.oci_runtime,
                network=network,
                images=images,
                log_file_bytes=config.logs.file_bytes,
            )
        )
        client = Client(ClientConfig(socket=str(config.api_socket), user_agent=f"podling-agent/{config.version}"))
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(images.open())
                tasks.create_task(network.open())
            pulls = PullManager(
                PullRecords(config.data_dir / "image_manager"),
                config.image_pull_credentials_verification_policy,
                _allowlist(config.preloaded_images_verification_allowlist),
            )
            await pulls.open(await images.list_images())
            await runtime.open()
            await network.reconcile([sandbox.id for sandbox in await runtime.list_pod_sandbox()])
            await self._serve(runtime, images, pulls, client, stop, ready or asyncio.Event())
        finally:
            await client.close()
            await runtime.close()
            await network.close()
            await images.close()

    async def _serve(
        self,
        runtime: NativeRuntime,
        images: ImageStore,
        pulls: PullManager,
        client: Client,
        stop: asyncio.Event,
        ready: asyncio.Event,
    ) -> None:
        config = self.config
        capacity = await asyncio.to_thread(Capacity.of_machine, config.data_dir)
        ip = node_ip()
        recorder = EventRecorder(client, "kubelet", config.node_name)
        pods = Informer(client, Pod, field_selector=f"spec.nodeName={config.node_name}")
        services = Informer(client, Service)
        nodes = Informer(client, Node, field_selector=f"metadata.name={config.node_name}")
        version = await runtime.version()
        for parent in qos_parents(config.cgroup_root):
            await asyncio.to_thread(runtime.cgroups.create, parent)
        objects, watches, tokens = ApiObjects(client), ObjectWatches(client), ServiceAccountTokens(client)
        context = PodContext(
            node_name=config.node_name,
            host_ip=ip,
            memory=meminfo()["MemTotal"],
            allocatable=capacity.allocatable,
            sysctls=sysctls.allowlist(config.allowed_unsafe_sysctls),
            daemon_ports=config.daemon_ports,
            cgroup_root=config.cgroup_root,
            cluster_dns=list(config.cluster_dns),
            cluster_domain=config.cluster_domain,
            runtime_name=version.runtime_name,
            client=client,
            recorder=recorder,
            runtime=runtime,
            images=ImageManager(images, pulls, await self._pull_credentials(objects), recorder),
            volumes=VolumeManager(config.paths, objects, tokens, capacity.allocatable),
            cgroups=runtime.cgroups,
            paths=config.paths,
            objects=objects,
            watches=watches,
            tokens=tokens,
            services=services.list,
            node=lambda: nodes.get("", config.node_name),
        )
        workers = PodWorkers(context, pods)
        server = KubeletServer(workers)
        image_gc = ImageGC(images, runtime, recorder, config.node_name, config.image_gc, collected=context.images.prune)
        reporter = NodeReporter(
            client, config.node_name, ip, config.port, config.data_dir, capacity, runtime, images, config.version
        )
        nodes.add_handler(reporter.seen)
        pki = config.data_dir / "pki"

        async def work() -> None:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(recorder.run(), name="events")
                tasks.create_task(services.run(), name="services")
                tasks.create_task(watches.run(), name="object watches")
                tasks.create_task(nodes.run(), name="node")
                tasks.create_task(reporter.run(ready), name="node status")
                await services.synced()
                # The server's certificate is there once the API server answers.
                serving = server.run("", config.port, pki / "ca.crt", pki / "kubelet.crt", pki / "kubelet.key")
                tasks.create_task(serving, name="kubelet API")
                await nodes.synced()
                tasks.create_task(workers.run(), name="pod workers")
                tasks.create_task(pods.run(), name="pods")
                for name, run in (
                    ("image garbage collection", image_gc.run),
                    ("log rotation", LogRotation(runtime, config.logs).run),
                    ("local storage", LocalStorageEviction(context, workers).run),
                ):
                    tasks.create_task(housekeeping(name, run), name=name)

        async with asyncio.TaskGroup() as tasks:
            # All of it in one task: it can be stopped while it still waits for the API server.
            working = tasks.create_task(work(), name="kubelet")
            await stop.wait()
            working.cancel()

    async def _pull_credentials(self, objects: ApiObjects) -> PullCredentials:
        config = self.config
        paths = [config.auth_file] if config.auth_file else image_auth_file.default_paths(config.data_dir)
        providers = []
        if config.image_credential_provider_config and config.image_credential_provider_bin_dir:
            providers = await asyncio.to_thread(
                image_credential_provider.load,
                config.image_credential_provider_config,
                config.image_credential_provider_bin_dir,
            )
        return PullCredentials(objects, NodeAuthFile(paths), providers)


async def housekeeping(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Runs it for as long as the agent lives: what goes wrong in it is logged, and must not take the Pods' care along."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("%s failed", name)
        await asyncio.sleep(_HOUSEKEEPING_PAUSE)


def _allowlist(patterns: tuple[str, ...]) -> Allowlist:
    try:
        return Allowlist(patterns)
    except ValueError as error:
        raise ValueError(f"allowlist of preloaded images: {error}") from None
