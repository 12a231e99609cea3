"""DefaultTolerationSeconds: Pods stay five minutes on a node that is not ready or not reachable.

Source: upstream plugin/pkg/admission/defaulttolerationseconds.
"""

from __future__ import annotations

from podling.api.core.v1 import Pod, Toleration
from podling.apiserver.admission.chain import Operation, Review

_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_EFFECT = "NoExecute"
_SECONDS = 300


class DefaultTolerationSeconds:
    async def admit(self, review: Review) -> None:
        if review.resource.type is not Pod or review.subresource:
            return
        if review.operation not in (Operation.CREATE, Operation.UPDATE):
            return
        pod: Pod = review.obj
        for taint in _TAINTS:
            if not any(_covers(toleration, taint) for toleration in pod.spec.tolerations):
                pod.spec.tolerations.append(
                    Toleration(key=taint, operator="Exists", effect=_EFFECT, toleration_seconds=_SECONDS)
                )


def _covers(toleration: Toleration, taint: str) -> bool:
    return toleration.key in ("", taint) and toleration.effect in ("", _EFFECT)
