"""Endpoints."""

from __future__ import annotations

from podling.api import field
from podling.api.core.v1 import EndpointAddress, EndpointPort, Endpoints, EndpointSubset
from podling.api.field import FieldError, Path
from podling.api.validation import ip, meta
from podling.api.validation.ports import port_number, protocol


def validate_create(endpoints: Endpoints) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(endpoints.metadata, errors)
    _subsets(endpoints.subsets, errors)
    return errors


def validate_update(new: Endpoints, old: Endpoints) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    meta.object_meta(new.metadata, errors)
    if new.subsets != old.subsets:
        _subsets(new.subsets, errors)
    return errors


def _subsets(subsets: list[EndpointSubset], errors: list[FieldError]) -> None:
    for i, subset in enumerate(subsets):
        at = Path("subsets").index(i)
        if not subset.addresses and not subset.not_ready_addresses:
            errors.append(field.required(at, "must specify `addresses` or `notReadyAddresses`"))
        for wire, addresses in (("addresses", subset.addresses), ("notReadyAddresses", subset.not_ready_addresses)):
            for j, address in enumerate(addresses):
                _address(address, at.child(wire).index(j), errors)
        for j, port in enumerate(subset.ports):
            _port(port, at.child("ports").index(j), errors, named=len(subset.ports) > 1)


def _address(address: EndpointAddress, path: Path, errors: list[FieldError]) -> None:
    ip.valid_ip(address.ip, path.child("ip"), errors)
    if address.hostname:
        meta.dns1123_label(address.hostname, path.child("hostname"), errors)
    if address.node_name is not None:
        meta.dns1123_subdomain(address.node_name, path.child("nodeName"), errors)
    ip.endpoint_ip(address.ip, path.child("ip"), errors)


def _port(port: EndpointPort, path: Path, errors: list[FieldError], *, named: bool) -> None:
    if port.name:
        meta.dns1123_label(port.name, path.child("name"), errors)
    elif named:
        errors.append(field.required(path.child("name"), ""))
    port_number(port.port, path.child("port"), errors)
    protocol(port.protocol, path.child("protocol"), errors)
    if port.app_protocol is not None:
        meta.qualified_name(port.app_protocol, path.child("appProtocol"), errors)
