"""From a Service's ports and the Pods it selects to the subsets of its Endpoints."""

from __future__ import annotations

from typing import Any

from tests.support.objects import make_pod

from podling.api import codec
from podling.api.core.v1 import Pod, Service
from podling.controllers.endpoints import subsets


def service(*ports: dict[str, Any], **spec: Any) -> Service:
    document = {"metadata": {"name": "web"}, "spec": {"clusterIP": "10.96.0.9", "ports": list(ports), **spec}}
    return codec.convert(document, Service)


def pod(name: str, ip: str, *, ready: bool = True, phase: str = "Running", ports: Any = (), **spec: Any) -> Pod:
    conditions = [{"type": "Ready", "status": str(ready)}]
    containers = [{"name": "c", "image": "i", "ports": list(ports)}]
    status = {"podIP": ip, "phase": phase, "conditions": conditions}
    return make_pod(name, uid=name, status=status, containers=containers, **spec)


def shown(service: Service, *pods: Pod) -> list[tuple[list[str], list[str], list[tuple[str, int]]]]:
    return [
        (
            [a.ip for a in subset.addresses],
            [a.ip for a in subset.not_ready_addresses],
            [(port.name, port.port) for port in subset.ports],
        )
        for subset in subsets(service, list(pods))
    ]


def test_ready_and_other_pods_are_kept_apart_in_the_order_of_their_addresses() -> None:
    pods = [pod("a", "10.244.0.10"), pod("b", "10.244.0.9"), pod("c", "10.244.0.8", ready=False)]
    assert shown(service({"port": 80}), *pods) == [(["10.244.0.9", "10.244.0.10"], ["10.244.0.8"], [("", 80)])]


def test_pods_without_address_finished_or_being_deleted_are_left_out() -> None:
    going = pod("d", "10.244.0.4")
    going.metadata.deletion_timestamp = "2026-01-01T00:00:00Z"
    finished = [pod("b", "10.244.0.2", phase="Succeeded"), pod("c", "10.244.0.3", phase="Failed")]
    assert shown(service({"port": 80}), pod("a", ""), *finished, going) == []


def test_published_not_ready_addresses_count_as_ready() -> None:
    published = service({"port": 80}, publishNotReadyAddresses=True)
    assert shown(published, pod("a", "10.244.0.1", ready=False)) == [(["10.244.0.1"], [], [("", 80)])]


def test_named_target_ports_are_looked_up_in_each_pod() -> None:
    named = service({"name": "http", "port": 80, "targetPort": "web"}, {"name": "m", "port": 9, "targetPort": 9090})
    pods = [
        pod("a", "10.244.0.1", ports=[{"name": "web", "containerPort": 8080}]),
        pod("b", "10.244.0.2", ports=[{"name": "web", "containerPort": 8081}]),
        pod("c", "10.244.0.3"),
    ]
    assert shown(named, *pods) == [
        (["10.244.0.1"], [], [("http", 8080), ("m", 9090)]),
        (["10.244.0.2"], [], [("http", 8081), ("m", 9090)]),
        (["10.244.0.3"], [], [("m", 9090)]),
    ]


def test_a_headless_service_without_ports_has_addresses_only() -> None:
    assert shown(service(clusterIP="None"), pod("a", "10.244.0.1")) == [(["10.244.0.1"], [], [])]
    assert shown(service(), pod("a", "10.244.0.1")) == []


def test_addresses_name_their_pod_and_its_host_name_in_the_services_domain() -> None:
    inside = pod("a", "10.244.0.1", hostname="first", subdomain="web", nodeName="node-1")
    outside = pod("b", "10.244.0.2", hostname="second", subdomain="other")
    first, second = subsets(service({"port": 80}), [inside, outside])[0].addresses
    assert (first.hostname, second.hostname) == ("first", "")
    assert first.node_name == "node-1"
    assert first.target_ref is not None
    assert (first.target_ref.kind, first.target_ref.name, first.target_ref.uid) == ("Pod", "a", "a")
