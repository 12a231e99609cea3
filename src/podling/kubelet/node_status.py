"""The Node object: registration, status and the Lease that says that the node lives.

Source: Kubernetes documentation "Nodes" (heartbeats, conditions, addresses, capacity), "Well-Known Labels"; KEP-589.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from podling.api import codec
from podling.api import time as times
from podling.api.coordination.v1 import Lease, LeaseSpec
from podling.api.core.v1 import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeStatus,
    NodeSystemInfo,
)
from podling.api.meta.v1 import ObjectMeta, OwnerReference
from podling.api.quantity import Quantity
from podling.api.status import ApiError
from podling.api.validation.resource import is_extended
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed, EventType
from podling.kit import file_error
from podling.runtime.protocol import CRIError, ImageService, RuntimeCondition, RuntimeService

log = logging.getLogger(__name__)

_RENEW_SECONDS = 10
_LEASE_SECONDS = 40
_REPORT_SECONDS = 300
_LEASE_NAMESPACE = "kube-node-lease"
_MAX_IMAGES = 50
_MIN_MEMORY = 100 * 1024 * 1024
_MIN_DISK = 0.10
_MIN_INODES = 0.05
_MIN_PIDS = 0.02
MAX_PODS = 110


class Capacity(Struct, frozen=True):
    """What the machine has and what of it Pods may request."""

    capacity: dict[str, Quantity]
    allocatable: dict[str, Quantity]

    @classmethod
    def of_machine(cls, data_dir: Path) -> Capacity:
        memory = meminfo()["MemTotal"]
        disk = os.statvfs(data_dir)
        storage = disk.f_blocks * disk.f_frsize
        capacity = {
            "cpu": Quantity(str(len(os.sched_getaffinity(0)))),
            "memory": Quantity(f"{memory // 1024}Ki"),
            "ephemeral-storage": Quantity(f"{storage // 1024}Ki"),
            "pods": Quantity(str(MAX_PODS)),
        }
        for page, total in _hugepages().items():
            capacity[f"hugepages-{page}"] = Quantity(str(total))
        allocatable = dict(capacity)
        allocatable["memory"] = Quantity(f"{(memory - _MIN_MEMORY) // 1024}Ki")
        allocatable["ephemeral-storage"] = Quantity(str(int(storage * (1 - _MIN_DISK))))
        return cls(capacity, allocatable)


def meminfo() -> dict[str, int]:
    """/proc/meminfo in bytes."""
    values = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        values[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return values


def _hugepages() -> dict[str, int]:
    sizes = {}
    root = Path("/sys/kernel/mm/hugepages")
    for directory in root.iterdir() if root.exists() else []:
        kilobytes = int(directory.name.removeprefix("hugepages-").removesuffix("kB"))
        pages = int((directory / "nr_hugepages").read_text())
        name = f"{kilobytes // 1048576}Gi" if kilobytes >= 1048576 else f"{kilobytes // 1024}Mi"
        sizes[name] = pages * kilobytes * 1024
    return sizes


def node_ip() -> str:
    """The address that this machine uses towards others: of the default route, else the loopback one."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket chooses the route and sends nothing.
            probe.connect(("198.51.100.1", 9))
            address: str = probe.getsockname()[0]
            return address
        except OSError:
            return "127.0.0.1"


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    for line in _read("/etc/os-release").splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.partition("=")[2].strip('"')
    return ""


class NodeReporter:
    """Registers the node and keeps its Lease and status up to date."""

    def __init__(
        self,
        client: Client,
        name: str,
        ip: str,
        port: int,
        data_dir: Path,
        capacity: Capacity,
        runtime: RuntimeService,
        images: ImageService,
        version: str,
    ) -> None:
        self._client = client
        self._name = name
        self._ip = ip
        self._port = port
        self._data_dir = data_dir
        self._capacity = capacity
        self._runtime = runtime
        self._images = images
        self._version = version
        self._node: Node | None = None
        self._lease: Lease | None = None
        self._due = 0.0
        """Monotonic time from which on the status is written even if nothing changed."""

    async def run(self, registered: asyncio.Event) -> None:
        """Registers, sets `registered`, then reports until cancelled."""
        await self._persist(self._report)
        registered.set()
        async with asyncio.TaskGroup() as tasks:
            # Apart, so that a status which cannot be written does not make the node seem dead.
            tasks.create_task(self._keep_renewing(), name="node lease")
            while True:
                await asyncio.sleep(_RENEW_SECONDS)
                await self._persist(self._report)

    async def _keep_renewing(self) -> None:
        while True:
            await self._persist(self._renew)
            await asyncio.sleep(_RENEW_SECONDS)

    def seen(self, type: EventType, node: Node, old: Node | None = None) -> None:
        """An informer's handler. The next report mends what others made of the Node, or registers it anew."""
        known = self._node
        if known is None or (known.metadata.uid == node.metadata.uid and _version(node) < _version(known)):
            return
        self._node = None if type is EventType.DELETED else node

    async def _persist(self, step: Callable[[], Awaitable[None]]) -> None:
        backoff = Backoff(initial=0.05, maximum=5.0)
        while True:
            try:
                await step()
                return
            except ConnectionFailed:
                await self._client.recovered(backoff.next())
            except (ApiError, CRIError, OSError) as error:
                log.warning("node %s: %s", self._name, file_error.reason(error))
                await self._client.recovered(max(0.5, backoff.next()))

    def _labels(self) -> dict[str, str]:
        arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
        return {
            "kubernetes.io/hostname": self._name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": arch,
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": arch,
        }

    async def _register(self) -> Node:
        try:
            node = await self._client.get(Node, self._name)
            wanted = {"metadata": {"labels": self._labels()}}
            if any(node.metadata.labels.get(key) != value for key, value in self._labels().items()):
                node = await self._client.patch(Node, self._name, "", wanted)
        except ApiError as error:
            if error.code != 404:
                raise
            meta = ObjectMeta(name=self._name, labels=self._labels())
            node = await self._client.create(Node(metadata=meta, status=await self._status(NodeStatus())))
        self._due = 0.0
        return node

    async def _report(self) -> None:
        """Writes the status if the stored one is another, or if nothing was written for five minutes."""
        if self._node is None:
            self._node, self._lease = await self._register(), None
        before = self._node.status
        status = await self._status(before)
        patch = codec.to_builtins(status)
        for name in before.allocatable.keys() - status.allocatable.keys():
            patch["allocatable"][name] = None
        if time.monotonic() < self._due and not _differs(patch, codec.to_builtins(before)):
            return
        try:
            self._node = await self._client.patch(
                Node, self._name, "", {"status": patch}, content_type="strategic", subresource="status"
            )
        except ApiError as error:
            if error.code == 404:
                self._node = None
            raise
        self._due = time.monotonic() + _REPORT_SECONDS

    async def _renew(self) -> None:
        now = times.now_micro()
        try:
            if self._lease is None:
                try:
                    self._lease = await self._client.get(Lease, self._name, _LEASE_NAMESPACE)
                except ApiError as error:
                    if error.code != 404:
                        raise
                    self._lease = await self._client.create(self._new_lease(now))
                    return
            spec = self._lease.spec or LeaseSpec()
            self._lease.spec = replace(
                spec, renew_time=now, holder_identity=self._name, lease_duration_seconds=_LEASE_SECONDS
            )
            self._lease = await self._client.update(self._lease)
        except ApiError as error:
            self._lease = None
            if error.code not in (404, 409):
                raise

    def _new_lease(self, now: str) -> Lease:
        owners = []
        if self._node is not None:
            owners = [OwnerReference(api_version="v1", kind="Node", name=self._name, uid=self._node.metadata.uid)]
        return Lease(
            metadata=ObjectMeta(name=self._name, namespace=_LEASE_NAMESPACE, owner_references=owners),
            spec=LeaseSpec(holder_identity=self._name, lease_duration_seconds=_LEASE_SECONDS, renew_time=now),
        )

    async def _status(self, before: NodeStatus) -> NodeStatus:
        conditions, images = await asyncio.gather(self._runtime.status(), self._images.list_images())
        pressure = await asyncio.to_thread(_pressure, self._data_dir)
        version = await self._runtime.version()
        newest = sorted(images, key=lambda image: image.size, reverse=True)[:_MAX_IMAGES]
        now = times.now()
        known = {c.type: c for c in before.conditions}
        # Somebody advertised them by a patch of the capacity; to offer them to Pods is the kubelet's part.
        extended = {name: quantity for name, quantity in before.capacity.items() if is_extended(name)}
        wanted = [*pressure, _ready(conditions)]
        return NodeStatus(
            addresses=[
                NodeAddress(type="InternalIP", address=self._ip),
                NodeAddress(type="Hostname", address=self._name),
            ],
            capacity={**self._capacity.capacity, **extended},
            allocatable={**self._capacity.allocatable, **extended},
            conditions=[_condition(known.get(condition[0]), *condition, now=now) for condition in wanted],
            daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=self._port)),
            images=[
                ContainerImage(names=[*image.repo_digests, *image.repo_tags], size_bytes=image.size) for image in newest
            ],
            node_info=NodeSystemInfo(
                architecture=self._labels()["kubernetes.io/arch"],
                boot_id=_read("/proc/sys/kernel/random/boot_id"),
                container_runtime_version=f"{version.runtime_name}://{version.runtime_version}",
                kernel_version=platform.release(),
                kubelet_version=self._version,
                machine_id=_read("/etc/machine-id"),
                operating_system="linux",
                os_image=_os_image(),
                system_uuid=_read("/sys/class/dmi/id/product_uuid") or _read("/etc/machine-id"),
            ),
        )


_Wanted = tuple[str, bool, str, str]


def _ready(conditions: Sequence[RuntimeCondition]) -> _Wanted:
    failed = [condition for condition in conditions if not condition.status]
    if not failed:
        return "Ready", True, "KubeletReady", "kubelet is posting ready status"
    texts = []
    for condition in failed:
        what = "container runtime" if condition.type == "RuntimeReady" else "container runtime network"
        texts.append(f"{what} not ready: {condition.type}=false reason:{condition.reason} message:{condition.message}")
    return "Ready", False, "KubeletNotReady", ", ".join(texts)


def _pressure(data_dir: Path) -> list[_Wanted]:
    """Memory, disk and PID pressure by upstream's default hard eviction thresholds."""
    low_memory = meminfo()["MemAvailable"] < _MIN_MEMORY
    disk = os.statvfs(data_dir)
    low_disk = disk.f_bavail < disk.f_blocks * _MIN_DISK or (
        disk.f_files > 0 and disk.f_favail < disk.f_files * _MIN_INODES
    )
    pids = int(_read("/proc/loadavg").split()[3].partition("/")[2])
    limit = int(_read("/proc/sys/kernel/pid_max") or "32768")
    low_pids = limit - pids < limit * _MIN_PIDS
    rows = (
        ("MemoryPressure", low_memory, "Memory", "sufficient memory available", "insufficient memory available"),
        ("DiskPressure", low_disk, "Disk", "no disk pressure", "disk pressure"),
        ("PIDPressure", low_pids, "PID", "sufficient PID available", "insufficient PID available"),
    )
    result = []
    for kind, low, what, good, bad in rows:
        if what == "Disk":
            reason = "KubeletHasDiskPressure" if low else "KubeletHasNoDiskPressure"
        else:
            reason = f"KubeletHas{'Insufficient' if low else 'Sufficient'}{what}"
        result.append((kind, low, reason, f"kubelet has {bad if low else good}"))
    return result


def _condition(
    old: NodeCondition | None, kind: str, holds: bool, reason: str, message: str, *, now: str
) -> NodeCondition:
    status = "True" if holds else "False"
    since = old.last_transition_time if old is not None and old.status == status else now
    return NodeCondition(
        type=kind, status=status, reason=reason, message=message, last_heartbeat_time=now, last_transition_time=since
    )


def _differs(patch: dict[str, Any], stored: dict[str, Any]) -> bool:
    """Whether the patch would change more than the time of the heartbeat; what others added does not count."""
    held = {condition["type"]: condition for condition in stored.get("conditions", ())}
    for condition in patch["conditions"]:
        old = held.get(condition["type"], {})
        if any(old.get(name) != value for name, value in condition.items() if name != "lastHeartbeatTime"):
            return True
    for name in ("capacity", "allocatable"):
        quantities = stored.get(name, {})
        if any(quantities.get(resource) != value for resource, value in patch[name].items()):
            return True
    whole = patch.keys() - {"conditions", "capacity", "allocatable"}
    return any(stored.get(name) != patch[name] for name in whole)


def _version(node: Node) -> int:
    return int(node.metadata.resource_version or 0)
