"""The links, addresses, routes and neighbours of a Pod network, by netlink. Blocking: for the network's own thread.

    Pod eth0 (address/32, default route) ── cable ── veth… (route to address/32) │ the node's routing │ bridge (gateway)

Each Pod has a cable of its own to the node's routing, and the bridge has no ports: it holds the gateway's address and
the rest of the range. So there is no link that Pods share, and what one of them says there is heard by the node alone:

- The node asks nobody on a cable for addresses (NOARP): the one neighbour there is permanent, and so is the gateway in the
  Pod. Answers, announcements and whole tables of false neighbours have no effect.
- Which Pod a packet comes from is told by the cable, never by its hardware address. nftables.py drops packets whose
  source address does not lead back by the same cable, and everything that is not IPv4.

The cables of a cluster are in one group of links, which the rules go by.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Collection, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from podling.network import netns
from podling.network import rtnetlink as rt
from podling.network.errors import NetworkError
from podling.network.ipam import PodRange

POD_INTERFACE = "eth0"
DOOMED = 0x706F64
"""The group of links that are about to be deleted."""
_DEFAULT_MTU = 1500
_IFF_UP, _IFF_LOOPBACK, _IFF_NOARP = 0x1, 0x8, 0x80
# IN6_ADDR_GEN_MODE_NONE: a link-local address per cable would only make the kernel send packets.
_NO_IPV6_ADDRESS = ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]})
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_RT_SCOPE_LINK = 253
_RTPROT_KERNEL, _RTPROT_BOOT, _RTN_UNICAST, _RTNH_F_ONLINK = 2, 3, 1, 4
_NUD_PERMANENT = 0x80
_SYSCTL = Path("/proc/sys/net/ipv4")
_FORWARDING_KINDS = frozenset(
    ("bridge", "veth", "tun", "wireguard", "vxlan", "geneve", "macvlan", "macvtap", "ipvlan", "ipip", "gre", "vrf")
)


def group_of(bridge: str) -> int:
    """Return the number of the group that a cluster's cables are in."""
    return 0x50000000 | int.from_bytes(hashlib.blake2s(bridge.encode(), digest_size=3).digest())


def veth_name(sandbox_id: str) -> str:
    """The node's end of a sandbox's cable; within the kernel's 15 characters."""
    return "veth" + hashlib.blake2s(sandbox_id.encode(), digest_size=6).hexdigest()[:11]


class Links:
    """Everything here is done in the network namespace of the thread that made the object."""

    def __init__(self, bridge: str, owner: str, pod_range: PodRange) -> None:
        self._bridge = bridge
        self._owner = f"podling {owner}"
        if len(self._owner) > 200:  # the kernel takes 255 bytes
            self._owner = "podling " + hashlib.blake2s(owner.encode()).hexdigest()
        self._range = pod_range
        self._netlink = rt.Socket()
        self._deletion = rt.Socket()
        self._group = group_of(bridge)
        self._gateway = str(pod_range.gateway)
        self._gateway_mac = _gateway_mac(bridge, pod_range)
        self._mtu = _DEFAULT_MTU

    def close(self) -> None:
        self._netlink.close()
        self._deletion.close()

    def check(self) -> None:
        """Changes nothing. Raises NetworkError like ensure."""
        links = self._links()
        self._own_bridge(links)
        self._check_overlap(links, self._routes())

    def is_taken(self) -> bool:
        """Whether an interface of the bridge's name is someone else's."""
        try:
            self._own_bridge(self._links())
        except NetworkError:
            return True
        return False

    def ensure(self, pods: Mapping[str, str]) -> None:
        """Make the bridge, or put it right, and do so with the cables of `pods` (name to address) that are there.

        Raises NetworkError: RangeOverlap, or BridgeInUse where an interface of that name is not this cluster's.
        """
        links = self._links()
        routes = self._routes()
        self._check_overlap(links, routes)
        self._mtu = _default_mtu(links, routes)
        bridge = self._own_bridge(links)
        if bridge is None:
            flags = rt.NLM_F_CREATE | rt.NLM_F_EXCL
            kind = {"attrs": [("IFLA_INFO_KIND", "bridge")]}
            create: rt.Attributes = [("IFLA_IFNAME", self._bridge), ("IFLA_LINKINFO", kind)]
            # Two messages, since the kernel ignores an alias in the one that creates.
            self._netlink.send([rt.Request(rt.RTM_NEWLINK, flags, create)])
        index = socket.if_nametoindex(self._bridge)
        settings: rt.Attributes = [
            ("IFLA_IFALIAS", self._owner),
            ("IFLA_MTU", self._mtu),
            ("IFLA_ADDRESS", self._gateway_mac),
            _NO_IPV6_ADDRESS,
        ]
        self._netlink.send([rt.Request(rt.RTM_NEWLINK, 0, settings, index=index, flags=_IFF_UP, change=_IFF_UP)])
        self._netlink.send([self._address(index, self._range.gateway, self._range.network.prefixlen)])
        for link in links:
            name = link.get_attr("IFLA_IFNAME")
            if name in pods:
                self._restore(link, name, pods[name])

    def _restore(self, link: Any, name: str, address: str) -> None:
        """Put a cable right that an earlier agent made, of an earlier version perhaps: then it is a port of the bridge.

        Such a Pod has its own hardware address and asks for that of the gateway, so its cable goes on without NOARP.
        """
        settings: rt.Attributes = [("IFLA_GROUP", self._group), ("IFLA_ADDRESS", self._gateway_mac)]
        if link.get_attr("IFLA_MASTER"):
            settings.append(("IFLA_MASTER", 0))
        index = link["index"]
        requests = [
            rt.Request(rt.RTM_NEWLINK, 0, settings, index=index, flags=_IFF_UP, change=_IFF_UP),
            self._route(index, address),
        ]
        if link["flags"] & _IFF_NOARP:
            requests.append(_neighbour(index, address, _pod_mac(address)))
        self._netlink.send(requests)
        _route_localnet(name)

    def add_pod(self, veth: str, netns_path: str, address: str) -> None:
        """Give the namespace its loopback, an eth0 with the address, and a default route by way of the gateway.

        The address is a /32: Pods reach each other through the node's routing like everyone else, so that NAT and
        policies hold between Pods of one node too.
        """
        fd = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            peer = [
                ("IFLA_IFNAME", POD_INTERFACE),
                ("IFLA_MTU", self._mtu),
                ("IFLA_ADDRESS", _pod_mac(address)),
                ("IFLA_NET_NS_FD", fd),
            ]
            info = [
                ("IFLA_INFO_KIND", "veth"),
                ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}),
            ]
            create: rt.Attributes = [
                ("IFLA_IFNAME", veth),
                ("IFLA_MTU", self._mtu),
                ("IFLA_ADDRESS", self._gateway_mac),
                ("IFLA_GROUP", self._group),
                ("IFLA_LINKINFO", {"attrs": info}),
            ]
            request = rt.Request(rt.RTM_NEWLINK, rt.NLM_F_CREATE | rt.NLM_F_EXCL, create)
            try:
                self._netlink.send([request])
            except rt.NetlinkError as error:
                if error.errno != errno.EEXIST:
                    raise
                # Left by an attempt that did not end.
                _delete(self._netlink, [veth])
                self._netlink.send([request])
        finally:
            os.close(fd)
        with netns.entered(netns_path):
            inside = rt.Socket()
            loopback, interface = socket.if_nametoindex("lo"), socket.if_nametoindex(POD_INTERFACE)
        up, way_out = _inside(loopback, interface, self._gateway, self._gateway_mac)
        with inside:
            inside.send([*up, self._address(interface, IPv4Address(address), 32), *way_out])
            index = socket.if_nametoindex(veth)
            _route_localnet(veth)
            flags = _IFF_UP | _IFF_NOARP
            self._netlink.send(
                [
                    # Up in a second message: _NO_IPV6_ADDRESS is for links that exist, and works before they are up.
                    rt.Request(rt.RTM_NEWLINK, 0, [_NO_IPV6_ADDRESS], index=index, flags=flags, change=flags),
                    self._route(index, address),
                    _neighbour(index, address, _pod_mac(address)),
                ]
            )
            # The end that was up first gets its queue by work in the background, and drops what it should send until then.
            inside.await_carrier(POD_INTERFACE)

    def _route(self, index: int, address: str) -> rt.Request:
        """The way to a Pod. The node speaks to it as the gateway, whatever other addresses it has."""
        return rt.Request(
            rt.RTM_NEWROUTE,
            rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
            [("RTA_DST", address), ("RTA_OIF", index), ("RTA_PREFSRC", self._gateway)],
            family=socket.AF_INET,
            dst_len=32,
            table=_RT_TABLE_MAIN,
            proto=_RTPROT_BOOT,
            scope=_RT_SCOPE_LINK,
            type=_RTN_UNICAST,
        )

    def delete(self, names: Collection[str]) -> None:
        """Those links, and with each its other end. No error for one that is gone. For a thread of its own."""
        _delete(self._deletion, names)

    def delete_cables(self, keep: Collection[str]) -> None:
        """Delete those of the cluster that are not in `keep`."""
        links = self._links()
        bridge = self._own_bridge(links)
        if bridge is not None:
            cables = [link.get_attr("IFLA_IFNAME") for link in links if self._is_cable(link, bridge["index"])]
            _delete(self._netlink, set(cables) - set(keep))

    def _is_cable(self, link: Any, bridge_index: int) -> bool:
        return bool(link.get_attr("IFLA_GROUP") == self._group or link.get_attr("IFLA_MASTER") == bridge_index)

    def delete_bridge(self, veths: Collection[str]) -> bool:
        """With all its cables, and `veths` that may have lost it. False if an interface of that name is someone else's:
        that is left alone."""
        _delete(self._netlink, veths)
        try:
            self.delete_cables(())
            if self._own_bridge(self._links()) is not None:
                _delete(self._netlink, [self._bridge])
        except NetworkError:
            return False
        return True

    def others(self) -> list[str]:
        """Return the interfaces of others, as far as they are up and of a kind that packets are forwarded for.

        The machine's own way out is none of them, whatever it is: in a container it is one end of a veth pair.
        """
        ways_out = {route.get_attr("RTA_OIF") for route in self._routes() if not route["dst_len"]}
        return sorted(
            str(link.get_attr("IFLA_IFNAME"))
            for link in self._links()
            if link["flags"] & _IFF_UP
            and link["index"] not in ways_out
            and (info := link.get_attr("IFLA_LINKINFO")) is not None
            and info.get_attr("IFLA_INFO_KIND") in _FORWARDING_KINDS
            and link.get_attr("IFLA_IFNAME") != self._bridge
            and link.get_attr("IFLA_GROUP") not in (self._group, DOOMED)
        )

    def is_up(self) -> bool:
        """Whether the bridge is there, up, and holds the gateway's address."""
        bridge = next((link for link in self._links() if link.get_attr("IFLA_IFNAME") == self._bridge), None)
        if bridge is None or not bridge["flags"] & _IFF_UP:
            return False
        addresses = self._netlink.dump(rt.Request(rt.RTM_GETADDR, 0, family=socket.AF_INET))
        held = {message.get_attr("IFA_LOCAL") for message in addresses if message["index"] == bridge["index"]}
        return str(self._range.gateway) in held

    def _links(self) -> list[Any]:
        return self._netlink.dump(rt.Request(rt.RTM_GETLINK, 0))

    def _routes(self) -> list[Any]:
        return self._netlink.dump(rt.Request(rt.RTM_GETROUTE, 0, family=socket.AF_INET))

    def _own_bridge(self, links: list[Any]) -> Any | None:
        for link in links:
            if link.get_attr("IFLA_IFNAME") != self._bridge:
                continue
            alias = link.get_attr("IFLA_IFALIAS") or ""
            if alias == self._owner:
                return link
            whose = f'belongs to the cluster in "{alias[8:]}"' if alias.startswith("podling ") else "is not podling's"
            raise NetworkError("BridgeInUse", f"interface {self._bridge} exists and {whose}: choose another --bridge")
        return None

    def _address(self, index: int, address: IPv4Address, prefix_length: int) -> rt.Request:
        text = str(address)
        return rt.Request(
            rt.RTM_NEWADDR,
            rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
            [("IFA_LOCAL", text), ("IFA_ADDRESS", text)],
            family=socket.AF_INET,
            index=index,
            prefixlen=prefix_length,
        )

    def _check_overlap(self, links: list[Any], routes: list[Any]) -> None:
        """Refuses a range that holds what others use, or that an interface's own network holds. Another route that is
        wider than the range (a VPN's 10.0.0.0/8) is no obstacle: the more specific one wins."""
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in links}
        own = {link["index"] for link in links if link.get_attr("IFLA_GROUP") == self._group}
        ours = self._range.network
        # The widest first: of another cluster its range, before those of its Pods.
        for route in sorted(routes, key=lambda route: int(route["dst_len"])):
            if route.get_attr("RTA_TABLE") == _RT_TABLE_LOCAL or not route["dst_len"]:
                continue
            index = route.get_attr("RTA_OIF")
            name = names.get(index, "")
            other = IPv4Network((route.get_attr("RTA_DST"), route["dst_len"]))
            if (name != self._bridge and index not in own) and (
                other.subnet_of(ours) or (route["proto"] == _RTPROT_KERNEL and other.overlaps(ours))
            ):
                raise NetworkError(
                    "RangeOverlap",
                    f"Pod range {ours} overlaps {other} of {name or 'a route'}: choose another --pod-cidr",
                )


def _route_localnet(name: str) -> None:
    """For connections from the node's 127.0.0.1 to a host port; nftables.py keeps Pods from abusing it."""
    (_SYSCTL / "conf" / name / "route_localnet").write_text("1")


@lru_cache(16)
def _inside(loopback: int, interface: int, gateway: str, gateway_mac: str) -> tuple[list[rt.Request], list[rt.Request]]:
    """Return what is the same in every Pod, before and after it has its address: the links up, the way to the gateway."""
    up = [
        rt.Request(rt.RTM_NEWLINK, 0, index=loopback, flags=_IFF_UP, change=_IFF_UP),
        rt.Request(rt.RTM_NEWLINK, 0, index=interface, flags=_IFF_UP, change=_IFF_UP),
    ]
    default = rt.Request(
        rt.RTM_NEWROUTE,
        rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
        [("RTA_GATEWAY", gateway), ("RTA_OIF", interface)],
        family=socket.AF_INET,
        table=_RT_TABLE_MAIN,
        proto=_RTPROT_BOOT,
        type=_RTN_UNICAST,
        flags=_RTNH_F_ONLINK,
    )
    return up, [_neighbour(interface, gateway, gateway_mac), default]


def _neighbour(index: int, address: str, mac: str) -> rt.Request:
    """An entry that nothing on the link can change."""
    return rt.Request(
        rt.RTM_NEWNEIGH,
        rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
        [("NDA_DST", address), ("NDA_LLADDR", mac)],
        family=socket.AF_INET,
        ifindex=index,
        state=_NUD_PERMANENT,
    )


def _delete(netlink: rt.Socket, names: Collection[str]) -> None:
    """All in one message, by way of a link group: the kernel takes 15 ms, however many they are (an RCU barrier)."""
    if not names:
        return
    mark = [rt.Request(rt.RTM_NEWLINK, 0, [("IFLA_IFNAME", name), ("IFLA_GROUP", DOOMED)]) for name in names]
    for requests in (mark, [rt.Request(rt.RTM_DELLINK, 0, [("IFLA_GROUP", DOOMED)])]):
        try:
            netlink.send(requests)
        except rt.NetlinkError as error:
            if error.errno != errno.ENODEV:
                raise


def _default_mtu(links: list[Any], routes: list[Any]) -> int:
    """The MTU of the interface with the best default route."""
    mtus = {link["index"]: link.get_attr("IFLA_MTU") for link in links if not link["flags"] & _IFF_LOOPBACK}
    defaults = sorted(
        (route.get_attr("RTA_PRIORITY") or 0, route.get_attr("RTA_OIF"))
        for route in routes
        if not route["dst_len"] and route.get_attr("RTA_OIF") in mtus
    )
    return mtus[defaults[0][1]] if defaults else _DEFAULT_MTU


def _gateway_mac(bridge: str, pod_range: PodRange) -> str:
    """Return the hardware address of the bridge and of the node's end of each cable; locally administered."""
    digest = hashlib.blake2s(f"{bridge} {pod_range.network}".encode(), digest_size=5).digest()
    return _mac(0x02, *digest)


def _pod_mac(address: str) -> str:
    """Return the hardware address of the Pod with that address; locally administered."""
    return _mac(0x0A, 0x58, *IPv4Address(address).packed)


def _mac(*octets: int) -> str:
    return ":".join(f"{octet:02x}" for octet in octets)
