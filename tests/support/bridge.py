"""The bridge plugin on a node that is a network namespace of the test's own; a Pod is a namespace and nothing else."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from podling.network import netns
from podling.network.bridge import Bridge, BridgeConfig
from podling.runtime.protocol import PortMapping, SandboxConfig, SandboxMetadata

BRIDGE = "pdt0"
CIDR = "10.231.7.0/24"
GATEWAY = "10.231.7.1"
NODE = "10.232.0.1"
OUTSIDE = "10.232.0.2"

CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 0x1000, 2
libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def command(*args: str) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def sysctl(name: str, value: str = "") -> str:
    """Return the sysctl of this thread's network namespace, after it was set to the value if there is one."""
    path = Path("/proc/sys", name.replace(".", "/"))
    if value:
        path.write_text(value)
    return path.read_text().strip()


def make_netns(path: Path) -> str:
    def make() -> None:
        checked(libc.unshare(CLONE_NEWNET))
        path.touch()
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        checked(libc.mount(source.encode(), str(path).encode(), b"", MS_BIND, None))

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return str(path)


def remove_netns(path: str) -> None:
    libc.umount2(path.encode(), MNT_DETACH)
    Path(path).unlink(missing_ok=True)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    """This thread, and whatever it starts, is in a new network namespace, which is gone after the test."""
    path = make_netns(tmp_path / "node-netns")
    with netns.entered(path):
        command("ip", "link", "set", "lo", "up")
        yield tmp_path
    remove_netns(path)


@pytest.fixture
def outside(node: Path) -> Iterator[str]:
    """A machine beyond the node, where its default route leads; it knows no way to the Pods."""
    path = make_netns(node / "outside-netns")
    command("ip", "link", "add", "up0", "mtu", "1400", "type", "veth", "peer", "name", "eth0", "netns", path)
    command("ip", "address", "add", f"{NODE}/24", "dev", "up0")
    command("ip", "link", "set", "up0", "up")
    command("ip", "route", "add", "default", "via", OUTSIDE)
    with netns.entered(path):
        command("ip", "address", "add", f"{OUTSIDE}/24", "dev", "eth0")
        command("ip", "link", "set", "eth0", "up")
    yield path
    remove_netns(path)


class Cluster:
    """A Bridge in the running loop, and Pods that are nothing but a network namespace each."""

    def __init__(
        self, directory: Path, name: str = BRIDGE, cidr: str = CIDR, daemon_ports: frozenset[int] = frozenset()
    ) -> None:
        self.directory = directory
        self.bridge = Bridge(BridgeConfig(name, cidr, directory / name, daemon_ports))
        self.pods: dict[str, tuple[str, SandboxConfig]] = {}

    def config(self, name: str, *ports: PortMapping) -> SandboxConfig:
        metadata = SandboxMetadata(name=name, namespace="default", uid=name)
        return SandboxConfig(metadata=metadata, port_mappings=list(ports))

    async def add(self, name: str, *ports: PortMapping) -> str:
        path = await asyncio.to_thread(make_netns, self.directory / f"netns-{name}")
        self.pods[name] = (path, self.config(name, *ports))
        (address,) = await self.bridge.setup(name, *self.pods[name])
        return address

    async def remove(self, name: str) -> None:
        await self.bridge.teardown(name, *self.pods[name])
        remove_netns(self.pods.pop(name)[0])

    def netns(self, name: str) -> str:
        return self.pods[name][0]


def on_node(
    directory: Path,
    test: Callable[[Cluster], Coroutine[Any, Any, None]],
    daemon_ports: frozenset[int] = frozenset(),
) -> None:
    """Runs the test with an open bridge; afterwards resets it and looks for what it left."""

    async def run() -> None:
        cluster = Cluster(directory, daemon_ports=daemon_ports)
        await cluster.bridge.open()
        try:
            await test(cluster)
        finally:
            try:
                await cluster.bridge.reset()
            finally:  # a test that failed after `close` has no bridge to reset
                for path, _ in cluster.pods.values():
                    remove_netns(path)

    before = traces()
    asyncio.run(run())
    assert traces() == before
    assert not (directory / BRIDGE / "network").exists()


def traces() -> tuple[list[str], list[str], str]:
    """Links, routes and rules of the node. IPv6 routes are left out: the kernel adds them a second after a link."""
    links = [link["ifname"] for link in json.loads(command("ip", "-j", "link", "show"))]
    routes = [
        f"{route['dst']} {route['dev']}"
        for route in json.loads(command("ip", "-4", "-j", "route", "show", "table", "all"))
    ]
    return links, routes, command("nft", "list", "ruleset")


def socket_in(path: str | None, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """In that namespace; None is the node."""
    with netns.entered(path) if path else nullcontext():
        made = socket.socket(socket.AF_INET, kind)
    made.settimeout(3)
    return made


def exchange(
    client: str | None, target: tuple[str, int], server: str | None, port: int, kind: int = socket.SOCK_STREAM
) -> str:
    """Calls the target and has the server answer on that port; returns the address from which it saw the call come."""
    with socket_in(server, kind) as listener, socket_in(client, kind) as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("0.0.0.0", port))
        caller_address: str
        if kind == socket.SOCK_STREAM:
            listener.listen()
            caller.connect(target)
            caller.sendall(b"ping")
            connection, (caller_address, _) = listener.accept()
            with connection:
                connection.settimeout(3)
                connection.sendall(connection.recv(4) + b" pong")
        else:
            caller.connect(target)
            caller.send(b"ping")
            data, sender = listener.recvfrom(100)
            caller_address = sender[0]
            listener.sendto(data + b" pong", sender)
        assert caller.recv(100) == b"ping pong"
        return caller_address


def unreachable(client: str | None, target: tuple[str, int]) -> bool:
    with socket_in(client) as caller:
        caller.settimeout(0.3)
        try:
            caller.connect(target)
        except OSError:
            return True
        return False
