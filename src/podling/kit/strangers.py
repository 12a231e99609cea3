"""Connections that have shown no credentials yet, and what they may cost: numbers and time.

Whoever reaches a port may open connections. Until a connection shows credentials it counts here:
- It must ask for something soon (FIRST_REQUEST), the TLS handshake included, and it ends after LIFETIME however busy it is.
- Each source, and all of them together, have room for so many. A new connection always gets in: where there is no room,
  the source with the most connections loses its oldest one. So a flood displaces itself; somebody with credentials needs
  a place for one handshake only, and connections with credentials take none.

A source is an IPv4 address or an IPv6 network of 64 bits, for one machine can have all addresses of such a network.
"""

from __future__ import annotations

import asyncio
import ipaddress
import resource
from collections.abc import Callable
from typing import Final

FIRST_REQUEST: Final = 10.0
"""Seconds from a connection's beginning to the end of the head of its first request."""
LIFETIME: Final = 60.0
"""Seconds that a connection without credentials lasts."""
MOST: Final = 256
"""Connections without credentials at a time. Each costs a descriptor and some 60 KB, or MAX_HEAD at the worst."""
_SHARE_OF_DESCRIPTORS: Final = 4
"""One in so many descriptors is for strangers; the others are for files, clients with credentials and local sockets."""
_SHARE_OF_SOURCE: Final = 4
"""One in so many of all places is for one source."""


class Stranger:
    """One connection without credentials. `close` ends it, in whatever state it is."""

    __slots__ = ("_loop", "_strangers", "_timer", "begun", "close", "source")

    def __init__(self, strangers: Strangers, source: str, close: Callable[[], object]) -> None:
        self._strangers = strangers
        self._loop = asyncio.get_running_loop()
        self.source = source
        self.close = close
        self.begun = self._loop.time()
        self._timer = self._loop.call_later(FIRST_REQUEST, self._end)

    def asked(self) -> None:
        """It has made its first request: it may make more until its lifetime is over."""
        self._timer.cancel()
        self._timer = self._loop.call_at(self.begun + LIFETIME, self._end)

    def leave(self) -> None:
        """It has shown credentials, or is closed: it counts no longer."""
        self._timer.cancel()
        self._strangers.forget(self)

    def _end(self) -> None:
        self.leave()
        self.close()


class Strangers:
    """The connections without credentials of one port."""

    def __init__(self, most: int | None = None) -> None:
        """most: how many (default: what the process's descriptors allow, at most MOST)."""
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most = most or max(_SHARE_OF_SOURCE, min(MOST, descriptors // _SHARE_OF_DESCRIPTORS))
        # Dictionaries stand for ordered sets: the oldest connection comes first.
        self._by_source: dict[str, dict[Stranger, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def admit(self, address: str, close: Callable[[], object]) -> Stranger:
        """Count a new connection from this address; where there is no room, another one is closed for it."""
        source = _source(address)
        own = self._by_source.get(source, {})
        if len(own) >= self._most // _SHARE_OF_SOURCE:
            self._displace(own)
        elif self._count >= self._most:
            self.displace()
        stranger = Stranger(self, source, close)
        self._by_source.setdefault(source, {})[stranger] = None
        self._count += 1
        return stranger

    def displace(self) -> None:
        """Close the oldest connection of the source that has the most, if there is any."""
        if self._by_source:
            self._displace(max(self._by_source.values(), key=len))

    def forget(self, stranger: Stranger) -> None:
        """Called by the stranger itself."""
        own = self._by_source.get(stranger.source, {})
        if stranger in own:
            del own[stranger]
            self._count -= 1
            if not own:
                del self._by_source[stranger.source]

    def _displace(self, own: dict[Stranger, None]) -> None:
        oldest = next(iter(own))
        oldest.leave()
        oldest.close()


def _source(address: str) -> str:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
