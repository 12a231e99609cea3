"""How a process tells that it is ready: sd_notify(3), to systemd or to `podling up`."""

from __future__ import annotations

import os
import secrets
import socket

VARIABLE = "NOTIFY_SOCKET"
NAME = "X_PODLING"
"""The assignment that names the process."""


def send(*lines: str) -> None:
    """From the process: "READY=1", "STATUS=...". Nothing happens if nobody asked."""
    address = os.environ.get(VARIABLE, "")
    if not address:
        return
    if address[0] == "@":
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        try:
            sender.sendto("\n".join(lines).encode(), address)
        except OSError:
            return  # whoever asked has stopped listening


class Listener:
    """Where processes started with `environment` report."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        name = f"podling-{secrets.token_hex(8)}"
        self.socket.bind("\0" + name)
        self.socket.setblocking(False)
        self.environment = {VARIABLE: "@" + name}

    def receive(self) -> dict[str, str]:
        """The next message's assignments; empty if there is none."""
        try:
            text = self.socket.recv(65536).decode(errors="replace")
        except BlockingIOError:
            return {}
        return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)

    def close(self) -> None:
        self.socket.close()
