"""Who switches net.ipv4.ip_forward on and off."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.bridge import (
    BRIDGE,
    CIDR,
    Cluster,
    command,
    on_node,
    sysctl,
)

from podling.network.bridge import Bridge, BridgeConfig

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

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
