"""A blocking rtnetlink socket: several requests in one datagram, each acknowledged by the kernel.

Messages are encoded and decoded by pyroute2's message classes. Its socket classes are not used, because they run an
event loop of their own for every request (0.5 ms each, where the kernel needs 0.05 ms).
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import socket
import struct
import sys
from array import array
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any


def _message_classes() -> tuple[Any, Any, Any, Any]:
    """Imports four message modules without pyroute2's `__init__`, which loads every subsystem: 12 MB and 100 ms."""
    spec = importlib.util.find_spec("pyroute2")
    if "pyroute2" in sys.modules or spec is None:
        shell = None
    else:
        shell = ModuleType("pyroute2")
        shell.__spec__ = spec
        shell.__path__ = list(spec.submodule_search_locations or ())
        sys.modules["pyroute2"] = shell
    try:
        from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
        from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
        from pyroute2.netlink.rtnl.ndmsg import ndmsg
        from pyroute2.netlink.rtnl.rtmsg import rtmsg
    finally:
        if shell is not None:
            sys.modules.pop("pyroute2", None)
    return ifinfmsg, ifaddrmsg, rtmsg, ndmsg


_ifinfmsg, _ifaddrmsg, _rtmsg, _ndmsg = _message_classes()

RTM_NEWLINK, RTM_DELLINK, RTM_GETLINK = 16, 17, 18
RTM_NEWADDR, RTM_GETADDR = 20, 22
RTM_NEWROUTE, RTM_GETROUTE = 24, 26
RTM_NEWNEIGH = 28

NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x100, 0x200, 0x400

_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_NLM_F_ACK_TLVS = 0x200
_SOL_NETLINK, _NETLINK_CAP_ACK, _NETLINK_EXT_ACK = 270, 10, 11
_SIOCETHTOOL, _ETHTOOL_GLINK = 0x8946, 0x0A
_HEADER = struct.Struct("=IHHII")
_CLASSES = {RTM_NEWLINK: _ifinfmsg, RTM_NEWADDR: _ifaddrmsg, RTM_NEWROUTE: _rtmsg, RTM_NEWNEIGH: _ndmsg}
_WORDS = {
    RTM_NEWLINK: ("link", ("IFLA_IFNAME",)),
    RTM_NEWADDR: ("address", ("IFA_LOCAL",)),
    RTM_NEWROUTE: ("the route", ("RTA_DST", "RTA_GATEWAY")),
    RTM_NEWNEIGH: ("neighbour", ("NDA_DST",)),
}

Attributes = list[tuple[str, Any]]


class NetlinkError(OSError):
    """The kernel refused a request; `errno` says why, the text is the kernel's own where it gave one."""


class Request:
    """One message: `fields` are those of its fixed header, `attributes` name pyroute2's netlink attributes."""

    def __init__(self, kind: int, flags: int, attributes: Attributes | None = None, /, **fields: int) -> None:
        self.kind = kind
        self.flags = flags
        self.attributes = attributes or []
        self.fields = fields
        self._encoded = b""

    def __str__(self) -> str:
        """In words, for messages: "to set up link veth0"."""
        what, naming = _WORDS[self.kind & ~3]
        verb = ("to set up", "to delete", "to list")[self.kind & 3]
        name = next((f" {value}" for key, value in self.attributes if key in naming), "")
        if not name and "index" in self.fields:
            name = f" number {self.fields['index']}"
        return f"{verb} {what}{name}"

    def encode(self, sequence: int, flags: int = 0) -> bytes:
        """Return the message with these flags besides its own. What it holds is encoded once, since that takes 0.1 ms."""
        if not self._encoded:
            self._encoded = self._encode()
        head = _HEADER.pack(len(self._encoded), self.kind, self.flags | flags | NLM_F_REQUEST, sequence, 0)
        return head + self._encoded[_HEADER.size :]

    def _encode(self) -> bytes:
        # GET and DEL have the layout of the NEW message of their family, which is a multiple of four.
        message = _CLASSES[self.kind & ~3]()
        for name, value in self.fields.items():
            message[name] = value
        message["attrs"] = self.attributes
        message.encode()
        return bytes(message.data)


class Socket:
    """Belongs to one thread, and to the network namespace that this thread was in when the socket was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.bind((0, 0))
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        self._sequence = 0

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._socket.close()

    def send(self, requests: Iterable[Request]) -> None:
        """Carries them out in order, all of them even if one fails; then raises the first NetlinkError."""
        data = bytearray()
        awaited: dict[int, Request] = {}
        for request in requests:
            self._sequence += 1
            awaited[self._sequence] = request
            data += request.encode(self._sequence, NLM_F_ACK)
        self._socket.send(data)
        failure: NetlinkError | None = None
        while awaited:
            for kind, flags, sequence, payload in self._receive():
                if kind == _NLMSG_ERROR and (refused := awaited.pop(sequence, None)) is not None:
                    failure = failure or _error(refused, flags, payload)
        if failure is not None:
            raise failure

    def dump(self, request: Request) -> list[Any]:
        """The answers to a GET of everything: pyroute2 messages (`["index"]`, `.get_attr("IFLA_IFNAME")`)."""
        self._sequence += 1
        wanted = self._sequence
        self._socket.send(request.encode(wanted, NLM_F_DUMP))
        answers: list[Any] = []
        while True:
            for kind, flags, sequence, payload in self._receive():
                if sequence != wanted:
                    continue
                if kind == _NLMSG_DONE:
                    return answers
                if kind == _NLMSG_ERROR:
                    failure = _error(request, flags, payload)
                    if failure is not None:
                        raise failure
                    continue
                message = _CLASSES[kind & ~3](_HEADER.pack(16 + len(payload), kind, flags, sequence, 0) + payload)
                message.decode()
                answers.append(message)

    def await_carrier(self, interface: str) -> None:
        """Have the kernel take note of a link's carrier now, which it does in the background else."""
        command = struct.pack("=II", _ETHTOOL_GLINK, 0)
        value = array("B", command)
        request = struct.pack("16sP", interface.encode(), value.buffer_info()[0]).ljust(40, b"\0")
        fcntl.ioctl(self._socket, _SIOCETHTOOL, request)

    def _receive(self) -> Iterator[tuple[int, int, int, bytes]]:
        data = self._socket.recv(1 << 17)
        offset = 0
        while offset + 16 <= len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
            yield kind, flags, sequence, data[offset + 16 : offset + length]
            offset += (length + 3) & ~3


def _error(request: Request, flags: int, payload: bytes) -> NetlinkError | None:
    code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if code == 0:
        return None
    text = os.strerror(code)
    if flags & _NLM_F_ACK_TLVS:
        # struct nlmsgerr: error, then the header of the request (NETLINK_CAP_ACK), then attributes; 1 is the message.
        offset = 20
        while offset + 4 <= len(payload):
            length, kind = struct.unpack_from("=HH", payload, offset)
            if kind & 0x3FFF == 1:
                text = payload[offset + 4 : offset + length].rstrip(b"\0").decode(errors="replace")
            if length < 4:
                break
            offset += (length + 3) & ~3
    return NetlinkError(code, f"the kernel refused {request}: {text}")
