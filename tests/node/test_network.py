"""The bridge plugin on the real kernel. Every test has a network namespace of its own as its node."""

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
from podling.network.errors import NetworkError
from podling.network.links import veth_name
from podling.runtime.protocol import PortMapping, SandboxConfig, SandboxMetadata

BRIDGE = "pdt0"
CIDR = "10.231.7.0/24"
GATEWAY = "10.231.7.1"
NODE = "10.232.0.1"
OUTSIDE = "10.232.0.2"

CLONE_NEWNET, MS_BIND, MNT_DETACH = 0x40000000, 0x1000, 2
libc = ctypes.CDLL(None, use_errno=True)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def checked(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def command(*args: str) -> str:
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


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
            await cluster.bridge.reset()
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


def test_pods_node_and_outside_reach_each_other_by_address(node: Path, outside: str) -> None:
    async def check(cluster: Cluster) -> None:
        first, second = await cluster.add("first"), await cluster.add("second")
        assert exchange(cluster.netns("first"), (second, 80), cluster.netns("second"), 80) == first
        assert exchange(cluster.netns("first"), (first, 80), cluster.netns("first"), 80) == first
        assert exchange(cluster.netns("first"), ("127.0.0.1", 80), cluster.netns("first"), 80) == "127.0.0.1"
        assert exchange(None, (first, 80), cluster.netns("first"), 80) == GATEWAY
        assert exchange(cluster.netns("first"), (NODE, 80), None, 80) == first
        # Outside knows no way to the Pods, so it must see the node.
        assert exchange(cluster.netns("first"), (OUTSIDE, 80), outside, 80) == NODE

    on_node(node, check)


def test_a_pod_gets_the_mtu_of_the_default_route(node: Path, outside: str) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.add("first")
        with netns.entered(cluster.netns("first")):
            assert "mtu 1400" in command("ip", "-o", "link", "show", "eth0")
            assert "state UP" in command("ip", "-o", "link", "show", "eth0")
        assert "mtu 1400" in command("ip", "-o", "link", "show", BRIDGE)

    on_node(node, check)


def test_the_gateway_keeps_its_hardware_address_when_pods_come_and_go(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        before = command("ip", "-o", "link", "show", BRIDGE).split("link/ether")[1]
        for number in range(5):
            await cluster.add(f"pod{number}")
        await cluster.remove("pod0")
        assert command("ip", "-o", "link", "show", BRIDGE).split("link/ether")[1] == before

    on_node(node, check)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM], ids=["tcp", "udp"])
@pytest.mark.parametrize("bridge_netfilter", ["0", "1"])
def test_a_host_port_leads_to_the_pod_from_everywhere(
    node: Path, outside: str, kind: int, bridge_netfilter: str
) -> None:
    sysctl = Path("/proc/sys/net/bridge/bridge-nf-call-iptables")
    if sysctl.exists():
        sysctl.write_text(bridge_netfilter)
    elif bridge_netfilter == "1":
        pytest.skip("the kernel module br_netfilter is not loaded")
    protocol = "TCP" if kind == socket.SOCK_STREAM else "UDP"

    async def check(cluster: Cluster) -> None:
        await cluster.add("server", PortMapping(protocol=protocol, container_port=80, host_port=8080))
        client = await cluster.add("client")
        server = cluster.netns("server")
        assert exchange(outside, (NODE, 8080), server, 80, kind) == OUTSIDE
        assert exchange(cluster.netns("client"), (NODE, 8080), server, 80, kind) == client
        assert exchange(cluster.netns("client"), (GATEWAY, 8080), server, 80, kind) == client
        assert exchange(server, (NODE, 8080), server, 80, kind) == GATEWAY
        assert exchange(None, (NODE, 8080), server, 80, kind) == NODE
        assert exchange(None, ("127.0.0.1", 8080), server, 80, kind) == GATEWAY
        await cluster.remove("server")
        if kind == socket.SOCK_STREAM:
            assert unreachable(outside, (NODE, 8080))

    on_node(node, check)


def test_a_host_ip_limits_a_host_port_to_that_address(node: Path, outside: str) -> None:
    async def check(cluster: Cluster) -> None:
        port = PortMapping(protocol="TCP", container_port=80, host_port=8080, host_ip="127.0.0.1")
        await cluster.add("server", port)
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("server"), 80) == GATEWAY
        assert unreachable(outside, (NODE, 8080))
        # The same port on another address is another one.
        await cluster.add("other", PortMapping(protocol="TCP", container_port=81, host_port=8080, host_ip=NODE))
        assert exchange(outside, (NODE, 8080), cluster.netns("other"), 81) == OUTSIDE

    on_node(node, check)


def test_a_host_port_is_given_once(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        port = PortMapping(protocol="TCP", container_port=80, host_port=8080)
        await cluster.add("first", port)
        narrower = PortMapping(protocol="TCP", container_port=1, host_port=8080, host_ip="127.0.0.1")
        for name, taken in (("same", port), ("narrower", narrower)):
            with pytest.raises(NetworkError, match="8080/TCP is already in use by sandbox first") as raised:
                await cluster.add(name, taken)
            assert raised.value.reason == "HostPortConflict"
        await cluster.add("third", PortMapping(protocol="UDP", container_port=80, host_port=8080))
        await cluster.remove("first")
        await cluster.add("fourth", port)
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("fourth"), 80) == GATEWAY

    on_node(node, check)


def sysctl(name: str, value: str = "") -> str:
    """Of this test's node, after it was set to the value if there is one."""
    if value:
        command("sysctl", "-qw", f"{name}={value}")
    return command("sysctl", "-n", name).strip()


FORWARD, REDIRECTS = "net.ipv4.ip_forward", "net.ipv4.conf.all.accept_redirects"


@pytest.mark.parametrize("redirects", ["0", "1"])
def test_the_last_reset_switches_forwarding_off_if_podling_switched_it_on(node: Path, redirects: str) -> None:
    sysctl(FORWARD, "0")
    sysctl(REDIRECTS, redirects)

    async def check(cluster: Cluster) -> None:
        assert sysctl(FORWARD) == "1"
        other = Cluster(node, "pdt1", "10.231.8.0/24")
        await other.bridge.open()
        stays = await Bridge(BridgeConfig("pdt2", "10.231.9.0/24", node / "pdt2")).reset()
        assert stays.startswith(f"net.ipv4.ip_forward stays on, as {BRIDGE}, pdt1 may need it; ")
        assert sysctl(FORWARD) == "1"
        # A restarted agent finds it on, and that is not how the machine was.
        await cluster.bridge.close()
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        await cluster.bridge.open()
        await other.bridge.reset()
        assert sysctl(FORWARD) == "1"

    on_node(node, check)
    assert (sysctl(FORWARD), sysctl(REDIRECTS)) == ("0", redirects)


def test_forwarding_that_was_on_stays_on(node: Path) -> None:
    sysctl(FORWARD, "1")

    async def check(cluster: Cluster) -> None:
        assert await Bridge(BridgeConfig("pdt2", "10.231.9.0/24", node / "pdt2")).reset() == ""

    on_node(node, check)
    assert sysctl(FORWARD) == "1"


@pytest.mark.parametrize("kind", ["bridge", "veth"])
def test_forwarding_stays_on_for_whoever_else_needs_it_by_then(node: Path, kind: str) -> None:
    sysctl(FORWARD, "0")

    async def check() -> str:
        cluster = Cluster(node)
        await cluster.bridge.open()
        command("ip", "link", "add", "docker0", "type", kind)
        command("ip", "link", "set", "docker0", "up")
        return await cluster.bridge.reset()

    words = "net.ipv4.ip_forward stays on, as docker0 may need it; `sysctl -w net.ipv4.ip_forward=0` switches it off"
    assert asyncio.run(check()) == words
    assert sysctl(FORWARD) == "1"


def test_the_machines_own_way_out_needs_no_forwarding(node: Path) -> None:
    """The uplink of a container is an end of a veth pair."""
    sysctl(FORWARD, "0")

    async def check() -> str:
        command("ip", "link", "add", "uplink", "type", "veth")
        command("ip", "link", "set", "uplink", "up")
        command("ip", "address", "add", "192.0.2.2/24", "dev", "uplink")
        command("ip", "route", "add", "default", "via", "192.0.2.1", "dev", "uplink")
        cluster = Cluster(node)
        await cluster.bridge.open()
        return await cluster.bridge.reset()

    assert asyncio.run(check()) == ""
    assert sysctl(FORWARD) == "0"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        ("kernel", "the kernel refused to set up the route 10.231.7.1: "),
        ("file", "/network/leases: File exists"),
        ("namespace", "/no-such-netns: No such file or directory"),
    ],
)
def test_what_the_system_refuses_is_told_in_words(node: Path, harm: str, words: str) -> None:
    async def check() -> None:
        bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        if harm == "file":
            command("mkdir", "-p", str(node / BRIDGE / "network"))
            command("touch", str(node / BRIDGE / "network" / "leases"))
        try:
            await bridge.open()
            # The node's own namespace has the gateway's address, so that no route may lead there.
            path = str(node / "no-such-netns") if harm == "namespace" else "/proc/thread-self/ns/net"
            await bridge.setup("pod", path, Cluster(node).config("pod"))
        finally:
            await bridge.close()

    with pytest.raises(NetworkError) as raised:
        asyncio.run(check())
    assert raised.value.reason == "NetworkSetupFailed"
    assert "Errno" not in raised.value.message
    assert words in raised.value.message


DAEMON_PORT = 6443


@pytest.mark.parametrize("address", ["", "0.0.0.0", "127.0.0.1", NODE])
@pytest.mark.parametrize("protocol", ["TCP", "tcp", ""])
def test_a_daemons_port_is_given_to_no_pod(node: Path, outside: str, protocol: str, address: str) -> None:
    async def check(cluster: Cluster) -> None:
        port = PortMapping(protocol=protocol, container_port=80, host_port=DAEMON_PORT, host_ip=address)
        with pytest.raises(NetworkError, match="6443/TCP is the port of a daemon of the cluster") as raised:
            await cluster.add("thief", port)
        assert raised.value.reason == "HostPortConflict"
        assert exchange(None, ("127.0.0.1", DAEMON_PORT), None, DAEMON_PORT) == "127.0.0.1"

    on_node(node, check, daemon_ports=frozenset({DAEMON_PORT}))


def test_a_port_that_becomes_a_daemons_leads_to_its_pod_no_longer(node: Path, outside: str) -> None:
    """`podling up --port` may name one that a Pod has had until now."""

    async def check(cluster: Cluster) -> None:
        for name, address in (("all", ""), ("one", "127.0.0.2")):
            port = 8080 if address else DAEMON_PORT
            await cluster.add(name, PortMapping(container_port=80, host_port=port, host_ip=address))
        await cluster.bridge.close()
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE, frozenset({DAEMON_PORT, 8080})))
        await cluster.bridge.open()
        assert exchange(outside, (NODE, DAEMON_PORT), None, DAEMON_PORT) == OUTSIDE
        assert exchange(None, ("127.0.0.1", DAEMON_PORT), None, DAEMON_PORT) == "127.0.0.1"
        assert exchange(None, ("127.0.0.2", 8080), None, 8080) == "127.0.0.1"
        assert exchange(cluster.netns("all"), (GATEWAY, DAEMON_PORT), None, DAEMON_PORT) != GATEWAY

    on_node(node, check)


def route_loopback_to_the_node(path: str) -> None:
    with netns.entered(path):
        command("ip", "address", "flush", "dev", "lo")
        command("ip", "route", "add", "127.0.0.0/8", "via", GATEWAY, "dev", "eth0", "onlink")
        Path("/proc/sys/net/ipv4/conf/eth0/route_localnet").write_text("1")


@pytest.mark.parametrize("protected", [True, False])
def test_a_pod_does_not_reach_the_loopback_services_of_the_node(node: Path, protected: bool) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.add("pod")
        route_loopback_to_the_node(cluster.netns("pod"))
        if not protected:  # shows that the Pod's packets would arrive
            command("nft", "flush", "chain", "ip", f"podling-{BRIDGE}", "raw")
        with socket.create_server(("127.0.0.1", 8001)):
            assert unreachable(cluster.netns("pod"), ("127.0.0.1", 8001)) == protected

    on_node(node, check)


def test_teardown_works_twice_and_when_the_namespace_is_gone(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        await cluster.add("pod", PortMapping(protocol="TCP", container_port=80, host_port=8080))
        path, config = cluster.pods["pod"]
        remove_netns(path)
        await cluster.bridge.teardown("pod", path, config)
        await cluster.bridge.teardown("pod", path, config)
        assert "veth" not in command("ip", "-o", "link", "show")
        assert "8080" not in command("nft", "list", "ruleset")

    on_node(node, check)


def test_a_setup_that_fails_leaves_nothing(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        before = traces()
        with pytest.raises(NetworkError):
            await cluster.bridge.setup("pod", str(node / "no-such-netns"), cluster.config("pod"))
        assert traces() == before
        assert not list((node / BRIDGE / "network" / "leases").iterdir())

    on_node(node, check)


def test_setup_again_keeps_the_address_and_makes_the_cable_anew(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        address = await cluster.add("pod")
        path, config = cluster.pods["pod"]
        assert await cluster.bridge.setup("pod", path, config) == [address]
        assert exchange(None, (address, 80), path, 80) == GATEWAY

    on_node(node, check)


def test_a_restarted_agent_finds_pods_connected_and_heals_what_is_missing(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        address = await cluster.add("pod", PortMapping(protocol="TCP", container_port=80, host_port=8080))
        await cluster.bridge.close()
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("pod"), 80) == GATEWAY
        command("nft", "flush", "ruleset")
        command("ip", "link", "del", BRIDGE)
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        await cluster.bridge.open()
        assert exchange(None, (address, 80), cluster.netns("pod"), 80) == GATEWAY
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("pod"), 80) == GATEWAY
        with pytest.raises(NetworkError, match="already in use"):
            await cluster.add("other", PortMapping(protocol="TCP", container_port=80, host_port=8080))
        assert await cluster.add("next") != address

    on_node(node, check)


def link_of(name: str) -> dict[str, Any]:
    (link,) = json.loads(command("ip", "-j", "-d", "link", "show", veth_name(name)))
    return dict(link)


def test_a_restarted_agent_puts_every_cable_right(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        address = await cluster.add("pod")
        veth, before = veth_name("pod"), link_of("pod")
        routes = command("ip", "-4", "route", "show", "dev", veth)
        neighbours = command("ip", "neigh", "show", "dev", veth, "nud", "permanent")
        assert address in routes
        assert address in neighbours
        await cluster.bridge.close()
        command("ip", "link", "set", veth, "group", "0", "address", "06:00:00:00:00:01", "down")
        command("ip", "neigh", "flush", "dev", veth, "nud", "permanent")
        command("sysctl", "-qw", f"net.ipv4.conf.{veth}.route_localnet=0")
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        await cluster.bridge.open()
        assert link_of("pod") == before
        assert command("ip", "-4", "route", "show", "dev", veth) == routes
        assert command("ip", "neigh", "show", "dev", veth, "nud", "permanent") == neighbours
        assert command("sysctl", "-n", f"net.ipv4.conf.{veth}.route_localnet") == "1\n"
        assert exchange(None, (address, 80), cluster.netns("pod"), 80) == GATEWAY

    on_node(node, check)


def make_it_a_port_of_the_bridge(cluster: Cluster, name: str) -> None:
    """As versions before the routed cables left a Pod."""
    veth = veth_name(name)
    command("ip", "link", "set", veth, "group", "0", "arp", "on", "address", "06:00:00:00:00:01", "master", BRIDGE)
    command("ip", "route", "flush", "dev", veth)
    command("ip", "neigh", "flush", "dev", veth, "nud", "permanent")
    with netns.entered(cluster.netns(name)):
        command("ip", "link", "set", "eth0", "address", "06:00:00:00:00:02")
        command("ip", "neigh", "flush", "dev", "eth0", "nud", "permanent")


def test_pods_of_an_earlier_version_go_on(node: Path, outside: str) -> None:
    async def check(cluster: Cluster) -> None:
        port = PortMapping(protocol="TCP", container_port=80, host_port=8080)
        address, other = await cluster.add("pod", port), await cluster.add("other")
        for name in ("pod", "other"):
            make_it_a_port_of_the_bridge(cluster, name)
        await cluster.bridge.close()
        with socket_in(None) as listener:
            # The Pod learns the gateway's hardware address, as one that has run for a while.
            listener.bind(("0.0.0.0", 9000))
            listener.listen()
            assert "lladdr" in _ask_for_the_gateway(cluster.netns("pod"))
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        await cluster.bridge.open()
        assert "master" not in link_of("pod")
        new = await cluster.add("new")
        assert exchange(None, (address, 80), cluster.netns("pod"), 80) == GATEWAY
        assert exchange(cluster.netns("other"), (address, 80), cluster.netns("pod"), 80) == other
        assert exchange(cluster.netns("new"), (address, 80), cluster.netns("pod"), 80) == new
        assert exchange(cluster.netns("pod"), (new, 80), cluster.netns("new"), 80) == address
        assert exchange(outside, (NODE, 8080), cluster.netns("pod"), 80) == OUTSIDE
        await cluster.remove("pod")
        await cluster.bridge.reconcile({"new"})
        assert veth_name("other") not in command("ip", "-o", "link", "show")

    on_node(node, check)


def _ask_for_the_gateway(path: str) -> str:
    with socket_in(path) as caller:
        caller.connect((GATEWAY, 9000))
    with netns.entered(path):
        return command("ip", "neigh", "show", GATEWAY)


def test_reconcile_frees_what_dead_sandboxes_hold(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        alive = await cluster.add("alive")
        await cluster.add("dead", PortMapping(protocol="TCP", container_port=80, host_port=8080))
        await cluster.bridge.reconcile({"alive"})
        links = command("ip", "-o", "link", "show")
        assert veth_name("alive") in links
        assert veth_name("dead") not in links
        assert "8080" not in command("nft", "list", "ruleset")
        assert exchange(None, (alive, 80), cluster.netns("alive"), 80) == GATEWAY

    on_node(node, check)


def test_clusters_side_by_side_share_nothing_and_reach_each_other_as_strangers(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        other = Cluster(node, "pdt1", "10.231.8.0/24")
        await other.bridge.open()
        port = PortMapping(protocol="TCP", container_port=80, host_port=8080)
        await cluster.add("mine", port)
        theirs = await other.add("theirs")
        before = traces()
        await other.remove("theirs")
        theirs = await other.add("theirs")
        assert theirs.startswith("10.231.8.")
        await other.bridge.reset()
        remove_netns(other.netns("theirs"))
        assert veth_name("mine") in before[0]
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("mine"), 80) == GATEWAY

    on_node(node, check)


@pytest.mark.parametrize("cidr", [CIDR, "10.231.0.0/16", "10.231.7.128/25"])
def test_a_range_that_another_interface_has_is_refused(node: Path, cidr: str) -> None:
    async def check(cluster: Cluster) -> None:
        other = Bridge(BridgeConfig("pdt1", cidr, node / "other"))
        with pytest.raises(NetworkError, match=f"overlaps 10.231.7.0/24 of {BRIDGE}: choose another --pod-cidr"):
            await other.open()
        await other.reset()
        assert BRIDGE in command("ip", "-o", "link", "show")

    on_node(node, check)


def test_a_bridge_of_someone_else_is_left_alone(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        command("ip", "link", "add", "pdt1", "type", "bridge")
        for name, words in (("pdt1", "is not podling's"), (BRIDGE, f'belongs to the cluster in "{node / BRIDGE}"')):
            other = Bridge(BridgeConfig(name, "10.231.8.0/24", node / "other"))
            with pytest.raises(NetworkError, match=words):
                await other.open()
            await other.reset()
        assert await cluster.add("pod", PortMapping(container_port=80, host_port=8080))
        await Bridge(BridgeConfig(BRIDGE, CIDR, node / "other")).reset()
        assert exchange(None, ("127.0.0.1", 8080), cluster.netns("pod"), 80) == GATEWAY
        command("ip", "link", "del", "pdt1")

    on_node(node, check)


def test_one_agent_per_data_directory(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        other = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        with pytest.raises(NetworkError, match="in use by another podling agent"):
            await other.open()
        await other.close()

    on_node(node, check)


def test_status_tells_whether_the_bridge_is_up(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        assert (await cluster.bridge.status()).status
        command("ip", "link", "set", BRIDGE, "down")
        condition = await cluster.bridge.status()
        assert (condition.status, condition.reason) == (False, "NetworkPluginNotReady")

    on_node(node, check)


def test_reset_works_on_a_cluster_that_never_started(node: Path) -> None:
    before = traces()
    asyncio.run(Bridge(BridgeConfig(BRIDGE, CIDR, node / "never")).reset())
    assert traces() == before


def test_pods_at_once_get_addresses_of_their_own(node: Path) -> None:
    async def check(cluster: Cluster) -> None:
        addresses = await asyncio.gather(
            *(cluster.add(f"pod{n}", PortMapping(container_port=80, host_port=8000 + n)) for n in range(10))
        )
        assert len(set(addresses)) == 10
        for number in range(10):
            assert exchange(None, ("127.0.0.1", 8000 + number), cluster.netns(f"pod{number}"), 80) == GATEWAY

    on_node(node, check)
