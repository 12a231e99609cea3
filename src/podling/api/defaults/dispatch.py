"""Which defaults belong to which kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from podling.api.core import v1 as core
from podling.api.defaults.pod import apply_pod
from podling.api.defaults.service import apply_service


def _secret(secret: core.Secret) -> None:
    secret.type = secret.type or "Opaque"


def _namespace(namespace: core.Namespace) -> None:
    # A generated name is labelled by the API server, which makes it.
    if namespace.metadata.name:
        namespace.metadata.labels["kubernetes.io/metadata.name"] = namespace.metadata.name
    namespace.status.phase = namespace.status.phase or "Active"


def _node(node: core.Node) -> None:
    spec, status = node.spec, node.status
    if not status.allocatable and status.capacity:
        status.allocatable = dict(status.capacity)
    # The older field for one CIDR and the list say the same; the older one wins if only it was written or they differ.
    if spec.pod_cidr and spec.pod_cidrs[:1] != [spec.pod_cidr]:
        spec.pod_cidrs = [spec.pod_cidr]
    elif spec.pod_cidrs:
        spec.pod_cidr = spec.pod_cidrs[0]


def _endpoints(endpoints: core.Endpoints) -> None:
    for subset in endpoints.subsets:
        for port in subset.ports:
            port.protocol = port.protocol or "TCP"


_DEFAULTS: dict[type, Callable[[Any], None]] = {
    core.Pod: apply_pod,
    core.Service: apply_service,
    core.Secret: _secret,
    core.Namespace: _namespace,
    core.Node: _node,
    core.Endpoints: _endpoints,
}


def apply(obj: Any) -> None:
    """Fills in what the user left out, in place. Applied again it changes nothing. Kinds without defaults are left."""
    default = _DEFAULTS.get(type(obj))
    if default is not None:
        default(obj)
