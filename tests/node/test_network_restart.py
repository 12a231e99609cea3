"""What a restarted agent makes of the Pods and cables that it finds."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

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
    socket_in,
    sysctl,
)

from podling.network import netns
from podling.network.bridge import Bridge, BridgeConfig
from podling.network.errors import NetworkError
from podling.network.links import veth_name
from podling.runtime.protocol import PortMapping

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


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
        sysctl(f"net.ipv4.conf.{veth}.route_localnet", "0")
        cluster.bridge = Bridge(BridgeConfig(BRIDGE, CIDR, node / BRIDGE))
        await cluster.bridge.open()
        assert link_of("pod") == before
        assert command("ip", "-4", "route", "show", "dev", veth) == routes
        assert command("ip", "neigh", "show", "dev", veth, "nud", "permanent") == neighbours
        assert sysctl(f"net.ipv4.conf.{veth}.route_localnet") == "1"
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
