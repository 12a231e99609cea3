"""Ports of a Node that belong to the cluster's own daemons: no Pod may have them as host ports.

A host port redirects whatever comes to that port of the machine, loopback included: a Pod with the API server's port would
take all of its clients. The agent's port is in the Node's status.daemonEndpoints, the API server's in the Endpoints of
the Service "kubernetes" in the namespace "default".
"""

from __future__ import annotations

from podling.api.core.v1 import Endpoints, Node
from podling.scheduler.node_info import ANY_ADDRESS, HostPort

NAMESPACE, NAME = "default", "kubernetes"


def daemon_ports(node: Node, api_server: Endpoints | None) -> frozenset[HostPort]:
    """Return the ports that daemons have on this Node. `api_server` is None while its Endpoints do not exist."""
    numbers = {node.status.daemon_endpoints.kubelet_endpoint.port}
    addresses = {address.address for address in node.status.addresses}
    for subset in api_server.subsets if api_server is not None else ():
        for address in [*subset.addresses, *subset.not_ready_addresses]:
            if address.ip in addresses or address.node_name == node.metadata.name:
                numbers.update(port.port for port in subset.ports)
    return frozenset((ANY_ADDRESS, "TCP", number) for number in numbers if number)
