"""IP addresses and CIDRs in API fields.

Source: k8s.io/apimachinery pkg/util/validation/ip.go with StrictIPCIDRValidation, which 1.36 has on. What was stored
before stays valid: an update may keep a value that is no longer accepted.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from podling.api import field
from podling.api.field import FieldError, Path

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_INVALID = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
_INVALID_CIDR = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"


def parse(value: str) -> Address | None:
    """As Go's ParseIPSloppy: decimal octets may have leading zeros; no zone. None when it is no address."""
    if "%" in value or not value.isascii():
        return None
    head, colon, tail = value.rpartition(":")
    octets = tail.split(".")
    if len(octets) == 4 and all(octet.isdecimal() and len(octet) <= 16 for octet in octets):
        value = head + colon + ".".join(str(int(octet)) for octet in octets)
    try:
        return ipaddress.ip_address(value)
    except ValueError:
        return None


def _has_leading_zero(value: str) -> bool:
    tail = value.rpartition(":")[2]
    return "." in tail and any(len(octet) > 1 and octet[0] == "0" for octet in tail.split("."))


def is_ipv6(value: str) -> bool:
    """Whether it is an address of IP version 6 (an IPv4-mapped one is not)."""
    address = parse(value)
    return isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None


def is_dual_stack(values: Sequence[str]) -> bool:
    """Whether both IP versions are there. Entries that are no addresses count for IPv4, they are reported elsewhere."""
    versions = {is_ipv6(value) for value in values}
    return len(versions) == 2


def valid_ip(value: str, path: Path, errors: list[FieldError], stored: Collection[str] = ()) -> bool:
    """Appends why `value` is no address; `stored` are the field's former values, which stay valid."""
    if value in stored:
        return True
    before = len(errors)
    address = parse(value)
    if address is None:
        errors.append(field.invalid(path, value, _INVALID))
    else:
        if _has_leading_zero(value):
            errors.append(field.invalid(path, value, "must not have leading 0s"))
        if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
            errors.append(field.invalid(path, value, "must not be an IPv4-mapped IPv6 address"))
    return len(errors) == before


def parse_cidr(value: str) -> Network | None:
    """As Go's ParseCIDRSloppy. None when it is no CIDR."""
    host, slash, length = value.rpartition("/")
    address = parse(host)
    if not slash or address is None or not (length.isascii() and length.isdecimal()) or len(length) > 16:
        return None
    if int(length) > address.max_prefixlen:
        return None
    return ipaddress.ip_network((address, int(length)), strict=False)


def valid_cidr(value: str, path: Path, errors: list[FieldError], stored: Collection[str] = ()) -> None:
    """Appends why `value` is no CIDR in network form; `stored` as in valid_ip."""
    if value in stored:
        return
    network = parse_cidr(value)
    host, _, length = value.rpartition("/")
    address = parse(host)
    if network is None or address is None:
        errors.append(field.invalid(path, value, _INVALID_CIDR))
    elif _has_leading_zero(host) or (len(length) > 1 and length[0] == "0"):
        errors.append(field.invalid(path, value, "must not have leading 0s in IP or prefix length"))
    elif isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        errors.append(field.invalid(path, value, "must not have an IPv4-mapped IPv6 address"))
    elif network.network_address != address:
        errors.append(field.invalid(path, value, "must not have bits set beyond the prefix length"))


def endpoint_ip(value: str, path: Path, errors: list[FieldError]) -> None:
    """Addresses that make no sense as a destination for others: unspecified, loopback, link-local."""
    address = parse(value)
    if address is None:
        errors.append(field.invalid(path, value, "must be a valid IP address"))
        return
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_unspecified:
        errors.append(field.invalid(path, value, f"may not be unspecified ({value})"))
    if address.is_loopback:
        errors.append(field.invalid(path, value, "may not be in the loopback range (127.0.0.0/8, ::1/128)"))
    if address.is_link_local:
        message = "may not be in the link-local range (169.254.0.0/16, fe80::/10)"
        errors.append(field.invalid(path, value, message))
    if address in _LINK_LOCAL_MULTICAST[address.version]:
        message = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"
        errors.append(field.invalid(path, value, message))


_LINK_LOCAL_MULTICAST: dict[int, Network] = {
    4: ipaddress.ip_network("224.0.0.0/24"),
    6: ipaddress.ip_network("ff02::/16"),
}


def ip_warnings(value: str, path: Path) -> list[str]:
    """Upstream's warnings about an address that is valid but not written as it should be."""
    address = parse(value)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is None and str(address) != value:
        return [f'{path}: IPv6 address "{value}" should be in RFC 5952 canonical format ("{address}")']
    return []
