"""The IP addresses by which this machine can be reached."""

from __future__ import annotations

import ipaddress
import re
import socket
from pathlib import Path

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def machine_addresses() -> list[str]:
    """Every IPv4 and global IPv6 address of this machine but loopback ones, the advertised one first."""
    found = set(_LOCAL.findall(_read("/proc/net/fib_trie")))
    for line in _read("/proc/net/if_inet6").splitlines():
        found.add(str(ipaddress.IPv6Address(int(line.split()[0], 16))))
    usable = [ip for ip in map(ipaddress.ip_address, found) if not ip.is_loopback and not ip.is_link_local]
    ordered = [str(ip) for ip in sorted(usable, key=lambda ip: (ip.version, int(ip)))]
    first = _default_source()
    return [first, *(ip for ip in ordered if ip != first)] if first else ordered


def advertised_address() -> str:
    """The address that other machines and Pods use: the source of the default route, else any, else 127.0.0.1."""
    return next(iter(machine_addresses()), "127.0.0.1")


def _default_source() -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Connecting a datagram socket only looks up the route; nothing is sent.
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return ""
        address = str(probe.getsockname()[0])
    return "" if ipaddress.ip_address(address).is_loopback else address


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
