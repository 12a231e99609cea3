"""What every part of the kubelet that works on a Pod shares: the node's services and settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from msgspec import Struct

from podling.api.core.v1 import Node, Pod, Service
from podling.api.quantity import Quantity
from podling.api.sysctl import Allowlist
from podling.client.client import Client
from podling.client.events import EventRecorder
from podling.kubelet.env import ObjectSource
from podling.kubelet.image_manager import ImageManager
from podling.kubelet.objects import ObjectWatches
from podling.kubelet.pod_paths import PodPaths
from podling.kubelet.service_account_tokens import ServiceAccountTokens
from podling.kubelet.volumes.manager import VolumeManager
from podling.runtime.protocol import LinuxResources, RuntimeService


class PodCgroups(Protocol):
    """The node's cgroup tree; paths are below each hierarchy's root. System calls: quick, but not for the event loop."""

    def create(self, path: str) -> None: ...

    def apply(self, path: str, resources: LinuxResources) -> None: ...

    def remove(self, path: str) -> None: ...

    def children(self, path: str) -> Iterable[str]:
        """Names of the groups right below."""


class PodContext(Struct, kw_only=True):
    """One node's. `allocatable` is what the node offers to Pods; `memory` its capacity in bytes."""

    node_name: str
    host_ip: str
    memory: int
    allocatable: Mapping[str, Quantity]
    sysctls: Allowlist
    """Those that Pods may set."""
    daemon_ports: frozenset[int]
    """TCP ports of the cluster's own daemons on this node."""
    cgroup_root: str
    cluster_dns: list[str]
    cluster_domain: str
    runtime_name: str
    client: Client
    recorder: EventRecorder
    runtime: RuntimeService
    images: ImageManager
    volumes: VolumeManager
    cgroups: PodCgroups
    paths: PodPaths
    objects: ObjectSource
    watches: ObjectWatches
    tokens: ServiceAccountTokens
    services: Callable[[], Iterable[Service]]
    node: Callable[[], Node | None]


def container_event(
    context: PodContext, pod: Pod, container: str, type: str, reason: str, message: str, *, init: bool = False
) -> None:
    """Records an event about one container."""
    kind = "initContainers" if init else "containers"
    context.recorder.event(pod, type, reason, message, field_path=f"spec.{kind}{{{container}}}")
