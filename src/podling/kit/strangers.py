"""Connections that have shown no credentials yet, and what they may cost: numbers and time.

Whoever reaches a port may open connections. Until a connection shows credentials it counts here:
- It must ask for something soon (FIRST_REQUEST), the TLS handshake included, and it ends after LIFETIME however busy it is.
- Each source, and all of them together, have room for so many (podling.kit.places). Somebody with credentials needs such a
  place for one handshake only.

A source is an IPv4 address or an IPv6 network of 64 bits, for one machine can have all addresses of such a network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections.abc import Callable
from typing import Final

from podling.kit.places import SHARE, Place, Places

FIRST_REQUEST: Final = 10.0
"""Seconds from a connection's beginning to the end of the head of its first request."""
LIFETIME: Final = 60.0
"""Seconds that a connection without credentials lasts."""
MOST: Final = 256
"""Connections without credentials at a time. Each costs a descriptor and some 60 KB, or MAX_HEAD at the worst."""
_SHARE_OF_DESCRIPTORS: Final = 4
"""One in so many descriptors is for strangers; the others are for files, clients with credentials and local sockets."""


class Stranger(Place):
    """One connection without credentials."""

    __slots__ = ("_loop", "_timer", "begun")

    def __init__(self, strangers: Places, source: str, close: Callable[[], object]) -> None:
        super().__init__(strangers, source, close)
        self._loop = asyncio.get_running_loop()
        self.begun = self._loop.time()
        self._timer = self._loop.call_later(FIRST_REQUEST, self._end)

    def asked(self) -> None:
        """It has made its first request: it may make more until its lifetime is over."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self.begun + LIFETIME, self._end)

    def leave(self) -> None:
        """It has shown credentials, or is closed: it counts no longer."""
        self._timer.cancel()
        super().leave()

    def _end(self) -> None:
        self.leave()
        self.close()


class Strangers(Places):
    """The connections without credentials of one port."""

    def __init__(self, most: int | None = None) -> None:
        """most: how many (default: what the process's descriptors allow, at most MOST)."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        super().__init__(most or max(SHARE, min(MOST, descriptors // _SHARE_OF_DESCRIPTORS)))

    def admit(self, address: str, close: Callable[[], object]) -> Stranger:
        """Count a new connection from this address; where there is no room, another one is closed for it."""
        stranger = Stranger(self, _source(address), close)
        self.take(stranger)
        return stranger


def _source(address: str) -> str:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
