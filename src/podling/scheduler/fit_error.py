"""The sentence that tells why a Pod could not be placed, word for word as kube-scheduler's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from podling.scheduler.framework import Rejection

NO_NODES = "no nodes available to schedule pods"
NO_VICTIMS = "No preemption victims found for incoming pod"
PREEMPTION_USELESS = "Preemption is not helpful for scheduling"


def fit_error(rejections: Iterable[Rejection], post_filter: str = "") -> str:
    """ "0/2 nodes are available: 1 Insufficient cpu, 1 Too many pods." and what preemption had to say."""
    rejections = list(rejections)
    counts = Counter(reason for rejection in rejections for reason in rejection.reasons)
    histogram = ", ".join(sorted(f"{count} {reason}" for reason, count in counts.items()))
    text = f"0/{len(rejections)} nodes are available:"
    if histogram:
        text += f" {histogram}."
    return f"{text} {post_filter}" if post_filter else text
