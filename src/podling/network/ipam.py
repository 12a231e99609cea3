"""Addresses of one Pod range: who has which, kept in files so that neither a crash nor kill -9 loses or leaks one.

One file per sandbox, written beside and renamed: a file is whole or not there. The cursor file, written in place since
its size never changes, holds the address given last: allocation goes round the range, so that an address that was just
freed rests as long as possible (clients may still have connections to the Pod that had it).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Network, NetmaskValueError
from pathlib import Path

import msgspec

from podling.kit import document_error
from podling.network.errors import NetworkError

log = logging.getLogger(__name__)

_CURSOR_BYTES = 15


class HostPort(msgspec.Struct, frozen=True):
    """A port of the node that leads to the sandbox. `host_ip` "" means every address of the node."""

    protocol: str
    host_ip: str
    host_port: int
    container_port: int

    def conflicts(self, other: HostPort) -> bool:
        """As the scheduler's NodePorts: equal protocol and port, and equal addresses or one of them for all."""
        same_port = (self.protocol, self.host_port) == (other.protocol, other.host_port)
        return same_port and ("" in (self.host_ip, other.host_ip) or self.host_ip == other.host_ip)

    def __str__(self) -> str:
        return f"{self.host_ip or '0.0.0.0'}:{self.host_port}/{self.protocol}"


class Lease(msgspec.Struct, frozen=True):
    """What a sandbox holds: its address and host ports."""

    sandbox_id: str
    address: str
    host_ports: tuple[HostPort, ...] = ()


class PodRange:
    """An IPv4 range whose first address is the gateway. Raises NetworkError (InvalidConfiguration) if it is none."""

    def __init__(self, cidr: str) -> None:
        try:
            self.network = IPv4Network(cidr, strict=False)
        except (AddressValueError, NetmaskValueError, ValueError):
            message = f'Pod range "{cidr}" is not an IPv4 range such as 10.244.0.0/24'
            raise NetworkError("InvalidConfiguration", message) from None
        if self.network.prefixlen > 30:
            raise NetworkError("InvalidConfiguration", f'Pod range "{cidr}" has no room for Pods: use a /30 or larger')
        self.gateway = self.network.network_address + 1
        self.first = int(self.gateway) + 1
        self.size = self.network.num_addresses - 3
        """Addresses for Pods: all but the network's, the gateway's and the broadcast address."""

    def __contains__(self, address: str) -> bool:
        return 0 <= int(IPv4Address(address)) - self.first < self.size

    def after(self, address: str) -> str:
        """The next address, the first one after the last."""
        return str(IPv4Address(self.first + (int(IPv4Address(address)) - self.first + 1) % self.size))

    @property
    def last(self) -> str:
        return str(IPv4Address(self.first + self.size - 1))


class Ipam:
    """Blocking, but only by writes to the page cache; one owner per directory (see bridge.py, which locks it)."""

    def __init__(self, pod_range: PodRange, directory: Path) -> None:
        self._range = pod_range
        self._leases_dir = directory / "leases"
        self._cursor_file = directory / "cursor"
        self._cursor_fd = -1
        self._leases: dict[str, Lease] = {}
        self._taken: dict[str, str] = {}
        self._cursor = pod_range.last

    def load(self) -> None:
        """Reads the leases. Those outside the range (it was changed) stay theirs until they are freed."""
        self._leases_dir.mkdir(parents=True, exist_ok=True)
        decoder = msgspec.json.Decoder(Lease)
        for file in self._leases_dir.iterdir():
            if file.suffix == ".tmp":
                file.unlink(missing_ok=True)
                continue
            try:
                lease = decoder.decode(file.read_bytes())
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # A power failure empties files that were just renamed. The sandbox did not survive it either.
                log.warning("lease %s is damaged and removed: %s", file, document_error.reason(error))
                file.unlink()
                continue
            self._leases[lease.sandbox_id] = lease
            self._taken[lease.address] = lease.sandbox_id
        try:
            cursor = self._cursor_file.read_text().strip()
            self._cursor = cursor if cursor in self._range else self._range.last
        except (FileNotFoundError, ValueError):
            self._cursor = self._range.last

    def close(self) -> None:
        if self._cursor_fd >= 0:
            os.close(self._cursor_fd)
            self._cursor_fd = -1

    def leases(self) -> Sequence[Lease]:
        return list(self._leases.values())

    def get(self, sandbox_id: str) -> Lease | None:
        return self._leases.get(sandbox_id)

    def allocate(self, sandbox_id: str, host_ports: Sequence[HostPort] = ()) -> Lease:
        """The sandbox's lease; the one that it has already, if the host ports are the same.

        Raises NetworkError: AddressesExhausted or HostPortConflict.
        """
        ports = tuple(host_ports)
        held = self._leases.get(sandbox_id)
        if held is not None and held.host_ports == ports:
            return held
        self._check_ports(sandbox_id, ports)
        address = held.address if held is not None else self._next_free()
        lease = Lease(sandbox_id, address, ports)
        if self._cursor_fd < 0:
            self._cursor_fd = os.open(self._cursor_file, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        os.pwrite(self._cursor_fd, address.ljust(_CURSOR_BYTES).encode(), 0)
        self._write(lease)
        self._cursor = address
        self._leases[sandbox_id] = lease
        self._taken[address] = sandbox_id
        return lease

    def free(self, sandbox_id: str) -> Lease | None:
        """Returns what was held, None if it was nothing."""
        lease = self._leases.pop(sandbox_id, None)
        if lease is not None:
            self._taken.pop(lease.address, None)
            (self._leases_dir / sandbox_id).unlink(missing_ok=True)
        return lease

    def _next_free(self) -> str:
        address = self._cursor
        for _ in range(min(self._range.size, len(self._taken) + 1)):
            address = self._range.after(address)
            if address not in self._taken:
                return address
        raise NetworkError(
            "AddressesExhausted",
            f"no free address in Pod range {self._range.network}: all {self._range.size} are in use",
        )

    def _check_ports(self, sandbox_id: str, ports: Sequence[HostPort]) -> None:
        for index, port in enumerate(ports):
            if any(port.conflicts(other) for other in ports[:index]):
                raise NetworkError("HostPortConflict", f"host port {port} is asked for twice")
            for lease in self._leases.values():
                if lease.sandbox_id != sandbox_id and any(port.conflicts(other) for other in lease.host_ports):
                    raise NetworkError(
                        "HostPortConflict", f"host port {port} is already in use by sandbox {lease.sandbox_id}"
                    )

    def _write(self, lease: Lease) -> None:
        path = self._leases_dir / lease.sandbox_id
        temporary = f"{path}.tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, msgspec.json.encode(lease))
        finally:
            os.close(fd)
        os.rename(temporary, path)
