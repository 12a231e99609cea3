"""The nftables tables of a Pod network (sources, masquerading, forwarding, host ports), always replaced whole."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Collection, Iterable, Sequence

from podling.kit import program
from podling.network.errors import NetworkError
from podling.network.ipam import HostPort, Lease, PodRange
from podling.network.links import DOOMED, group_of

TIMEOUT_SECONDS = 10.0


def table_name(bridge: str) -> str:
    return f"podling-{bridge}"


def ruleset(bridge: str, pods: PodRange, leases: Iterable[Lease], daemon_ports: Collection[int] = ()) -> str:
    """Return the input of `nft -f -`.

    - What comes from a cable must be IPv4 with a source address whose way back is that cable: no Pod speaks as another, as
      the node (127.0.0.1) or as nobody (0.0.0.0, to broadcast addresses). Cables that are being deleted count too.
    - Loopback addresses are routed for cables (route_localnet, see links.py), so whatever a Pod sends to them is dropped
      before any translation (CVE-2020-8558).
    - A Pod's packets to anywhere but Pods leave with the node's address.
    - Host ports: DNAT for packets to the node's own addresses, from outside, from Pods and from the node itself. A
      connection from the node's loopback, or from a Pod to itself, comes from the gateway: the Pod could not answer it else.
    - Ports of the cluster's daemons are never redirected, whatever the leases say: a Pod would take the API server's clients.
    - A Pod whose packets come back to it is not to be told of a shorter way.
    """
    ports = [(lease.address, port) for lease in leases for port in lease.host_ports]
    anywhere = [_element(port, "", address) for address, port in ports if not port.host_ip]
    somewhere = [_element(port, f"{port.host_ip} . ", address) for address, port in ports if port.host_ip]
    themselves = [f"{address} . {address}" for address in dict.fromkeys(address for address, _ in ports)]
    cables = group_of(bridge)
    from_pods = f"iifgroup {{ {cables}, {DOOMED} }}"
    rules = f"""\
{removal(bridge)}
table ip {table_name(bridge)} {{
  map host-ports {{
    type inet_proto . inet_service : ipv4_addr . inet_service
    {_elements(anywhere)}
  }}
  map host-ports-by-address {{
    type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
    {_elements(somewhere)}
  }}
  set hairpin {{
    type ipv4_addr . ipv4_addr
    {_elements(themselves)}
  }}
  chain host-ports {{
    {_reserved(daemon_ports)}
    dnat ip to ip daddr . meta l4proto . th dport map @host-ports-by-address
    dnat ip to meta l4proto . th dport map @host-ports
  }}
  chain from-pods {{
    ip daddr 127.0.0.0/8 drop
    ip saddr 0.0.0.0/8 drop
    fib saddr . iif oif missing drop
  }}
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    {from_pods} jump from-pods
  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump host-ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    fib daddr type local jump host-ports
  }}
  chain redirects {{
    type filter hook output priority filter; policy accept;
    oifgroup {cables} icmp type redirect drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifgroup {cables} accept
    oifgroup {cables} accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifgroup != {cables} ip saddr {pods.network} masquerade fully-random
    oifgroup {cables} ip saddr 127.0.0.0/8 snat to {pods.gateway}
    oifgroup {cables} ip saddr . ip daddr @hairpin snat to {pods.gateway}
  }}
}}
"""
    if _has_ipv6():
        rules += f"""\
table ip6 {table_name(bridge)} {{
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    {from_pods} drop
  }}
}}
"""
    return rules


def removal(bridge: str) -> str:
    """Return the input of `nft -f -` that deletes the tables; adding them first makes that no error where there are none."""
    families = ("ip", "ip6") if _has_ipv6() else ("ip",)
    return "".join(f"{verb} table {family} {table_name(bridge)}\n" for family in families for verb in ("add", "delete"))


def _has_ipv6() -> bool:
    """Whether the kernel knows IPv6: else it may not know its tables either."""
    return os.path.exists("/proc/sys/net/ipv6")


async def apply(rules: str) -> None:
    """Hand the rules to nft, as one transaction. Raises NetworkError with what nft said."""
    ended = await _nft("-f", "-", input=rules)
    if ended.code:
        said = ended.stderr.decode(errors="replace").strip() or f"it ended with exit code {ended.code}"
        raise NetworkError("NetworkSetupFailed", f"nft refused the rules of the Pod network: {said}")


async def exists(table: str) -> bool:
    """Return whether there is a table of IPv4 with that name. Raises NetworkError."""
    return (await _nft("list", "table", "ip", table)).code == 0


async def _nft(*args: str, input: str = "") -> program.Ended:
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            return await program.run("nft", *args, input=input.encode())
    except FileNotFoundError:
        raise NetworkError("InvalidConfiguration", "nft is not installed: apt-get install nftables") from None
    except TimeoutError:
        raise NetworkError("NetworkSetupFailed", f"nft did not finish within {TIMEOUT_SECONDS:.0f} s") from None


def _element(port: HostPort, prefix: str, address: str) -> str:
    return f"{prefix}{port.protocol.lower()} . {port.host_port} : {address} . {port.container_port}"


def _reserved(ports: Collection[int]) -> str:
    return f"tcp dport {{ {', '.join(map(str, sorted(ports)))} }} return" if ports else ""


def _elements(elements: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(elements)} }}" if elements else ""
