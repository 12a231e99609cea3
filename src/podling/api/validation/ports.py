"""Container ports, port numbers and names."""

from __future__ import annotations

from collections.abc import Sequence

from podling.api import field, names
from podling.api.core.v1 import Container, ContainerPort, PodSpec
from podling.api.field import FieldError, Path
from podling.api.types import IntOrString

PROTOCOLS = ("SCTP", "TCP", "UDP")


def port_number(value: int, path: Path, errors: list[FieldError]) -> None:
    errors.extend(field.invalid(path, value, message) for message in names.port_number(value))


def port_number_or_name(value: IntOrString, path: Path, errors: list[FieldError]) -> None:
    if isinstance(value, int):
        port_number(value, path, errors)
    else:
        errors.extend(field.invalid(path, value, message) for message in names.port_name(value))


def protocol(value: str, path: Path, errors: list[FieldError]) -> None:
    if not value:
        errors.append(field.required(path, ""))
    elif value not in PROTOCOLS:
        errors.append(field.not_supported(path, value, PROTOCOLS))


def container_ports(ports: Sequence[ContainerPort], path: Path, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        at = path.index(i)
        if port.name:
            messages = names.port_name(port.name)
            if messages:
                errors.extend(field.invalid(at.child("name"), port.name, message) for message in messages)
            elif port.name in seen:
                errors.append(field.duplicate(at.child("name"), port.name))
            else:
                seen.add(port.name)
        if not port.container_port:
            errors.append(field.required(at.child("containerPort"), ""))
        else:
            port_number(port.container_port, at.child("containerPort"), errors)
        if port.host_port:
            port_number(port.host_port, at.child("hostPort"), errors)
        protocol(port.protocol, at.child("protocol"), errors)


def host_port_conflicts(containers: Sequence[Container], path: Path, errors: list[FieldError]) -> None:
    """`path` is the list that the containers come from; indexes count from 0 even for a part of it, as upstream's."""
    seen: set[str] = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.ports):
            if not port.host_port:
                continue
            key = f"{port.protocol}/{port.host_ip}/{port.host_port}"
            if key in seen:
                errors.append(field.duplicate(path.index(i).child("ports").index(j).child("hostPort"), key))
            seen.add(key)


def host_network_ports(spec: PodSpec, path: Path, errors: list[FieldError], *, is_pod: bool) -> None:
    """In the host's network a host port is the container's; a template may leave it to defaulting."""
    if not spec.host_network:
        return
    for i, container in enumerate(spec.containers):
        for j, port in enumerate(container.ports):
            host_port = port.host_port
            if (is_pod or host_port) and host_port != port.container_port:
                at = path.child("containers").index(i).child("ports").index(j).child("hostPort")
                message = "must match `containerPort` when `hostNetwork` is true"
                errors.append(field.invalid(at, host_port, message))
