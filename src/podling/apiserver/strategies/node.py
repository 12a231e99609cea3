"""Nodes: their kubelet says how they are, from the moment on at which it registers them."""

from __future__ import annotations

from podling.api.core.v1 import Node
from podling.apiserver.strategy import Strategy


class NodeStrategy(Strategy[Node]):
    def prepare_for_create(self, obj: Node) -> None:
        """The status given counts: a kubelet registers its Node ready for Pods."""
        status = obj.status
        super().prepare_for_create(obj)
        obj.status = status

    def uses_reserve(self, obj: Node, subresource: str) -> bool:
        """Also the status, or a full disk could not be told of."""
        return subresource == "status" or super().uses_reserve(obj, subresource)
