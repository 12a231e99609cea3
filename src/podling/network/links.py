"""Links, addresses and routes of a bridge and of its Pods, by netlink. Blocking: for the bridge's own thread."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Collection
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from podling.network import netns
from podling.network import rtnetlink as rt
from podling.network.errors import NetworkError
from podling.network.ipam import PodRange

POD_INTERFACE = "eth0"
_DEFAULT_MTU = 1500
_DOOMED = 0x706F64
"""The group of links that are about to be deleted."""
_IFF_UP, _IFF_LOOPBACK = 0x1, 0x8
# IN6_ADDR_GEN_MODE_NONE: a link-local address per cable would only make the kernel send packets.
_NO_IPV6_ADDRESS = ("IFLA_AF_SPEC", {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})]})
_RT_TABLE_MAIN, _RT_TABLE_LOCAL = 254, 255
_RTPROT_KERNEL, _RTPROT_BOOT, _RTN_UNICAST, _RTNH_F_ONLINK = 2, 3, 1, 4
# With br_netfilter a Pod's packet to its own host port is turned round inside the bridge, not in the node's routing.
_HAIRPIN = (
    "IFLA_LINKINFO",
    {"attrs": [("IFLA_INFO_SLAVE_KIND", "bridge"), ("IFLA_INFO_SLAVE_DATA", {"attrs": [("IFLA_BRPORT_MODE", 1)]})]},
)
_SYSCTL = Path("/proc/sys/net/ipv4")


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
        self._index = 0
        self._mtu = _DEFAULT_MTU

    def close(self) -> None:
        self._netlink.close()
        self._deletion.close()

    def check(self) -> None:
        """Changes nothing. Raises NetworkError like ensure_bridge."""
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

    def ensure_bridge(self, veths: Collection[str]) -> None:
        """Makes the bridge and puts it right; those of `veths` that lost it are attached again.

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
        self._index = socket.if_nametoindex(self._bridge)
        settings: rt.Attributes = [
            ("IFLA_IFALIAS", self._owner),
            ("IFLA_MTU", self._mtu),
            _NO_IPV6_ADDRESS,
        ]
        if bridge is None:
            # Else its address would follow that of its ports, and Pods would lose their gateway as others come and go.
            settings.append(("IFLA_ADDRESS", _hardware_address(self._bridge, self._range)))
        self._netlink.send([rt.Request(rt.RTM_NEWLINK, 0, settings, index=self._index, flags=_IFF_UP, change=_IFF_UP)])
        self._netlink.send([self._address(self._index, self._range.gateway, self._range.network.prefixlen)])
        attach = [
            rt.Request(rt.RTM_NEWLINK, 0, [("IFLA_MASTER", self._index)], index=link["index"])
            for link in links
            if link.get_attr("IFLA_IFNAME") in veths and link.get_attr("IFLA_MASTER") != self._index
        ]
        if attach:
            self._netlink.send(attach)
        self._sysctls()

    def add_pod(self, veth: str, netns_path: str, address: str) -> None:
        """Gives the namespace its loopback, an eth0 with the address, and a default route by way of the bridge.

        The address is a /32: Pods reach each other through the node's routing like everyone else, so that NAT and
        policies hold between Pods of one node too, without the kernel module br_netfilter.
        """
        fd = os.open(netns_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            peer = [("IFLA_IFNAME", POD_INTERFACE), ("IFLA_MTU", self._mtu), ("IFLA_NET_NS_FD", fd)]
            info = [
                ("IFLA_INFO_KIND", "veth"),
                ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", {"attrs": peer})]}),
            ]
            create: rt.Attributes = [
                ("IFLA_IFNAME", veth),
                ("IFLA_MTU", self._mtu),
                ("IFLA_MASTER", self._index),
                ("IFLA_LINKINFO", {"attrs": info}),
            ]
            # Up in a second message: _NO_IPV6_ADDRESS is for links that exist, and works before they are up.
            up: rt.Attributes = [("IFLA_IFNAME", veth), _NO_IPV6_ADDRESS, _HAIRPIN]
            requests = [
                rt.Request(rt.RTM_NEWLINK, rt.NLM_F_CREATE | rt.NLM_F_EXCL, create),
                rt.Request(rt.RTM_NEWLINK, 0, up, flags=_IFF_UP, change=_IFF_UP),
            ]
            try:
                self._netlink.send(requests)
            except rt.NetlinkError as error:
                if error.errno != errno.EEXIST:
                    raise
                # Left by an attempt that did not end.
                _delete(self._netlink, [veth])
                self._netlink.send(requests)
        finally:
            os.close(fd)
        with netns.entered(netns_path):
            inside = rt.Socket()
            loopback, interface = socket.if_nametoindex("lo"), socket.if_nametoindex(POD_INTERFACE)
        gateway = str(self._range.gateway)
        with inside:
            inside.send(
                [
                    rt.Request(rt.RTM_NEWLINK, 0, index=loopback, flags=_IFF_UP, change=_IFF_UP),
                    self._address(interface, IPv4Address(address), 32),
                    rt.Request(rt.RTM_NEWLINK, 0, index=interface, flags=_IFF_UP, change=_IFF_UP),
                    rt.Request(
                        rt.RTM_NEWROUTE,
                        rt.NLM_F_CREATE | rt.NLM_F_REPLACE,
                        [("RTA_GATEWAY", gateway), ("RTA_OIF", interface)],
                        family=socket.AF_INET,
                        table=_RT_TABLE_MAIN,
                        proto=_RTPROT_BOOT,
                        type=_RTN_UNICAST,
                        flags=_RTNH_F_ONLINK,
                    ),
                ]
            )

    def delete(self, names: Collection[str]) -> None:
        """Those links, and with each its other end. No error for one that is gone. For a thread of its own."""
        _delete(self._deletion, names)

    def delete_ports(self, keep: Collection[str]) -> None:
        """Those cables on the bridge that are not in `keep`."""
        links = self._links()
        bridge = self._own_bridge(links)
        if bridge is not None:
            ports = [link.get_attr("IFLA_IFNAME") for link in links if link.get_attr("IFLA_MASTER") == bridge["index"]]
            _delete(self._netlink, set(ports) - set(keep))

    def delete_bridge(self, veths: Collection[str]) -> bool:
        """With all its cables, and `veths` that may have lost it. False if an interface of that name is someone else's:
        that is left alone."""
        _delete(self._netlink, veths)
        try:
            self.delete_ports(())
            if self._own_bridge(self._links()) is not None:
                _delete(self._netlink, [self._bridge])
        except NetworkError:
            return False
        return True

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
        ours = self._range.network
        for route in routes:
            if route.get_attr("RTA_TABLE") == _RT_TABLE_LOCAL or not route["dst_len"]:
                continue
            name = names.get(route.get_attr("RTA_OIF"), "")
            other = IPv4Network((route.get_attr("RTA_DST"), route["dst_len"]))
            if name != self._bridge and (
                other.subnet_of(ours) or (route["proto"] == _RTPROT_KERNEL and other.overlaps(ours))
            ):
                raise NetworkError(
                    "RangeOverlap",
                    f"Pod range {ours} overlaps {other} of {name or 'a route'}: choose another --pod-cidr",
                )

    def _sysctls(self) -> None:
        forward = _SYSCTL / "ip_forward"
        if forward.read_text().strip() != "1":
            forward.write_text("1")
        # For connections from the node's 127.0.0.1 to a host port; nftables.py keeps Pods from abusing it.
        (_SYSCTL / "conf" / self._bridge / "route_localnet").write_text("1")


def _delete(netlink: rt.Socket, names: Collection[str]) -> None:
    """All in one message, by way of a link group: the kernel takes 15 ms, however many they are (an RCU barrier)."""
    if not names:
        return
    mark = [rt.Request(rt.RTM_NEWLINK, 0, [("IFLA_IFNAME", name), ("IFLA_GROUP", _DOOMED)]) for name in names]
    for requests in (mark, [rt.Request(rt.RTM_DELLINK, 0, [("IFLA_GROUP", _DOOMED)])]):
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


def _hardware_address(bridge: str, pod_range: PodRange) -> str:
    """Locally administered, the same each time."""
    digest = hashlib.blake2s(f"{bridge} {pod_range.network}".encode(), digest_size=5).digest()
    return ":".join(f"{byte:02x}" for byte in (0x02, *digest))
