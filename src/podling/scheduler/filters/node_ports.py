"""NodePorts: host ports that another Pod on the Node has, or a daemon of the cluster."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.scheduler.framework import ClusterEvent, Cycle, Filter, Rejection
from podling.scheduler.node_info import ANY_ADDRESS, NodeInfo

_REJECTION = Rejection(("node(s) didn't have free ports for the requested pod ports",))


def _filter(cycle: Cycle, info: NodeInfo, node: Node) -> Rejection | None:
    taken = info.host_ports
    if not taken:
        return None
    for address, protocol, port in cycle.info.host_ports:
        if address == ANY_ADDRESS:
            if any(p == protocol and n == port for _, p, n in taken):
                return _REJECTION
        elif (address, protocol, port) in taken or (ANY_ADDRESS, protocol, port) in taken:
            return _REJECTION
    return None


NODE_PORTS = Filter(
    "NodePorts", _filter, frozenset({ClusterEvent.NODE_ADDED, ClusterEvent.POD_REMOVED, ClusterEvent.DAEMON_PORTS})
)
