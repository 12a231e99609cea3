"""Taints of Nodes and the tolerations of Pods for them.

Source: Kubernetes documentation, "Taints and Tolerations"; operators Lt and Gt: KEP-5471.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from podling.api.core.v1 import Taint, Toleration

NO_SCHEDULE = "NoSchedule"
PREFER_NO_SCHEDULE = "PreferNoSchedule"
NO_EXECUTE = "NoExecute"


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """An empty effect tolerates every effect, an empty key (with Exists) every key."""
    if toleration.effect and toleration.effect != taint.effect:
        return False
    if toleration.key and toleration.key != taint.key:
        return False
    match toleration.operator:
        case "" | "Equal":
            return toleration.value == taint.value
        case "Exists":
            return True
        case "Lt" | "Gt" as operator:
            try:
                there, limit = int(taint.value), int(toleration.value)
            except ValueError:
                return False
            return there < limit if operator == "Lt" else there > limit
        case _:
            return False


def untolerated(taints: Iterable[Taint], tolerations: Sequence[Toleration], effects: Iterable[str]) -> list[Taint]:
    """The taints with one of these effects that no toleration covers."""
    return [taint for taint in taints if taint.effect in effects and not any(tolerates(t, taint) for t in tolerations)]
