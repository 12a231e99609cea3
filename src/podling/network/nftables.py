"""The one nftables table of a bridge (masquerading, forwarding, host ports), always replaced whole."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Network

from podling.kit import program
from podling.network.errors import NetworkError
from podling.network.ipam import HostPort, Lease

TIMEOUT_SECONDS = 10.0


def table_name(bridge: str) -> str:
    return f"podling-{bridge}"


def ruleset(bridge: str, network: IPv4Network, leases: Iterable[Lease], daemon_ports: Collection[int] = ()) -> str:
    """The input of `nft -f -`.

    - A Pod's packets to anywhere but Pods of this bridge leave with the node's address.
    - Host ports: DNAT for packets to the node's own addresses, from outside, from Pods and from the node itself. A
      connection from the node's loopback, or from a Pod to itself, is masqueraded: the Pod could not answer it else.
    - Ports of the cluster's daemons are never redirected, whatever the leases say: a Pod would take the API server's clients.
    - Loopback addresses are routed for the bridge (route_localnet, see links.py), so whatever a Pod sends to them is
      dropped before any translation (CVE-2020-8558).
    - Pods speak to each other through the node's routing; a redirect would tell them to go around it.
    """
    ports = [(lease.address, port) for lease in leases for port in lease.host_ports]
    anywhere = [_element(port, "", address) for address, port in ports if not port.host_ip]
    somewhere = [_element(port, f"{port.host_ip} . ", address) for address, port in ports if port.host_ip]
    themselves = [f"{address} . {address}" for address in dict.fromkeys(address for address, _ in ports)]
    return f"""\
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
  chain raw {{
    type filter hook prerouting priority raw; policy accept;
    iifname "{bridge}" ip daddr 127.0.0.0/8 drop
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
    oifname "{bridge}" icmp type redirect drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{bridge}" accept
    oifname "{bridge}" accept
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    oifname != "{bridge}" ip saddr {network} masquerade fully-random
    oifname "{bridge}" ip saddr 127.0.0.0/8 masquerade
    oifname "{bridge}" ip saddr . ip daddr @hairpin masquerade
  }}
}}
"""


def removal(bridge: str) -> str:
    """Deletes the table; adding it first makes that no error where there is none."""
    return f"add table ip {table_name(bridge)}\ndelete table ip {table_name(bridge)}"


async def apply(rules: str) -> None:
    """Hand the rules to nft, as one transaction. Raises NetworkError with what nft said."""
    try:
        async with asyncio.timeout(TIMEOUT_SECONDS):
            ended = await program.run("nft", "-f", "-", input=rules.encode())
    except FileNotFoundError:
        raise NetworkError("InvalidConfiguration", "nft is not installed: apt-get install nftables") from None
    except TimeoutError:
        raise NetworkError("NetworkSetupFailed", f"nft did not finish within {TIMEOUT_SECONDS:.0f} s") from None
    if ended.code:
        said = ended.stderr.decode(errors="replace").strip() or f"it ended with exit code {ended.code}"
        raise NetworkError("NetworkSetupFailed", f"nft refused the rules of the Pod network: {said}")


def _element(port: HostPort, prefix: str, address: str) -> str:
    return f"{prefix}{port.protocol.lower()} . {port.host_port} : {address} . {port.container_port}"


def _reserved(ports: Collection[int]) -> str:
    return f"tcp dport {{ {', '.join(map(str, sorted(ports)))} }} return" if ports else ""


def _elements(elements: Sequence[str]) -> str:
    return f"elements = {{ {', '.join(elements)} }}" if elements else ""
