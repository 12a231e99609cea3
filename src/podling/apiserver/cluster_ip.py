"""Cluster IPs of Services: which are taken, and the next free one.

Nothing is stored: what is taken is what the stored Services have.
"""

from __future__ import annotations

import ipaddress
import random


class AllocationError(Exception):
    """Upstream's words for why an address cannot be had."""


class ClusterIPs:
    def __init__(self, cidr: str) -> None:
        self.network = ipaddress.ip_network(cidr)
        self._first = int(self.network.network_address) + 1
        # The network's own and the broadcast address are never given out.
        self._size = self.network.num_addresses - (2 if self.network.version == 4 else 1)
        if self._size < 1:
            raise ValueError(f"{cidr} has no room for a Service")
        # Upstream gives dynamic addresses from above a lower band, which is left to those that ask for an address.
        self._reserved = min(max(16, self.network.num_addresses // 16), 256) if self._size > 32 else 1
        self._taken: set[int] = set()

    @property
    def kubernetes(self) -> str:
        """The address of the Service "kubernetes": the first."""
        return str(ipaddress.ip_address(self._first))

    def take(self, address: str) -> None:
        """Raises AllocationError."""
        try:
            wanted = ipaddress.ip_address(address)
        except ValueError:
            raise AllocationError(f"{address!r} is not a valid IP address") from None
        number = int(wanted)
        if wanted.version != self.network.version or not self._first <= number < self._first + self._size:
            raise AllocationError(
                f"the provided network does not match the current range: {address} not in {self.network}"
            )
        if number in self._taken:
            raise AllocationError("provided IP is already allocated")
        self._taken.add(number)

    def take_next(self) -> str:
        """A free address. Raises AllocationError when there is none."""
        for low, high in ((self._reserved, self._size), (0, self._reserved)):
            span = high - low
            if span <= 0:
                continue
            offset = random.randrange(span)
            for step in range(span):
                number = self._first + low + (offset + step) % span
                if number not in self._taken and number != self._first:
                    self._taken.add(number)
                    return str(ipaddress.ip_address(number))
        raise AllocationError("range is full")

    def give_back(self, address: str) -> None:
        self._taken.discard(int(ipaddress.ip_address(address)))

    def assume(self, address: str) -> None:
        """Marks the address of a stored Service, whatever it is."""
        self._taken.add(int(ipaddress.ip_address(address)))
