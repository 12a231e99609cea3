"""The bridge plugin on the real kernel. Every test has a network namespace of its own as its node."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from tests.support.bridge import (
    BRIDGE,
    CIDR,
    GATEWAY,
    NODE,
    OUTSIDE,
    Cluster,
    command,
    exchange,
    on_node,
    remove_netns,
    traces,
    unreachable,
)

from podling.network import netns
from podling.network.bridge import Bridge, BridgeConfig
from podling.network.errors import NetworkError
from podling.network.links import veth_name
from podling.runtime.protocol import PortMapping

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
