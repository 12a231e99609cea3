"""A Pod author with grace periods beyond all times: the node goes on, and the Pod can be removed like any other."""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.cluster import Cluster, unique
from tests.support.pods import container, pod

STUBBORN = "trap '' TERM; while :; do sleep 100; done"


@pytest.mark.parametrize("seconds", [300_000_000_000, 2**63 - 1])
@pytest.mark.parametrize("asked", [True, False], ids=["kubectl delete", "spec"])
def test_a_pod_that_never_has_to_end_is_still_removed(
    cluster: Cluster, namespace: str, seconds: int, asked: bool
) -> None:
    quick, stubborn, later = unique("quick"), unique("stubborn"), unique("later")
    grace: dict[str, Any] = {} if asked else {"terminationGracePeriodSeconds": seconds}
    flags = [f"--grace-period={seconds}"] if asked else []
    cluster.apply(pod(quick, **grace))
    cluster.apply(pod(stubborn, container(script=STUBBORN), **grace))
    for name in (quick, stubborn):
        cluster.wait(f"pod/{name}", "condition=Ready")
    uid = cluster.get("pod", stubborn)["metadata"]["uid"]
    # One that ends when it is told to is gone; the other stays, and is listed.
    cluster.kubectl("delete", "pod", quick, "--timeout=30s", *flags)
    cluster.kubectl("delete", "pod", stubborn, "--wait=false", *flags)
    metadata = cluster.get("pod", stubborn)["metadata"]
    assert metadata["deletionTimestamp"] == "9999-12-31T23:59:59Z"
    assert stubborn in cluster.kubectl("get", "pods")
    cluster.apply(pod(later))
    cluster.wait(f"pod/{later}", "condition=Ready")
    # A shorter period ends it; so would force.
    cluster.kubectl("delete", "pod", stubborn, "--grace-period=1", "--timeout=30s")
    assert not cluster.leftovers(uid)
