"""The built-in network plugin: one gateway per node, one cable per Pod.

    Pod eth0 (address/32) ── cable ── veth… ── the node's routing, nftables ── outside, other Pods, the node itself
                                                        │
                                               bridge (the gateway: first address of the range)

State: <data-dir>/network/ (leases, cursor, lock). The kernel's side is derived from it: `open` puts right whatever is
missing, so a restarted agent finds its Pods connected as they were.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import TypeVar

from podling.kit import file_error
from podling.network import forwarding, nftables
from podling.network.errors import NetworkError
from podling.network.ipam import HostPort, Ipam, Lease, PodRange
from podling.network.links import Links, veth_name
from podling.runtime.protocol import PortMapping, RuntimeCondition, SandboxConfig

T = TypeVar("T")


@dataclass(frozen=True)
class BridgeConfig:
    """`pod_cidr`: an IPv4 range that nothing else on the node uses. `data_dir`: the cluster's.

    `daemon_ports`: TCP ports on which the cluster's own daemons listen here; they never lead to a Pod.
    """

    name: str
    pod_cidr: str
    data_dir: Path
    daemon_ports: frozenset[int] = frozenset()


class _Shared:
    """Work of which one run serves many callers: each returns after a run that began after its call."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._lock = asyncio.Lock()
        self._calls = 0
        self._served = 0

    async def __call__(self) -> None:
        self._calls += 1
        call = self._calls
        async with self._lock:
            if self._served < call:
                serving = self._calls
                await self._work()
                self._served = serving


class Bridge:
    """Implements runtime.protocol.NetworkPlugin. Every method raises NetworkError when it fails."""

    def __init__(self, config: BridgeConfig) -> None:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,14}", config.name):
            raise NetworkError(
                "InvalidConfiguration",
                f'bridge name "{config.name}" must be 1-15 letters, digits, "_", "." or "-", a letter first',
            )
        self._name = config.name
        self._range = PodRange(config.pod_cidr)
        self._daemon_ports = config.daemon_ports
        self._directory = config.data_dir / "network"
        self._owner = str(config.data_dir.resolve())
        self._ipam = Ipam(self._range, self._directory)
        # Netlink waits for the kernel's network lock, and entering a namespace changes the whole thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="network")
        self._deletion_thread = ThreadPoolExecutor(1, thread_name_prefix="network-deletion")
        self._links: Links | None = None
        self._lock_fd = -1
        self._doomed: set[str] = set()
        self._delete_doomed = _Shared(self._delete_links)
        self._apply_rules = _Shared(self._replace_rules)

    async def open(self) -> None:
        """Makes the bridge and the rules, or puts them right. Raises NetworkError: RangeOverlap, BridgeInUse."""
        await self._run(self._open)
        with self._explained():
            await forwarding.switch_on()
        await self._apply_rules()

    async def close(self) -> None:
        """Lets go of the state; the network stays as it is."""
        if self._links is not None:
            await self._run(self._links.close)
            self._links = None
        self._ipam.close()
        self._thread.shutdown()
        self._deletion_thread.shutdown()
        self._unlock()

    async def reset(self) -> str:
        """Remove the bridge, cables, rules and leases, whatever is left of them, and close the plugin.

        Return what stays on the machine and why, for its administrator; "" if nothing does.
        """
        stays = ""
        if await self._run(self._reset):
            await nftables.apply(nftables.removal(self._name))
            others = await self._run(self._opened().others)
            with self._explained():
                stays = await forwarding.switch_back(others)
        await self.close()
        return stays

    async def reconcile(self, live_sandbox_ids: Collection[str]) -> None:
        """Frees what sandboxes hold that no longer exist."""
        live = set(live_sandbox_ids)
        rules = await self._run(lambda: self._reconcile(live))
        if rules:
            await self._apply_rules()

    async def setup(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> list[str]:
        """Raises NetworkError: AddressesExhausted, HostPortConflict, InvalidConfiguration, NetworkSetupFailed."""
        ports = tuple(_host_port(mapping) for mapping in config.port_mappings if mapping.host_port)
        for port in ports:
            if port.protocol == "TCP" and port.host_port in self._daemon_ports:
                raise NetworkError(
                    "HostPortConflict",
                    f"host port {port} is the port of a daemon of the cluster: choose another hostPort",
                )
        try:
            lease = await self._run(lambda: self._setup(sandbox_id, netns_path, ports))
            if ports:
                await self._apply_rules()
        except NetworkError:
            await self.teardown(sandbox_id, netns_path, config)
            raise
        return [lease.address]

    async def teardown(self, sandbox_id: str, netns_path: str, config: SandboxConfig) -> None:
        # The cable first: while it is there, nobody else may have its address.
        self._doomed.add(veth_name(sandbox_id))
        await self._delete_doomed()
        lease = await self._run(lambda: self._ipam.free(sandbox_id))
        if lease is not None and lease.host_ports:
            await self._apply_rules()

    async def status(self) -> RuntimeCondition:
        """NetworkReady; false with what is missing and how to get it back."""
        if self._links is not None and await self._run(self._links.is_up):
            return RuntimeCondition(type="NetworkReady", status=True)
        return RuntimeCondition(
            type="NetworkReady",
            status=False,
            reason="NetworkPluginNotReady",
            message=f"Network plugin returns error: bridge {self._name} is not up; restarting the agent makes it anew",
        )

    async def _run(self, work: Callable[[], T], thread: ThreadPoolExecutor | None = None) -> T:
        with self._explained():
            return await asyncio.get_running_loop().run_in_executor(thread or self._thread, work)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Whatever the system refuses becomes a NetworkError that says of which network, and what it refused."""
        try:
            yield
        except OSError as error:
            raise NetworkError(
                "NetworkSetupFailed", f"network of bridge {self._name}: {file_error.reason(error)}"
            ) from error

    async def _replace_rules(self) -> None:
        leases = await self._run(self._ipam.leases)
        await nftables.apply(nftables.ruleset(self._name, self._range, leases, self._daemon_ports))

    async def _delete_links(self) -> None:
        names = set(self._doomed)
        links = self._opened()
        await self._run(lambda: links.delete(names), self._deletion_thread)
        self._doomed -= names

    # The rest runs in the network thread.

    def _open(self) -> None:
        self._lock()
        self._ipam.load()
        self._links = Links(self._name, self._owner, self._range)
        self._links.ensure({veth_name(lease.sandbox_id): lease.address for lease in self._ipam.leases()})

    def _reset(self) -> bool:
        """Whether the bridge's rules are this cluster's."""
        self._lock()
        links = self._links or Links(self._name, self._owner, self._range)
        self._links = links
        self._ipam.load()
        own = links.delete_bridge({veth_name(lease.sandbox_id) for lease in self._ipam.leases()})
        for lease in self._ipam.leases():
            self._ipam.free(lease.sandbox_id)
        shutil.rmtree(self._directory)
        return own

    def _reconcile(self, live: Collection[str]) -> bool:
        links = self._opened()
        freed = [self._ipam.free(lease.sandbox_id) for lease in self._ipam.leases() if lease.sandbox_id not in live]
        links.delete_cables({veth_name(lease.sandbox_id) for lease in self._ipam.leases()})
        return any(lease is not None and lease.host_ports for lease in freed)

    def _setup(self, sandbox_id: str, netns_path: str, ports: tuple[HostPort, ...]) -> Lease:
        lease = self._ipam.allocate(sandbox_id, ports)
        self._opened().add_pod(veth_name(sandbox_id), netns_path, lease.address)
        return lease

    def _opened(self) -> Links:
        if self._links is None:
            raise NetworkError("NetworkSetupFailed", f"network of bridge {self._name} is not open")
        return self._links

    def _lock(self) -> None:
        if self._lock_fd >= 0:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        fd = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            raise NetworkError("BridgeInUse", f"{self._directory} is in use by another podling agent") from None
        self._lock_fd = fd

    def _unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1


def _host_port(mapping: PortMapping) -> HostPort:
    """All of it becomes part of a rule for nft: nothing but three protocols, numbers and an address may get there."""
    address, protocol = mapping.host_ip, (mapping.protocol or "TCP").upper()
    if protocol not in ("TCP", "UDP", "SCTP") or not all(
        0 < port < 65536 for port in (mapping.host_port, mapping.container_port)
    ):
        message = f'host port {mapping.host_port} for port {mapping.container_port} of protocol "{protocol}" cannot be'
        raise NetworkError("InvalidConfiguration", message)
    try:
        if address and IPv4Address(address) == IPv4Address(0):
            address = ""
    except AddressValueError:
        message = f'host IP "{address}" of host port {mapping.host_port} is not an IPv4 address'
        raise NetworkError("InvalidConfiguration", message) from None
    return HostPort(protocol, address, mapping.host_port, mapping.container_port)
