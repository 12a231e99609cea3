"""The downward API: fields and resources of a Pod as text.

Source: Kubernetes documentation "Downward API" (available fields), "Expose Pod Information to Containers".
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from podling.api.core.v1 import Container, ObjectFieldSelector, Pod, ResourceFieldSelector
from podling.api.go import quote
from podling.api.quantity import Quantity
from podling.api.resources import all_containers

_SUBSCRIPT = re.compile(r"^(metadata\.(?:labels|annotations))\['(.+)'\]$")


class DownwardError(Exception):
    """The reference names something that the Pod does not have."""


def field(pod: Pod, selector: ObjectFieldSelector) -> str:
    """The value of a fieldRef; an absent label or annotation is the empty string."""
    path = selector.field_path
    if subscript := _SUBSCRIPT.match(path):
        values = pod.metadata.labels if subscript.group(1) == "metadata.labels" else pod.metadata.annotations
        return values.get(subscript.group(2), "")
    match path:
        case "metadata.name":
            return pod.metadata.name
        case "metadata.namespace":
            return pod.metadata.namespace
        case "metadata.uid":
            return pod.metadata.uid
        case "metadata.labels":
            return _lines(pod.metadata.labels)
        case "metadata.annotations":
            return _lines(pod.metadata.annotations)
        case "spec.nodeName":
            return pod.spec.node_name
        case "spec.serviceAccountName":
            return pod.spec.service_account_name
        case "status.hostIP":
            return pod.status.host_ip
        case "status.hostIPs":
            return ",".join(ip.ip for ip in pod.status.host_ips)
        case "status.podIP":
            return pod.status.pod_ip
        case "status.podIPs":
            return ",".join(ip.ip for ip in pod.status.pod_ips)
    raise DownwardError(f"unsupported fieldPath: {path}")


def _lines(values: Mapping[str, str]) -> str:
    return "\n".join(f"{key}={quote(values[key])}" for key in sorted(values))


def resource(
    pod: Pod, container: Container | None, selector: ResourceFieldSelector, allocatable: Mapping[str, Quantity]
) -> str:
    """The value of a resourceFieldRef, rounded up to whole divisors; a missing limit is the node's allocatable."""
    if selector.container_name:
        named = [c for c in all_containers(pod.spec) if c.name == selector.container_name]
        container = named[0] if named else None
    if container is None:
        raise DownwardError(f"container {selector.container_name} not found")
    kind, _, name = selector.resource.partition(".")
    resources = container.resources
    if kind == "limits":
        quantity = resources.limits.get(name) or (
            allocatable.get(name) if name in ("cpu", "memory", "ephemeral-storage") else None
        )
    elif kind == "requests":
        quantity = resources.requests.get(name)
    else:
        raise DownwardError(f"unsupported container resource : {selector.resource}")
    amount = quantity or Quantity("0")
    divisor = selector.divisor or Quantity("1")
    if name == "cpu":
        return str(-(-amount.milli_value() // divisor.milli_value()))
    return str(-(-amount.value() // max(1, divisor.value())))
