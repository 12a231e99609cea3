"""Which Nodes the scheduler's filters let pass, and which of those its scores choose."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.objects import make_node, make_pod

from podling.api.core.v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    NodeAddress,
    Pod,
)
from podling.scheduler.cache import Cache
from podling.scheduler.framework import Cycle, Rejection
from podling.scheduler.node_info import NodeInfo, PodInfo
from podling.scheduler.placement import find_feasible, place, select

CORDONED = "node(s) were unschedulable"
TAINTED = "node(s) had untolerated taint(s)"
AFFINITY = "node(s) didn't match Pod's node affinity/selector"
PORTS = "node(s) didn't have free ports for the requested pod ports"


def reasons(pod: Pod, node: Node, *there: Pod) -> tuple[str, ...]:
    """Why the pod does not fit the node with these Pods on it; empty if it does."""
    info = NodeInfo(node)
    for number, other in enumerate(there):
        other.metadata.uid = f"there-{number}"
        info.add(PodInfo(other))
    feasible, rejected = find_feasible(Cycle(PodInfo(pod), [info]))
    assert bool(feasible) != bool(rejected)
    return rejected[0][2].reasons if rejected else ()


def container(name: str = "c", **fields: Any) -> dict[str, Any]:
    return {"name": name, "image": "busybox", **fields}


def requests(**amounts: str) -> dict[str, Any]:
    return {"requests": {name.replace("_", "-"): amount for name, amount in amounts.items()}}


def test_a_pod_that_takes_exactly_what_is_left_fits() -> None:
    assert reasons(make_pod(requests={"cpu": "1500m"}), make_node(cpu="2"), make_pod(requests={"cpu": "500m"})) == ()


def test_a_pod_that_takes_a_thousandth_of_a_core_too_much_does_not() -> None:
    there = make_pod(requests={"cpu": "500m"})
    assert reasons(make_pod(requests={"cpu": "1501m"}), make_node(cpu="2"), there) == ("Insufficient cpu",)


@pytest.mark.parametrize("name", ["cpu", "memory", "ephemeral-storage", "example.com/gpu", "hugepages-2Mi"])
def test_every_resource_counts_under_its_name(name: str) -> None:
    assert reasons(make_pod(requests={name: "1Ti"}), make_node()) == (f"Insufficient {name}",)


def test_a_pod_that_requests_nothing_fits_an_overcommitted_node() -> None:
    assert reasons(make_pod(), make_node(cpu="1"), make_pod(requests={"cpu": "2"})) == ()


def test_pods_are_counted() -> None:
    assert reasons(make_pod(), make_node(pods="1"), make_pod("other")) == ("Too many pods",)


def test_all_missing_resources_are_named() -> None:
    pod = make_pod(requests={"cpu": "64", "memory": "1Ti"})
    assert reasons(pod, make_node(pods="0")) == ("Too many pods", "Insufficient cpu", "Insufficient memory")


def test_the_largest_init_container_counts_against_the_sum_of_the_containers() -> None:
    init = [container("i", resources=requests(cpu="3"))]
    assert reasons(make_pod(requests={"cpu": "1"}, initContainers=init), make_node(cpu="3")) == ()
    assert reasons(make_pod(requests={"cpu": "1"}, initContainers=init), make_node(cpu="2900m")) != ()


def test_sidecars_add_to_the_containers_and_to_later_init_containers() -> None:
    sidecar = container("s", restartPolicy="Always", resources=requests(cpu="1"))
    init = container("i", resources=requests(cpu="2"))
    pod = make_pod(requests={"cpu": "1"}, initContainers=[sidecar, init])
    assert reasons(pod, make_node(cpu="3")) == ()
    assert reasons(pod, make_node(cpu="2999m")) == ("Insufficient cpu",)


def test_overhead_counts() -> None:
    pod = make_pod(requests={"cpu": "1"}, overhead={"cpu": "250m"})
    assert reasons(pod, make_node(cpu="1250m")) == ()
    assert reasons(pod, make_node(cpu="1249m")) == ("Insufficient cpu",)


@pytest.mark.parametrize(
    ("mine", "theirs", "fits"),
    [
        ({"hostPort": 80}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 81}, True),
        ({"hostPort": 80}, {"hostPort": 80, "protocol": "UDP"}, True),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80, "hostIP": "127.0.0.2"}, True),
        ({"hostPort": 80, "hostIP": "127.0.0.1"}, {"hostPort": 80}, False),
        ({"hostPort": 80}, {"hostPort": 80, "hostIP": "127.0.0.1"}, False),
        ({"containerPort": 80}, {"hostPort": 80}, True),
    ],
)
def test_host_ports(mine: dict[str, Any], theirs: dict[str, Any], fits: bool) -> None:
    pod = make_pod(containers=[container(ports=[mine])])
    other = make_pod(containers=[container(ports=[theirs])])
    assert reasons(pod, make_node(), other) == (() if fits else (PORTS,))


def test_a_port_is_free_again_when_its_pod_is_gone() -> None:
    info = NodeInfo(make_node())
    port = make_pod(uid="a", containers=[container(ports=[{"hostPort": 80}])])
    info.add(PodInfo(port))
    info.remove("a")
    assert find_feasible(Cycle(PodInfo(port), [info]))[0] == [info]


def node_with_daemons(kubelet: int = 10250, address: str = "192.0.2.7") -> Node:
    node = make_node()
    node.status.daemon_endpoints.kubelet_endpoint.port = kubelet
    node.status.addresses = [NodeAddress(type="InternalIP", address=address)]
    return node


def api_server(address: str = "192.0.2.7", port: int = 6443) -> Endpoints:
    ports = [EndpointPort(name="https", port=port, protocol="TCP")]
    return Endpoints(subsets=[EndpointSubset(addresses=[EndpointAddress(ip=address)], ports=ports)])


@pytest.mark.parametrize(
    ("port", "fits"),
    [
        ({"hostPort": 6443}, False),
        ({"hostPort": 10250}, False),
        ({"hostPort": 6443, "hostIP": "127.0.0.1"}, False),
        ({"hostPort": 10250, "hostIP": "192.0.2.7", "protocol": "TCP"}, False),
        ({"hostPort": 6443, "protocol": "UDP"}, True),
        ({"hostPort": 6444}, True),
        ({"containerPort": 6443}, True),
    ],
)
def test_ports_of_the_clusters_daemons_are_taken(port: dict[str, Any], fits: bool) -> None:
    cache = Cache()
    cache.set_node(node_with_daemons())
    cache.set_api_server(api_server())
    pod = PodInfo(make_pod(containers=[container(ports=[port])]))
    assert [rejection for _, _, rejection in find_feasible(Cycle(pod, cache.nodes()))[1]] == (
        [] if fits else [Rejection((PORTS,))]
    )


def test_the_api_servers_port_is_taken_only_where_it_listens_and_as_long_as_it_does() -> None:
    cache = Cache()
    pod = PodInfo(make_pod(containers=[container(ports=[{"hostPort": 6443}])]))

    def fits() -> bool:
        return bool(find_feasible(Cycle(pod, cache.nodes()))[0])

    cache.set_api_server(api_server())
    cache.set_node(node_with_daemons(address="192.0.2.8"))
    assert fits()
    cache.set_node(node_with_daemons(address="192.0.2.7"))
    assert not fits()
    cache.set_api_server(api_server(port=7443))
    assert fits()
    cache.set_api_server(api_server())
    cache.set_node(node_with_daemons(kubelet=6443))
    cache.set_api_server(None)
    assert not fits()
    cache.set_node(node_with_daemons())
    assert fits()


def test_preemption_does_not_free_a_daemons_port() -> None:
    cache = Cache()
    cache.set_node(node_with_daemons())
    cache.set_api_server(api_server())
    cache.set_pod(make_pod("low", uid="low", nodeName="node-1"))
    high = PodInfo(make_pod("high", uid="high", priority=1000, containers=[container(ports=[{"hostPort": 6443}])]))
    placement = place(high, cache.nodes())
    assert (placement.node, placement.preempt) == ("", None)


def test_a_cordoned_node_takes_only_pods_that_tolerate_it() -> None:
    node = make_node(unschedulable=True)
    assert reasons(make_pod(), node) == (CORDONED,)
    toleration = {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}
    assert reasons(make_pod(tolerations=[toleration]), node) == ()


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        (None, False),
        ({"key": "gpu", "value": "yes", "effect": "NoSchedule"}, True),
        ({"key": "gpu", "operator": "Equal", "value": "no"}, False),
        ({"key": "gpu", "operator": "Exists", "effect": "NoExecute"}, False),
        ({"key": "gpu", "operator": "Exists"}, True),
        ({"operator": "Exists"}, True),
        ({"key": "cpu", "operator": "Exists"}, False),
    ],
)
def test_taints(toleration: dict[str, str] | None, fits: bool) -> None:
    node = make_node(taints=[{"key": "gpu", "value": "yes", "effect": "NoSchedule"}])
    pod = make_pod(tolerations=[toleration] if toleration else [])
    assert reasons(pod, node) == (() if fits else (TAINTED,))


def test_prefer_no_schedule_keeps_nobody_away() -> None:
    assert reasons(make_pod(), make_node(taints=[{"key": "x", "effect": "PreferNoSchedule"}])) == ()


def test_node_selector() -> None:
    pod = make_pod(nodeSelector={"disk": "ssd"})
    assert reasons(pod, make_node(labels={"disk": "ssd"})) == ()
    assert reasons(pod, make_node(labels={"disk": "hdd"})) == (AFFINITY,)
    assert reasons(pod, make_node()) == (AFFINITY,)


def required(*terms: dict[str, Any]) -> dict[str, Any]:
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": list(terms)}}}


def expression(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("expressions", "fits"),
    [
        ([expression("zone", "In", "a", "b")], True),
        ([expression("zone", "In", "c")], False),
        ([expression("zone", "NotIn", "c")], True),
        ([expression("other", "NotIn", "c")], True),
        ([expression("zone", "Exists")], True),
        ([expression("zone", "DoesNotExist")], False),
        ([expression("cores", "Gt", "7")], True),
        ([expression("cores", "Gt", "8")], False),
        ([expression("cores", "Lt", "9")], True),
        ([expression("zone", "Lt", "9")], False),
        ([expression("zone", "In", "a"), expression("cores", "Gt", "8")], False),
    ],
)
def test_required_node_affinity(expressions: list[dict[str, Any]], fits: bool) -> None:
    node = make_node(labels={"zone": "a", "cores": "8"})
    pod = make_pod(affinity=required({"matchExpressions": expressions}))
    assert reasons(pod, node) == (() if fits else (AFFINITY,))


def test_one_matching_term_is_enough_and_an_empty_one_matches_nothing() -> None:
    node = make_node("here")
    by_name = {"matchFields": [expression("metadata.name", "In", "here")]}
    elsewhere = {"matchExpressions": [expression("zone", "Exists")]}
    assert reasons(make_pod(affinity=required(elsewhere, by_name)), node) == ()
    assert reasons(make_pod(affinity=required({})), node) == (AFFINITY,)


def chosen(pod: Pod, *nodes: NodeInfo) -> str:
    cycle = Cycle(PodInfo(pod), nodes)
    feasible, _ = find_feasible(cycle)
    node = select(cycle, feasible).node
    assert node is not None
    return node.metadata.name


def test_the_emptiest_node_wins() -> None:
    busy, idle = NodeInfo(make_node("busy")), NodeInfo(make_node("idle"))
    busy.add(PodInfo(make_pod(uid="a", requests={"cpu": "2"})))
    assert chosen(make_pod(), busy, idle) == "idle"
    assert chosen(make_pod(), idle, busy) == "idle"


def test_pods_that_request_nothing_spread_too() -> None:
    busy, idle = NodeInfo(make_node("busy")), NodeInfo(make_node("idle"))
    busy.add(PodInfo(make_pod(uid="a")))
    assert chosen(make_pod(), busy, idle) == "idle"


def test_preferred_node_affinity_outweighs_some_load() -> None:
    preferred = {"weight": 10, "preference": {"matchExpressions": [expression("disk", "In", "ssd")]}}
    pod = make_pod(affinity={"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [preferred]}})
    busy, idle = NodeInfo(make_node("busy", labels={"disk": "ssd"})), NodeInfo(make_node("idle"))
    busy.add(PodInfo(make_pod(uid="a", requests={"cpu": "1"})))
    assert chosen(pod, busy, idle) == "busy"


def test_taints_that_only_ask_for_it_keep_pods_away_while_there_are_others() -> None:
    tainted = NodeInfo(make_node("tainted", taints=[{"key": "x", "effect": "PreferNoSchedule"}]))
    busy = NodeInfo(make_node("busy"))
    busy.add(PodInfo(make_pod(uid="a", requests={"cpu": "3"})))
    assert chosen(make_pod(), tainted, busy) == "busy"
    assert chosen(make_pod(tolerations=[{"operator": "Exists"}]), tainted, busy) == "tainted"


amount = st.integers(0, 4000)


@given(st.lists(amount, max_size=6), amount, st.integers(0, 8000))
def test_a_pod_fits_exactly_if_the_sum_stays_within_allocatable(there: list[int], mine: int, room: int) -> None:
    others = [make_pod(requests={"cpu": f"{cpu}m"}) for cpu in there]
    fits = not reasons(make_pod(requests={"cpu": f"{mine}m"}), make_node(cpu=f"{room}m"), *others)
    assert fits == (mine == 0 or sum(there) + mine <= room)


@given(st.lists(st.tuples(amount, st.integers(1, 65535)), min_size=1, max_size=6), st.data())
def test_removing_pods_leaves_no_trace(there: list[tuple[int, int]], data: st.DataObject) -> None:
    info = NodeInfo(make_node())
    for number, (cpu, port) in enumerate(there):
        ports = [{"hostPort": port}]
        pod = make_pod(uid=str(number), containers=[container(ports=ports, resources=requests(cpu=f"{cpu}m"))])
        info.add(PodInfo(pod))
    for uid in data.draw(st.permutations(list(info.pods))):
        info.remove(uid)
    assert not info.host_ports
    assert not any(info.requested.values())
    assert (info.scored_cpu, info.scored_memory, info.pods) == (0, 0, {})


def message(pod: Pod, *nodes: NodeInfo) -> str:
    placement = place(PodInfo(pod), nodes)
    assert not placement.node
    assert placement.preempt is None
    return placement.message


def test_the_message_counts_nodes_by_reason() -> None:
    tainted = NodeInfo(make_node("c", taints=[{"key": "x", "effect": "NoSchedule"}]))
    full = [NodeInfo(make_node("a", cpu="2", memory="1Gi")), NodeInfo(make_node("b", cpu="2"))]
    for info in full:
        info.add(PodInfo(make_pod(uid="x", requests={"cpu": "1", "memory": "1Gi"})))
    assert message(make_pod(requests={"cpu": "2", "memory": "1Gi"}), *full, tainted) == (
        "0/3 nodes are available: 1 Insufficient memory, 1 node(s) had untolerated taint(s), 2 Insufficient cpu. "
        "preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, "
        "2 No preemption victims found for incoming pod."
    )


def test_the_message_of_a_pod_that_may_not_preempt() -> None:
    assert message(make_pod(preemptionPolicy="Never"), NodeInfo(make_node(pods="0"))) == (
        "0/1 nodes are available: 1 Too many pods. preemption: not eligible due to preemptionPolicy=Never."
    )


def test_the_message_without_any_node() -> None:
    assert message(make_pod()) == "no nodes available to schedule pods"


def test_a_request_above_the_nodes_capacity_is_beyond_preemption() -> None:
    assert message(make_pod(requests={"cpu": "3"}), NodeInfo(make_node(cpu="2"))) == (
        "0/1 nodes are available: 1 Insufficient cpu. "
        "preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
    )
