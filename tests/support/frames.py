"""Frames as a container with CAP_NET_RAW can send them: every field as the attacker likes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from podling.network import netns

BROADCAST = "ff:ff:ff:ff:ff:ff"
IPV4, ARP, IPV6, VLAN, QINQ = 0x0800, 0x0806, 0x86DD, 0x8100, 0x88A8
_ALL = 0x0003
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_PROMISC, _PACKET_OUTGOING = 263, 1, 1, 4
_SECONDS = 10


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def ethernet(destination: str, source: str, kind: int, payload: bytes) -> bytes:
    return mac(destination) + mac(source) + struct.pack("!H", kind) + payload


def tagged(vlan: int, kind: int, payload: bytes) -> bytes:
    """What follows a VLAN's ethertype."""
    return struct.pack("!HH", vlan, kind) + payload


def arp(operation: int, sender_mac: str, sender: str, target_mac: str, target: str) -> bytes:
    head = struct.pack("!HHBBH", 1, IPV4, 6, 4, operation)
    return head + mac(sender_mac) + socket.inet_aton(sender) + mac(target_mac) + socket.inet_aton(target)


def udp(
    source: str, destination: str, port: int, data: bytes, *, from_port: int = 40000, options: bytes = b""
) -> bytes:
    """An IPv4 packet; UDP's checksum is left out, as it may be."""
    options += b"\0" * (-len(options) % 4)
    length = 20 + len(options) + 8 + len(data)
    words = (0x40 | (5 + len(options) // 4), 0, length, 0, 0, 64, socket.IPPROTO_UDP)
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", *words, 0) + addresses + options
    head = struct.pack("!BBHHHBBH", *words, checksum(head)) + addresses + options
    return head + struct.pack("!HHHH", from_port, port, 8 + len(data), 0) + data


def ipv6(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + addresses + payload


def icmp6(source: str, destination: str, body: bytes) -> bytes:
    """An ICMPv6 message, whose checksum (bytes 2 and 3 of the body) is filled in."""
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    total = checksum(addresses + struct.pack("!II", len(body), socket.IPPROTO_ICMPV6) + body)
    return ipv6(source, destination, socket.IPPROTO_ICMPV6, body[:2] + struct.pack("!H", total) + body[4:])


def udp6(source: str, destination: str, port: int, data: bytes) -> bytes:
    addresses = socket.inet_pton(socket.AF_INET6, source) + socket.inet_pton(socket.AF_INET6, destination)
    length = 8 + len(data)
    body = struct.pack("!HHHH", 40000, port, length, 0) + data
    total = checksum(addresses + struct.pack("!II", length, socket.IPPROTO_UDP) + body)
    return ipv6(source, destination, socket.IPPROTO_UDP, body[:6] + struct.pack("!H", total or 0xFFFF) + data)


def checksum(data: bytes) -> int:
    data += b"\0" * (len(data) % 2)
    total = sum(int.from_bytes(data[offset : offset + 2]) for offset in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@dataclass(frozen=True)
class Station:
    """An interface in a network namespace, from which frames are sent and where they are seen."""

    namespace: str
    address: str
    mac: str
    gateway_mac: str
    interface: str = "eth0"

    def send(self, *frames: bytes) -> None:
        with netns.entered(self.namespace):
            sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        with sender:
            sender.bind((self.interface, 0))
            for frame in frames:
                sender.send(frame)

    @contextmanager
    def watched(self) -> Iterator[Watch]:
        """Everything that arrives meanwhile, whomever it is for."""
        with netns.entered(self.namespace):
            seen = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ALL))
        with seen:
            seen.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
            seen.bind((self.interface, _ALL))
            # Promiscuous: a sniffer, too, sees what others' stations are sent.
            membership = struct.pack("IHH8s", self._index(), _PACKET_MR_PROMISC, 0, b"")
            seen.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, membership)
            yield Watch(seen)

    def _index(self) -> int:
        with netns.entered(self.namespace):
            return socket.if_nametoindex(self.interface)

    def socket(self, kind: int = socket.SOCK_DGRAM) -> socket.socket:
        with netns.entered(self.namespace):
            made = socket.socket(socket.AF_INET, kind)
        made.settimeout(_SECONDS)
        return made


class Watch:
    def __init__(self, seen: socket.socket) -> None:
        self._seen = seen
        self._seen.settimeout(_SECONDS)

    def until(self, fence: bytes) -> list[bytes]:
        """Return the frames that arrived before one that holds `fence`. Raises TimeoutError if that does not arrive."""
        frames: list[bytes] = []
        while True:
            frame, address = self._seen.recvfrom(65536)
            if address[2] == _PACKET_OUTGOING:  # sent by this station itself
                continue
            if fence in frame:
                return frames
            frames.append(frame)
