"""Which Pods have to go for a more important one."""

from __future__ import annotations

from typing import Any

from tests.support.objects import make_node, make_pod

from podling.api.core.v1 import Pod
from podling.scheduler.node_info import NodeInfo, PodInfo
from podling.scheduler.placement import Placement, place

FULL = "0/1 nodes are available: 1 Insufficient cpu."


def pod(name: str, cpu: str, priority: int, **fields: Any) -> Pod:
    return make_pod(name, uid=name, requests={"cpu": cpu}, priority=priority, **fields)


def node(name: str, *pods: Pod, cpu: str = "4") -> NodeInfo:
    info = NodeInfo(make_node(name, cpu=cpu))
    for one in pods:
        info.add(PodInfo(one))
    return info


def victims(placement: Placement) -> tuple[str, set[str]]:
    assert placement.preempt is not None
    assert not placement.node
    return placement.preempt.node, {victim.uid for victim in placement.preempt.victims}


def test_a_pod_of_lower_priority_has_to_go() -> None:
    placement = place(PodInfo(pod("new", "3", 10)), [node("a", pod("low", "2", 0))])
    assert victims(placement) == ("a", {"low"})
    assert placement.message == FULL


def test_nobody_goes_for_an_equal() -> None:
    placement = place(PodInfo(pod("new", "3", 0)), [node("a", pod("equal", "2", 0))])
    assert placement.preempt is None
    assert placement.message == (
        f"{FULL} preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod."
    )


def test_as_few_as_possible_and_the_least_important_go() -> None:
    there = node("a", pod("low", "1", 1), pod("mid", "2", 2), pod("high", "1", 3))
    assert victims(place(PodInfo(pod("new", "1", 10)), [there])) == ("a", {"low"})
    assert victims(place(PodInfo(pod("new", "3", 10)), [there])) == ("a", {"low", "mid"})


def test_where_going_would_not_help_nobody_goes() -> None:
    there = node("a", pod("low", "1", 0), pod("high", "3", 20))
    placement = place(PodInfo(pod("new", "2", 10)), [there])
    assert placement.preempt is None
    assert placement.message == f"{FULL} preemption: {FULL}"


def test_the_node_with_the_least_important_victims_is_chosen() -> None:
    nodes = [node("a", pod("mid", "4", 5)), node("b", pod("low", "4", 1)), node("c", pod("high", "4", 9))]
    assert victims(place(PodInfo(pod("new", "2", 10)), nodes)) == ("b", {"low"})


def test_fewer_victims_are_better_than_many_of_the_same_priority() -> None:
    nodes = [node("a", pod("one", "2", 1), pod("two", "2", 1)), node("b", pod("three", "4", 1))]
    assert victims(place(PodInfo(pod("new", "4", 10)), nodes)) == ("b", {"three"})


def test_while_victims_are_going_no_more_are_sent_away() -> None:
    going = pod("low", "2", 0)
    going.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    promised = pod("new", "3", 10, status={"nominatedNodeName": "a"})
    placement = place(PodInfo(promised), [node("a", going, pod("other", "2", 0))])
    assert placement.preempt is None
    assert placement.message == f"{FULL} preemption: not eligible due to a terminating pod on the nominated node."


def test_room_made_for_a_pod_is_kept_for_it() -> None:
    room = [node("a")]
    nominated = [(PodInfo(pod("waiting", "3", 10)), "a")]
    assert place(PodInfo(pod("less", "2", 5)), room, nominated=nominated).node == ""
    assert place(PodInfo(pod("more", "2", 20)), room, nominated=nominated).node == "a"
    assert place(nominated[0][0], room, nominated=nominated).node == "a"


def test_a_pod_goes_to_the_node_it_was_promised() -> None:
    promised = pod("new", "3", 10, status={"nominatedNodeName": "busy"})
    nodes = [node("idle"), node("busy", pod("other", "1", 0))]
    assert place(PodInfo(promised), nodes).node == "busy"


def test_nobody_goes_where_it_is_a_promised_pod_that_is_in_the_way() -> None:
    selector = {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "zone"}
    far = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [selector]}}
    promised = PodInfo(pod("promised", "1", 20, affinity=far))
    nodes = [NodeInfo(make_node(name, labels={"zone": "z"})) for name in ("a", "b")]
    nodes[1].add(PodInfo(pod("low", "1", 0)))
    placement = place(PodInfo(pod("new", "1", 10, labels={"app": "x"})), nodes, nominated=[(promised, "a")])
    assert (placement.node, placement.preempt) == ("", None)
