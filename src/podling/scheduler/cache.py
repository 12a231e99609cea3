"""Nodes and the Pods on them, with those that are only assumed to be there: a decision counts at once, not when the
API server has confirmed it."""

from __future__ import annotations

from podling.api.core.v1 import Endpoints, Node, Pod
from podling.scheduler.daemon_ports import daemon_ports
from podling.scheduler.node_info import NodeInfo, PodInfo


class Cache:
    def __init__(self) -> None:
        self._nodes: dict[str, NodeInfo] = {}
        self._where: dict[str, str] = {}
        self._assumed: set[str] = set()
        self._api_server: Endpoints | None = None

    def nodes(self) -> list[NodeInfo]:
        """Every Node there is."""
        return [info for info in self._nodes.values() if info.node is not None]

    def set_node(self, node: Node) -> None:
        info = self._nodes.get(node.metadata.name)
        ports = daemon_ports(node, self._api_server)
        if info is None:
            self._nodes[node.metadata.name] = NodeInfo(node, ports)
        else:
            info.set_node(node, ports)

    def set_api_server(self, endpoints: Endpoints | None) -> None:
        """Take note of where the API server listens; None if nothing tells."""
        self._api_server = endpoints
        for info in self.nodes():
            if info.node is not None:
                info.set_node(info.node, daemon_ports(info.node, endpoints))

    def remove_node(self, name: str) -> None:
        """Its Pods stay known: the Node may come back before they are gone."""
        info = self._nodes.get(name)
        if info is not None:
            info.set_node(None)
            self._drop_if_empty(name, info)

    def assume(self, pod: PodInfo, node: str) -> None:
        """Counts a Pod as bound, until the API server shows it (`set_pod`) or binding failed (`remove_pod`)."""
        self._put(pod, node)
        self._assumed.add(pod.uid)

    def is_assumed(self, uid: str) -> bool:
        return uid in self._assumed

    def set_pod(self, pod: Pod) -> None:
        """A Pod that is bound, as the API server shows it."""
        uid = pod.metadata.uid
        self._assumed.discard(uid)
        self.remove_pod(uid)
        self._put(PodInfo(pod), pod.spec.node_name)

    def remove_pod(self, uid: str) -> PodInfo | None:
        """A Pod that is gone, has finished, or was not bound after all. Returns it if it was there."""
        self._assumed.discard(uid)
        name = self._where.pop(uid, None)
        if name is None:
            return None
        info = self._nodes[name]
        pod = info.remove(uid)
        self._drop_if_empty(name, info)
        return pod

    def _put(self, pod: PodInfo, node: str) -> None:
        info = self._nodes.get(node)
        if info is None:
            info = self._nodes[node] = NodeInfo()
        info.add(pod)
        self._where[pod.uid] = node

    def _drop_if_empty(self, name: str, info: NodeInfo) -> None:
        if info.node is None and not info.pods:
            del self._nodes[name]
