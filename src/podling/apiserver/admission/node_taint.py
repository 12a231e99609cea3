"""NodeTaint: a new Node takes no Pods before the controllers have seen that it is ready.

Source: upstream plugin/pkg/admission/nodetaint.
"""

from __future__ import annotations

from podling.api.core.v1 import Node, Taint
from podling.api.tolerations import NO_SCHEDULE
from podling.apiserver.admission.chain import Operation, Review

NOT_READY = "node.kubernetes.io/not-ready"


class NodeTaint:
    async def admit(self, review: Review) -> None:
        if review.resource.type is not Node or review.subresource or review.operation is not Operation.CREATE:
            return
        node: Node = review.obj
        if not any(taint.key == NOT_READY and taint.effect == NO_SCHEDULE for taint in node.spec.taints):
            node.spec.taints.append(Taint(key=NOT_READY, effect=NO_SCHEDULE))
