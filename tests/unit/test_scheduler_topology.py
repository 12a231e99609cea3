"""Pods that want to be near each other, far from each other, or evenly spread."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from tests.support.objects import make_node, make_pod

from podling.api.core.v1 import Pod
from podling.scheduler.filters import reject
from podling.scheduler.framework import Cycle
from podling.scheduler.node_info import NodeInfo, PodInfo
from podling.scheduler.placement import find_feasible, select

NEAR = "node(s) didn't match pod affinity rules"
FAR = "node(s) didn't match pod anti-affinity rules"
EXISTING = "node(s) didn't satisfy existing pods anti-affinity rules"
SPREAD = "node(s) didn't match pod topology spread constraints"
HOST = "kubernetes.io/hostname"
WEB = {"app": "web"}


def nodes(**zones: str) -> dict[str, NodeInfo]:
    """Nodes by name, each in a zone."""
    return {name: NodeInfo(make_node(name, labels={"zone": zone})) for name, zone in zones.items()}


def put(info: NodeInfo, pod: Pod) -> None:
    pod.metadata.uid = f"{id(info)}-{len(info.pods)}"
    info.add(PodInfo(pod))


def labels_of(namespace: str) -> Mapping[str, str]:
    return {"team": namespace}


def verdicts(pod: Pod, there: dict[str, NodeInfo]) -> dict[str, str]:
    """Node name to the reason why not, "" if it will do."""
    cycle = Cycle(PodInfo(pod), list(there.values()), labels_of)
    found = {}
    for name, info in there.items():
        assert info.node is not None
        rejected = reject(cycle, info, info.node)
        found[name] = rejected[1].reasons[0] if rejected else ""
    return found


def near(key: str, **more: Any) -> dict[str, Any]:
    return {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(key, **more)]}}


def far(key: str, **more: Any) -> dict[str, Any]:
    return {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(key, **more)]}}


def term(key: str, **more: Any) -> dict[str, Any]:
    return {"topologyKey": key, "labelSelector": {"matchLabels": WEB}, **more}


def test_affinity_asks_for_the_domain_of_a_matching_pod() -> None:
    there = nodes(a="1", b="1", c="2")
    put(there["a"], make_pod(labels=WEB))
    assert verdicts(make_pod(affinity=near("zone")), there) == {"a": "", "b": "", "c": NEAR}
    assert verdicts(make_pod(affinity=near(HOST)), there) == {"a": "", "b": NEAR, "c": NEAR}


def test_without_any_match_only_a_pod_that_matches_itself_goes_anywhere() -> None:
    there = nodes(a="1", b="2")
    assert verdicts(make_pod(labels=WEB, affinity=near("zone")), there) == {"a": "", "b": ""}
    assert verdicts(make_pod(affinity=near("zone")), there) == {"a": NEAR, "b": NEAR}


def test_a_node_without_the_topology_label_is_in_no_domain() -> None:
    there = nodes(a="1")
    assert verdicts(make_pod(labels=WEB, affinity=near("rack")), there) == {"a": NEAR}
    assert verdicts(make_pod(labels=WEB, affinity=far("rack")), there) == {"a": ""}


def test_anti_affinity_keeps_away_from_the_domain_of_a_matching_pod() -> None:
    there = nodes(a="1", b="1", c="2")
    put(there["a"], make_pod(labels=WEB))
    assert verdicts(make_pod(affinity=far("zone")), there) == {"a": FAR, "b": FAR, "c": ""}


def test_anti_affinity_of_a_pod_that_is_there_counts_as_well() -> None:
    there = nodes(a="1", b="1", c="2")
    put(there["a"], make_pod(affinity=far("zone")))
    assert verdicts(make_pod(labels=WEB), there) == {"a": EXISTING, "b": EXISTING, "c": ""}
    assert verdicts(make_pod(), there) == {"a": "", "b": "", "c": ""}


@pytest.mark.parametrize(
    ("more", "sees"),
    [
        ({}, False),
        ({"namespaces": ["other"]}, True),
        ({"namespaces": ["third"]}, False),
        ({"namespaceSelector": {}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "other"}}}, True),
        ({"namespaceSelector": {"matchLabels": {"team": "default"}}}, False),
    ],
)
def test_terms_see_the_namespaces_they_name(more: dict[str, Any], sees: bool) -> None:
    there = nodes(a="1")
    put(there["a"], make_pod(namespace="other", labels=WEB))
    assert verdicts(make_pod(affinity=far(HOST, **more)), there) == {"a": FAR if sees else ""}


def test_match_label_keys_narrow_a_term_to_the_pods_own_values() -> None:
    there = nodes(a="1")
    put(there["a"], make_pod(labels={**WEB, "revision": "1"}))
    affinity = far(HOST, matchLabelKeys=["revision"])
    assert verdicts(make_pod(labels={**WEB, "revision": "1"}, affinity=affinity), there) == {"a": FAR}
    assert verdicts(make_pod(labels={**WEB, "revision": "2"}, affinity=affinity), there) == {"a": ""}


def spread(key: str = "zone", skew: int = 1, **more: Any) -> dict[str, Any]:
    constraint = {"topologyKey": key, "maxSkew": skew, "whenUnsatisfiable": "DoNotSchedule"}
    return {"topologySpreadConstraints": [{**constraint, "labelSelector": {"matchLabels": WEB}, **more}]}


def test_pods_are_spread_within_the_skew() -> None:
    there = nodes(a="1", b="1", c="2")
    put(there["a"], make_pod(labels=WEB))
    assert verdicts(make_pod(labels=WEB, **spread()), there) == {"a": SPREAD, "b": SPREAD, "c": ""}
    assert verdicts(make_pod(labels=WEB, **spread(skew=2)), there) == {"a": "", "b": "", "c": ""}


def test_pods_of_other_namespaces_and_those_that_go_do_not_count() -> None:
    there = nodes(a="1", c="2")
    going = make_pod(labels=WEB)
    going.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    put(there["a"], going)
    put(there["a"], make_pod(namespace="other", labels=WEB))
    assert verdicts(make_pod(labels=WEB, **spread()), there) == {"a": "", "c": ""}


def test_a_node_without_the_label_is_no_place_for_a_spread_pod() -> None:
    message = f"{SPREAD} (missing required label)"
    assert verdicts(make_pod(labels=WEB, **spread("rack")), nodes(a="1")) == {"a": message}


def test_too_few_domains_count_as_an_empty_one() -> None:
    there = nodes(a="1")
    put(there["a"], make_pod(labels=WEB))
    assert verdicts(make_pod(labels=WEB, **spread()), there) == {"a": ""}
    assert verdicts(make_pod(labels=WEB, **spread(minDomains=2)), there) == {"a": SPREAD}


def test_nodes_that_the_pod_cannot_use_do_not_count_as_empty_domains() -> None:
    there = nodes(a="1", c="2")
    put(there["a"], make_pod(labels=WEB))
    pod = make_pod(labels=WEB, nodeSelector={"zone": "1"}, **spread())
    assert verdicts(pod, there)["a"] == ""
    ignoring = make_pod(labels=WEB, nodeSelector={"zone": "1"}, **spread(nodeAffinityPolicy="Ignore"))
    assert verdicts(ignoring, there)["a"] == SPREAD


def chosen(pod: Pod, there: dict[str, NodeInfo]) -> str:
    cycle = Cycle(PodInfo(pod), list(there.values()), labels_of)
    node = select(cycle, find_feasible(cycle)[0]).node
    assert node is not None
    return node.metadata.name


def test_preferred_affinity_draws_and_preferred_anti_affinity_repels() -> None:
    there = nodes(a="1", b="2")
    put(there["a"], make_pod(labels=WEB))
    weighted = [{"weight": 100, "podAffinityTerm": term(HOST)}]
    wish = "preferredDuringSchedulingIgnoredDuringExecution"
    assert chosen(make_pod(affinity={"podAffinity": {wish: weighted}}), there) == "a"
    put(there["b"], make_pod())
    put(there["b"], make_pod())
    assert chosen(make_pod(affinity={"podAntiAffinity": {wish: weighted}}), there) == "b"


def test_schedule_anyway_prefers_the_emptier_domain() -> None:
    there = nodes(a="1", b="2")
    put(there["a"], make_pod(labels=WEB))
    for _ in range(3):
        put(there["b"], make_pod())
    assert chosen(make_pod(labels=WEB, **spread(whenUnsatisfiable="ScheduleAnyway")), there) == "b"
