"""A Pod against its neighbours: it speaks as others, on every layer, and nobody believes it or even hears it.

The attacker is an ordinary Pod whose process has CAP_NET_RAW, as containers have by default: the tests send its frames from
its own network namespace. A fence, a packet that the attacker may send, follows the forged ones on the same way: once it has
arrived, they have arrived too or never will.
"""

from __future__ import annotations

import json
import secrets
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support import frames
from tests.support.cluster import Cluster, cgroups, unique
from tests.support.frames import ARP, BROADCAST, IPV4, IPV6, QINQ, VLAN, Station
from tests.support.pods import items, pod

from podling.network import netns

PORT = 4789
STRANGE_MAC = "06:66:66:66:66:66"
ZERO = "00:00:00:00:00:00"


@dataclass(frozen=True)
class Stage:
    attacker: Station
    victim: Station
    client: Station
    gateway: str
    unused: str
    """An address of the range that no Pod has."""
    broadcast: str


def namespace_of(uid: str) -> str:
    """Of the Pod's network, by one of its processes."""
    for directory in cgroups():
        if f"pod{uid}" in directory:
            for pid in (Path(directory) / "cgroup.procs").read_text().split():
                if Path(f"/proc/{pid}/ns/net").stat().st_ino != Path("/proc/self/ns/net").stat().st_ino:
                    return f"/proc/{pid}/ns/net"
    raise AssertionError(f"pod {uid} has no process")


def station(cluster: Cluster, name: str, namespace: str) -> Station:
    found = cluster.get("pod", name, "-n", namespace)
    path = namespace_of(found["metadata"]["uid"])
    gateway = cluster.pod_cidr.replace(".0/24", ".1")
    with netns.entered(path):
        # Asks for the gateway's hardware address, where that is asked for.
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.sendto(b"", (gateway, 9))
        (link,) = output_json("ip", "-j", "link", "show", "eth0")
        neighbours = output_json("ip", "-j", "neigh", "show", gateway)
    return Station(path, found["status"]["podIP"], link["address"], neighbours[0].get("lladdr", BROADCAST))


def output_json(*argv: str) -> list[dict[str, str]]:
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    return json.loads(said or "[]")  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def stage(cluster: Cluster) -> Iterator[Stage]:
    """Three Pods of one namespace."""
    namespace = unique("n")
    cluster.kubectl("create", "namespace", namespace)
    names = ("attacker", "victim", "client")
    cluster.kubectl("apply", "-n", namespace, "-f", "-", stdin=json.dumps(items(*(pod(name) for name in names))))
    for name in names:
        cluster.wait(f"pod/{name}", "condition=Ready", "-n", namespace)
    stations = {name: station(cluster, name, namespace) for name in names}
    base = cluster.pod_cidr.removesuffix("0/24")
    yield Stage(**stations, gateway=f"{base}1", unused=f"{base}250", broadcast=f"{base}255")
    cluster.kubectl("delete", "namespace", namespace, "--wait=true", "--timeout=60s")


def fence(stage: Stage, target: str) -> bytes:
    """Send a packet that may pass, and return what to look for."""
    mark = secrets.token_bytes(16)
    attacker = stage.attacker
    packet = frames.udp(attacker.address, target, PORT, mark)
    attacker.send(frames.ethernet(attacker.gateway_mac, attacker.mac, IPV4, packet))
    return mark


@contextmanager
def node_listener() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind(("0.0.0.0", 0))
        listener.settimeout(10)
        yield listener


def arrives_at_the_victim(stage: Stage, *forged: bytes, mark: bytes) -> list[bytes]:
    """The frames with the mark that the victim's interface sees after the attacker sent these."""
    with stage.victim.watched() as watch:
        stage.attacker.send(*forged)
        return [frame for frame in watch.until(fence(stage, stage.victim.address)) if mark in frame]


def arrives_at_the_node(stage: Stage, target: str, packet: Callable[[int, bytes], bytes]) -> list[str]:
    """The addresses from which a socket of the node gets the marked packet that the attacker sends."""
    mark, last = secrets.token_bytes(16), secrets.token_bytes(16)
    attacker = stage.attacker
    with node_listener() as listener:
        port = listener.getsockname()[1]
        allowed = frames.udp(attacker.address, stage.gateway, port, last)
        for payload in (packet(port, mark), allowed):
            attacker.send(frames.ethernet(attacker.gateway_mac, attacker.mac, IPV4, payload))
        senders: list[str] = []
        while True:
            data, (sender, _) = listener.recvfrom(2048)
            if data == last:
                return senders
            assert data == mark
            senders.append(sender)


def check_that_the_victim_gets_its_own(stage: Stage) -> None:
    """From the node and from another Pod; the attacker sees none of it."""
    mark = secrets.token_bytes(16)
    with stage.attacker.watched() as attacker, stage.victim.socket() as listener, stage.client.socket() as client:
        listener.bind((stage.victim.address, PORT + 1))
        for address, sender in ((stage.client.address, client), (stage.gateway, socket.socket(type=socket.SOCK_DGRAM))):
            with sender:
                sender.settimeout(10)
                sender.sendto(mark, (stage.victim.address, PORT + 1))
                data, origin = listener.recvfrom(100)
                assert (data, origin[0]) == (mark, address)
                listener.sendto(mark, origin)
                assert sender.recv(100) == mark
        # Bounces back from the node to the attacker: its own fence.
        with node_listener() as node, stage.attacker.socket() as own:
            last = secrets.token_bytes(16)
            own.sendto(b"", (stage.gateway, node.getsockname()[1]))
            _, origin = node.recvfrom(100)
            node.sendto(last, origin)
            assert [frame for frame in attacker.until(last) if mark in frame] == []


# -- sources


def sources(stage: Stage) -> dict[str, str]:
    return {
        "victim": stage.victim.address,
        "gateway": stage.gateway,
        "unused": stage.unused,
        "network": stage.gateway.rpartition(".")[0] + ".0",
        "loopback": "127.0.0.1",
        "loopback-other": "127.45.6.7",
        "nobody": "0.0.0.0",
        "outside": "198.51.100.7",
        "resolver": "8.8.8.8",
        "broadcast": "255.255.255.255",
        "range-broadcast": stage.broadcast,
        "multicast": "224.0.0.1",
        "link-local": "169.254.169.254",
    }


SOURCES = pytest.mark.parametrize(
    "source",
    [
        *("victim", "gateway", "unused", "network", "loopback", "loopback-other", "nobody", "outside", "resolver"),
        *("broadcast", "range-broadcast", "multicast", "link-local"),
    ],
)


@SOURCES
@pytest.mark.parametrize("destination", ["victim's hardware address", "gateway's hardware address", "broadcast"])
def test_no_source_but_its_own_reaches_another_pod(stage: Stage, source: str, destination: str) -> None:
    attacker, mark = stage.attacker, secrets.token_bytes(16)
    packet = frames.udp(sources(stage)[source], stage.victim.address, PORT, mark)
    macs = {"victim": stage.victim.mac, "gateway": attacker.gateway_mac, "broadcast": BROADCAST}
    forged = frames.ethernet(macs[destination.split("'")[0]], attacker.mac, IPV4, packet)
    assert arrives_at_the_victim(stage, forged, mark=mark) == []


@SOURCES
@pytest.mark.parametrize("target", ["gateway", "255.255.255.255", "range-broadcast"])
def test_no_source_but_its_own_reaches_the_node(stage: Stage, source: str, target: str) -> None:
    to = {"gateway": stage.gateway, "range-broadcast": stage.broadcast}.get(target, target)

    def packet(port: int, mark: bytes) -> bytes:
        return frames.udp(sources(stage)[source], to, port, mark)

    assert arrives_at_the_node(stage, to, packet) == []


@pytest.mark.parametrize("target", ["127.0.0.1", "127.0.0.53", "127.255.255.255"])
@pytest.mark.parametrize("source", ["attacker", "loopback"])
def test_nothing_reaches_the_nodes_loopback(stage: Stage, target: str, source: str) -> None:
    origin = {"attacker": stage.attacker.address, **sources(stage)}[source]
    assert arrives_at_the_node(stage, target, lambda port, mark: frames.udp(origin, target, port, mark)) == []


def test_its_own_source_passes(stage: Stage) -> None:
    """Shows that the tests above see what arrives."""
    attacker, mark = stage.attacker, secrets.token_bytes(16)
    packet = frames.udp(attacker.address, stage.victim.address, PORT, mark)
    own = frames.ethernet(attacker.gateway_mac, attacker.mac, IPV4, packet)
    assert len(arrives_at_the_victim(stage, own, mark=mark)) == 1
    arrived = arrives_at_the_node(
        stage, stage.gateway, lambda port, mark: frames.udp(attacker.address, stage.gateway, port, mark)
    )
    assert arrived == [attacker.address]


@pytest.mark.parametrize("option", [0x83, 0x89], ids=["loose", "strict"])
def test_a_source_route_leads_nowhere(stage: Stage, option: int) -> None:
    attacker, mark = stage.attacker, secrets.token_bytes(16)
    route = bytes([option, 7, 4]) + socket.inet_aton(stage.victim.address)
    packet = frames.udp(attacker.address, stage.gateway, PORT, mark, options=route)
    forged = frames.ethernet(attacker.gateway_mac, attacker.mac, IPV4, packet)
    assert arrives_at_the_victim(stage, forged, mark=mark) == []


# -- neighbours


def announcements(stage: Stage) -> dict[str, bytes]:
    """False words about who has which address, as (operation, sender, target) in frames to one or all."""
    a, v, c, gateway = stage.attacker, stage.victim, stage.client, stage.gateway

    def frame(to: str, operation: int, sender: str, target_mac: str, target: str, source: str = a.mac) -> bytes:
        return frames.ethernet(to, source, ARP, frames.arp(operation, a.mac, sender, target_mac, target))

    return {
        "victim, answer to the node": frame(a.gateway_mac, 2, v.address, a.gateway_mac, gateway),
        "victim, answer to all": frame(BROADCAST, 2, v.address, BROADCAST, v.address),
        "victim, announced to all": frame(BROADCAST, 1, v.address, ZERO, v.address),
        "victim, asks the node": frame(a.gateway_mac, 1, v.address, ZERO, gateway),
        "victim, asks all": frame(BROADCAST, 1, v.address, ZERO, gateway),
        "victim, from the victim's hardware": frame(BROADCAST, 2, v.address, BROADCAST, v.address, source=v.mac),
        "client, answer to the victim": frame(v.mac, 2, c.address, v.mac, v.address),
        "gateway, answer to the victim": frame(v.mac, 2, gateway, v.mac, v.address),
        "gateway, answer to all": frame(BROADCAST, 2, gateway, BROADCAST, gateway),
        "gateway, announced to all": frame(BROADCAST, 1, gateway, ZERO, gateway),
        "gateway, from the gateway's hardware": frame(BROADCAST, 2, gateway, BROADCAST, gateway, source=a.gateway_mac),
        "gateway, asks the victim": frame(v.mac, 1, gateway, ZERO, v.address),
        "everyone's probe": frame(BROADCAST, 1, "0.0.0.0", ZERO, v.address),
    }


@pytest.mark.parametrize(
    "words",
    [
        *("victim, answer to the node", "victim, answer to all", "victim, announced to all", "victim, asks the node"),
        *("victim, asks all", "victim, from the victim's hardware", "client, answer to the victim"),
        *("gateway, answer to the victim", "gateway, answer to all", "gateway, announced to all"),
        *("gateway, from the gateway's hardware", "gateway, asks the victim", "everyone's probe"),
    ],
)
def test_nobody_believes_whose_address_it_says_it_has(stage: Stage, words: str) -> None:
    forged = announcements(stage)[words]
    assert arrives_at_the_victim(stage, *[forged] * 5, mark=forged[14:]) == []
    check_that_the_victim_gets_its_own(stage)


@pytest.mark.parametrize("source", ["victim", "gateway", "client", "strange", "zero", "broadcast"])
def test_a_false_hardware_address_takes_nobodys_packets(stage: Stage, source: str) -> None:
    attacker = stage.attacker
    macs = {
        "victim": stage.victim.mac,
        "gateway": attacker.gateway_mac,
        "client": stage.client.mac,
        "strange": STRANGE_MAC,
        "zero": ZERO,
        "broadcast": BROADCAST,
    }
    for to in (attacker.gateway_mac, BROADCAST, stage.victim.mac):
        packet = frames.udp(attacker.address, stage.gateway, PORT, b"here I am")
        attacker.send(frames.ethernet(to, macs[source], IPV4, packet))
    check_that_the_victim_gets_its_own(stage)


def node_neighbours(cluster: Cluster) -> int:
    """Entries of the node's tables for its addresses of Pods: of neighbours and of the bridge."""
    with_range = output_json("ip", "-j", "-4", "neigh", "show", "to", cluster.pod_cidr, "nud", "all")
    bridge = output_json("bridge", "-j", "fdb", "show", "br", cluster.bridge)
    return len(with_range) + len(bridge)


def test_a_flood_of_hardware_addresses_fills_no_table(stage: Stage, cluster: Cluster) -> None:
    attacker = stage.attacker
    packet = frames.udp(attacker.address, stage.gateway, PORT, b"")
    before = node_neighbours(cluster)
    attacker.send(
        *(
            frames.ethernet(attacker.gateway_mac, f"06:00:00:00:{number >> 8:02x}:{number & 255:02x}", IPV4, packet)
            for number in range(3000)
        )
    )
    check_that_the_victim_gets_its_own(stage)
    assert node_neighbours(cluster) <= before + 1


def test_a_flood_of_askers_fills_no_table(stage: Stage, cluster: Cluster) -> None:
    attacker = stage.attacker
    base = stage.gateway.rpartition(".")[0]
    before = node_neighbours(cluster)
    for sender in range(2, 250):
        question = frames.arp(1, attacker.mac, f"{base}.{sender}", ZERO, stage.gateway)
        attacker.send(frames.ethernet(BROADCAST, attacker.mac, ARP, question))
    check_that_the_victim_gets_its_own(stage)
    assert node_neighbours(cluster) <= before + 1


# -- what is not for one station, and what is not IPv4


def others(stage: Stage, mark: bytes) -> dict[str, bytes]:
    """Frames by name, each with the mark in it."""
    a, v = stage.attacker, stage.victim

    def ip(target: str, to: str, port: int = PORT, source: str = a.address) -> bytes:
        return frames.ethernet(to, a.mac, IPV4, frames.udp(source, target, port, mark))

    local = "fe80::66"
    advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + bytes([1, 1]) + frames.mac(a.mac) + mark
    neighbour = struct.pack("!BBHI", 136, 0, 0, 0x20000000) + socket.inet_pton(socket.AF_INET6, local)
    neighbour += bytes([2, 1]) + frames.mac(a.mac) + mark
    own = frames.udp(a.address, v.address, PORT, mark)
    offer = b"\x02\x01\x06\x00" + mark
    return {
        "past the node": ip(v.address, v.mac),
        "broadcast": ip("255.255.255.255", BROADCAST),
        "broadcast of the range": ip(stage.broadcast, BROADCAST),
        "all stations": ip("224.0.0.1", "01:00:5e:00:00:01"),
        "mdns": ip("224.0.0.251", "01:00:5e:00:00:fb", 5353),
        "unicast in a broadcast frame": ip(v.address, BROADCAST),
        "unicast in a multicast frame": ip(v.address, "01:00:5e:00:00:01"),
        "dhcp offer": frames.ethernet(
            BROADCAST, a.mac, IPV4, frames.udp(a.address, "255.255.255.255", 68, offer, from_port=67)
        ),
        "dhcp offer of the gateway": frames.ethernet(
            BROADCAST, a.mac, IPV4, frames.udp(stage.gateway, "255.255.255.255", 68, offer, from_port=67)
        ),
        "vlan": frames.ethernet(v.mac, a.mac, VLAN, frames.tagged(7, IPV4, own)),
        "vlan 0": frames.ethernet(v.mac, a.mac, VLAN, frames.tagged(0, IPV4, own)),
        "vlan 0, another's source": frames.ethernet(
            a.gateway_mac, a.mac, VLAN, frames.tagged(0, IPV4, frames.udp(stage.client.address, v.address, PORT, mark))
        ),
        "vlan in vlan": frames.ethernet(v.mac, a.mac, QINQ, frames.tagged(7, VLAN, frames.tagged(8, IPV4, own))),
        "router advertisement": frames.ethernet(
            "33:33:00:00:00:01", a.mac, IPV6, frames.icmp6(local, "ff02::1", advertisement)
        ),
        "neighbour advertisement": frames.ethernet(
            "33:33:00:00:00:01", a.mac, IPV6, frames.icmp6(local, "ff02::1", neighbour)
        ),
        "ipv6 to all": frames.ethernet("33:33:00:00:00:01", a.mac, IPV6, frames.udp6(local, "ff02::1", PORT, mark)),
        "ipv6 to the victim": frames.ethernet(v.mac, a.mac, IPV6, frames.udp6(local, "fe80::1", PORT, mark)),
        "spanning tree": frames.ethernet("01:80:c2:00:00:00", a.mac, 38, b"\x42\x42\x03" + bytes(19) + mark),
        "lldp": frames.ethernet("01:80:c2:00:00:0e", a.mac, 0x88CC, mark),
        "experimental": frames.ethernet(v.mac, a.mac, 0x88B5, mark),
        "pppoe": frames.ethernet(BROADCAST, a.mac, 0x8863, b"\x11\x09\0\0" + mark),
        "a length": frames.ethernet(v.mac, a.mac, 16, mark),
    }


@pytest.mark.parametrize(
    "name",
    [
        *(
            "past the node",
            "broadcast",
            "broadcast of the range",
            "all stations",
            "mdns",
            "unicast in a broadcast frame",
        ),
        *("unicast in a multicast frame", "dhcp offer", "dhcp offer of the gateway", "vlan", "vlan 0"),
        *("vlan 0, another's source", "vlan in vlan", "router advertisement", "neighbour advertisement", "ipv6 to all"),
        *("ipv6 to the victim", "spanning tree", "lldp", "experimental", "pppoe", "a length"),
    ],
)
def test_another_pod_hears_nothing_but_packets_that_the_node_forwards(stage: Stage, name: str) -> None:
    mark = secrets.token_bytes(16)
    assert arrives_at_the_victim(stage, others(stage, mark)[name], mark=mark) == []


def test_a_pod_hears_no_question_of_another(stage: Stage) -> None:
    """The victim looks for a DHCP server, and for a neighbour: only the node hears it."""
    mark = secrets.token_bytes(16)
    victim, attacker = stage.victim, stage.attacker
    discover = frames.udp("0.0.0.0", "255.255.255.255", 67, mark, from_port=68)
    question = frames.arp(1, victim.mac, victim.address, ZERO, attacker.address)
    with attacker.watched() as watch:
        victim.send(frames.ethernet(BROADCAST, victim.mac, IPV4, discover))
        victim.send(frames.ethernet(BROADCAST, victim.mac, ARP, question))
        allowed = secrets.token_bytes(16)
        packet = frames.udp(victim.address, attacker.address, PORT, allowed)
        victim.send(frames.ethernet(victim.gateway_mac, victim.mac, IPV4, packet))
        assert [frame for frame in watch.until(allowed) if mark in frame or question in frame] == []


def test_the_node_takes_no_router_and_no_neighbour_from_a_pod(stage: Stage, cluster: Cluster) -> None:
    def known() -> list[object]:
        routes = output_json("ip", "-6", "-j", "route", "show", "table", "all")
        entries = output_json("ip", "-6", "-j", "neigh", "show", "nud", "all")
        words = (stage.attacker.mac, "fe80::66", '"ra"')
        return [entry for entry in (*routes, *entries) if any(word in json.dumps(entry) for word in words)]

    all_forged = others(stage, secrets.token_bytes(16))
    forged = [all_forged[name] for name in ("router advertisement", "neighbour advertisement", "ipv6 to all")]
    to_the_node = [frames.mac(stage.attacker.gateway_mac) + frame[6:] for frame in forged]
    before = known()
    stage.attacker.send(*forged, *to_the_node)
    check_that_the_victim_gets_its_own(stage)
    assert known() == before


@pytest.mark.skipif(not Path("/proc/sys/net/ipv6").exists(), reason="the kernel has no IPv6")
def test_no_ipv6_packet_reaches_the_node(stage: Stage) -> None:
    """Not even one to an address that the node has."""
    attacker, mark, last = stage.attacker, secrets.token_bytes(16), secrets.token_bytes(16)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as listener:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(("::", 0))
        listener.settimeout(10)
        port = listener.getsockname()[1]
        for target in ("ff02::1", "::1", "fe80::1", "::ffff:127.0.0.1"):
            packet = frames.udp6("fe80::66", target, port, mark)
            attacker.send(frames.ethernet(attacker.gateway_mac, attacker.mac, IPV6, packet))
        allowed = frames.udp(attacker.address, stage.gateway, port, last)
        attacker.send(frames.ethernet(attacker.gateway_mac, attacker.mac, IPV4, allowed))
        assert listener.recv(100) == last
