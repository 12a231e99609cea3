"""What `kubectl get` shows."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import codec, printers, scheme
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import (
    ConfigMap,
    Endpoints,
    Event,
    Namespace,
    Node,
    Pod,
    Secret,
    Service,
    ServiceAccount,
)
from podling.api.events.v1 import Event as NewEvent
from podling.api.policy.v1 import PodDisruptionBudget
from podling.api.time import to_seconds

NOW = to_seconds("2026-01-01T00:05:03Z")
META = {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}


def row(type_: type[Any], document: dict[str, Any]) -> dict[str, Any]:
    printer = printers.of(type_)
    obj = codec.convert({"metadata": META, **document}, type_)
    cells = printer.row(obj, NOW).cells
    assert len(cells) == len(printer.columns)
    return {column.name: cell for column, cell in zip(printer.columns, cells, strict=True)}


def terminated(code: int, reason: str = "", **more: Any) -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": reason, **more}}


def waiting(reason: str) -> dict[str, Any]:
    return {"waiting": {"reason": reason}}


RUNNING: dict[str, Any] = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


def container(state: dict[str, Any], *, ready: bool = False, restarts: int = 0, **more: Any) -> dict[str, Any]:
    return {"name": "c", "state": state, "ready": ready, "restartCount": restarts, **more}


def pod(
    phase: str,
    *containers: dict[str, Any],
    init: tuple[dict[str, Any], ...] = (),
    sidecars: tuple[str, ...] = (),
    init_count: int = 0,
    metadata: dict[str, Any] | None = None,
    conditions: dict[str, str] | None = None,
    **status: Any,
) -> dict[str, Any]:
    init_containers: list[dict[str, Any]] = [{"name": name, "restartPolicy": "Always"} for name in sidecars]
    init_containers += [{"name": f"i{i}"} for i in range(init_count)]
    return {
        "metadata": {**META, **(metadata or {})},
        "spec": {"containers": [{"name": "c"}] * max(len(containers), 1), "initContainers": init_containers},
        "status": {
            "phase": phase,
            "containerStatuses": list(containers),
            "initContainerStatuses": list(init),
            "conditions": [{"type": type, "status": value} for type, value in (conditions or {}).items()],
            **status,
        },
    }


DELETED = {"deletionTimestamp": "2026-01-01T00:04:00Z"}
READY = container(RUNNING, ready=True)


@pytest.mark.parametrize(
    ("document", "ready", "status"),
    [
        (pod("Pending"), "0/1", "Pending"),
        (pod("Pending", container(waiting("ContainerCreating"))), "0/1", "ContainerCreating"),
        (pod("Pending", container(waiting("ImagePullBackOff"))), "0/1", "ImagePullBackOff"),
        (pod("Running", READY), "1/1", "Running"),
        (pod("Running", container(RUNNING)), "0/1", "Running"),
        (pod("Running", READY, container(waiting("CrashLoopBackOff"))), "1/2", "CrashLoopBackOff"),
        (pod("Succeeded", container(terminated(0, "Completed"))), "0/1", "Completed"),
        (pod("Failed", container(terminated(1, "Error"))), "0/1", "Error"),
        (pod("Failed", container(terminated(137, "OOMKilled"))), "0/1", "OOMKilled"),
        (pod("Failed", container(terminated(3))), "0/1", "ExitCode:3"),
        (pod("Failed", container(terminated(137, signal=9))), "0/1", "Signal:9"),
        (pod("Failed", reason="Evicted"), "0/1", "Evicted"),
        (
            pod("Running", container(terminated(0, "Completed")), READY, conditions={"Ready": "True"}),
            "1/2",
            "Running",
        ),
        (pod("Running", container(terminated(0, "Completed")), READY), "1/2", "NotReady"),
        (pod("Running", READY, metadata=DELETED), "1/1", "Terminating"),
        (pod("Succeeded", container(terminated(0, "Completed")), metadata=DELETED), "0/1", "Completed"),
        (pod("Running", READY, metadata=DELETED, reason="NodeLost"), "1/1", "Unknown"),
        (pod("Pending", init=(container(waiting("PodInitializing")),), init_count=2), "0/1", "Init:0/2"),
        (
            pod("Pending", init=(container(terminated(0, "Completed")), container(RUNNING)), init_count=2),
            "0/1",
            "Init:1/2",
        ),
        (pod("Pending", init=(container(waiting("ErrImagePull")),), init_count=1), "0/1", "Init:ErrImagePull"),
        (pod("Pending", init=(container(terminated(1, "Error")),), init_count=1), "0/1", "Init:Error"),
        (pod("Pending", init=(container(terminated(2)),), init_count=1), "0/1", "Init:ExitCode:2"),
        (pod("Pending", init=(container(terminated(2, signal=15)),), init_count=1), "0/1", "Init:Signal:15"),
        (
            pod(
                "Pending",
                container(waiting("PodInitializing")),
                init=(container(terminated(0, "Completed")),),
                init_count=1,
            ),
            "0/1",
            "PodInitializing",
        ),
        (
            pod("Running", READY, init=(container(RUNNING, ready=True, name="s", started=True),), sidecars=("s",)),
            "2/2",
            "Running",
        ),
        (
            pod("Pending", init=(container(RUNNING, name="s", started=False),), sidecars=("s",)),
            "0/2",
            "Init:0/1",
        ),
    ],
)
def test_a_pod_shows_what_keeps_it(document: dict[str, Any], ready: str, status: str) -> None:
    cells = row(Pod, document)
    assert (cells["Ready"], cells["Status"]) == (ready, status)


def test_a_gated_pod_says_so() -> None:
    document = pod("Pending")
    document["status"]["conditions"] = [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]
    assert row(Pod, document)["Status"] == "SchedulingGated"


def test_restarts_say_when_the_last_one_was() -> None:
    ended: dict[str, Any] = {"lastState": terminated(1, finishedAt="2026-01-01T00:04:58Z")}
    assert row(Pod, pod("Running", container(RUNNING, ready=True, restarts=2, **ended)))["Restarts"] == "2 (5s ago)"
    assert row(Pod, pod("Running", container(RUNNING, ready=True, restarts=2)))["Restarts"] == "2"
    earlier: dict[str, Any] = {"lastState": terminated(1, finishedAt="2026-01-01T00:00:03Z")}
    document = pod("Running", container(RUNNING, restarts=1, **ended), container(RUNNING, restarts=1, **earlier))
    assert row(Pod, document)["Restarts"] == "2 (5s ago)"


def test_restarts_are_those_of_init_containers_while_these_run_and_of_sidecars_later() -> None:
    init = container(RUNNING, restarts=3)
    assert row(Pod, pod("Pending", init=(init,), init_count=1))["Restarts"] == "3"
    done = container(terminated(0, "Completed"), restarts=3)
    assert row(Pod, pod("Running", READY, init=(done,), init_count=1))["Restarts"] == "0"
    sidecar = container(RUNNING, ready=True, restarts=4, name="s", started=True)
    assert row(Pod, pod("Running", READY, init=(sidecar,), sidecars=("s",)))["Restarts"] == "4"


def test_a_pod_shows_where_it_is() -> None:
    document = pod("Running", READY, podIP="10.0.0.1", podIPs=[{"ip": "10.0.0.1"}, {"ip": "fd00::1"}])
    document["spec"] |= {"nodeName": "n", "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}]}
    document["status"]["conditions"] = [{"type": "a", "status": "True"}, {"type": "b", "status": "False"}]
    cells = row(Pod, document)
    assert [cells[name] for name in ("IP", "Node", "Nominated Node", "Readiness Gates")] == [
        "10.0.0.1",
        "n",
        "<none>",
        "1/2",
    ]
    assert cells["Age"] == "5m3s"
    assert [column.name for column in printers.of(Pod).columns if column.priority] == [
        "IP",
        "Node",
        "Nominated Node",
        "Readiness Gates",
    ]


def test_a_finished_pod_is_marked_as_completed() -> None:
    done = codec.convert(pod("Succeeded"), Pod)
    conditions = printers.of(Pod).row(done, NOW).conditions
    assert [(item.type, item.status, item.reason) for item in conditions] == [("Completed", "True", "Succeeded")]
    assert printers.of(Pod).row(codec.convert(pod("Running"), Pod), NOW).conditions == []


def test_a_node_shows_its_condition_roles_and_system() -> None:
    document = {
        "metadata": {**META, "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge"}},
        "spec": {"unschedulable": True},
        "status": {
            "conditions": [{"type": "Ready", "status": "Unknown"}],
            "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "10.0.0.1"}],
            "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1"},
        },
    }
    assert list(row(Node, document).values()) == [
        "x",
        "NotReady,SchedulingDisabled",
        "edge,worker",
        "5m3s",
        "v1.36.0",
        "10.0.0.1",
        "<none>",
        "<unknown>",
        "6.1",
        "<unknown>",
    ]
    assert row(Node, {})["Status"] == "Unknown"


@pytest.mark.parametrize(
    ("spec", "status", "cells"),
    [
        (
            {"type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "ports": [{"port": 80, "protocol": "TCP"}]},
            {},
            ["ClusterIP", "10.96.0.1", "<none>", "80/TCP", "5m3s", "<none>"],
        ),
        (
            {
                "type": "NodePort",
                "clusterIPs": ["10.96.0.1"],
                "externalIPs": ["1.2.3.4"],
                "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                "selector": {"b": "2", "a": "1"},
            },
            {},
            ["NodePort", "10.96.0.1", "1.2.3.4", "80:30080/TCP,53/UDP", "5m3s", "a=1,b=2"],
        ),
        ({"type": "LoadBalancer"}, {}, ["LoadBalancer", "<none>", "<pending>", "<none>", "5m3s", "<none>"]),
        (
            {"type": "LoadBalancer", "externalIPs": ["9.9.9.9"]},
            {"loadBalancer": {"ingress": [{"ip": "2.2.2.2"}, {"hostname": "h"}]}},
            ["LoadBalancer", "<none>", "2.2.2.2,h,9.9.9.9", "<none>", "5m3s", "<none>"],
        ),
        (
            {"type": "ExternalName", "externalName": "example.com"},
            {},
            ["ExternalName", "<none>", "example.com", "<none>", "5m3s", "<none>"],
        ),
    ],
)
def test_a_service_shows_how_it_is_reached(spec: dict[str, Any], status: dict[str, Any], cells: list[str]) -> None:
    assert list(row(Service, {"spec": spec, "status": status}).values())[1:] == cells


def test_endpoints_show_the_first_three_addresses() -> None:
    addresses = [{"ip": f"10.0.0.{i}"} for i in range(1, 5)]
    document = {"subsets": [{"addresses": addresses, "ports": [{"port": 80}]}, {"addresses": [{"ip": "fd00::1"}]}]}
    assert row(Endpoints, document)["Endpoints"] == "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    assert row(Endpoints, {"subsets": [{"addresses": [{"ip": "fd00::1"}], "ports": [{"port": 80}]}]})["Endpoints"] == (
        "[fd00::1]:80"
    )
    assert row(Endpoints, {})["Endpoints"] == "<none>"


def test_an_event_shows_what_happened_to_whom() -> None:
    document = {
        "type": "Warning",
        "reason": "BackOff",
        "message": " back-off \n",
        "involvedObject": {"kind": "Pod", "name": "p", "fieldPath": "spec.containers{c}"},
        "source": {"component": "kubelet", "host": "n"},
        "firstTimestamp": "2026-01-01T00:00:03Z",
        "lastTimestamp": "2026-01-01T00:05:00Z",
        "count": 7,
    }
    assert list(row(Event, document).values()) == [
        "3s",
        "Warning",
        "BackOff",
        "pod/p",
        "spec.containers{c}",
        "kubelet, n",
        "back-off",
        "5m",
        7,
        "x",
    ]


def test_both_event_apis_show_a_series_alike() -> None:
    observed = {"lastObservedTime": "2026-01-01T00:05:01.000000Z", "count": 5}
    shared = {"eventTime": "2026-01-01T00:00:03.000000Z", "series": observed, "reason": "r", "type": "Normal"}
    old = {"involvedObject": {"kind": "Pod"}, "message": "m", "reportingComponent": "c", **shared}
    new = {"regarding": {"kind": "Pod"}, "note": "m", "reportingController": "c", **shared}
    cells = row(Event, old)
    assert row(NewEvent, new) == cells
    assert [cells[name] for name in ("Last Seen", "First Seen", "Count", "Source", "Object")] == [
        "2s",
        "5m",
        5,
        "c",
        "pod",
    ]


def test_small_kinds_show_their_counts() -> None:
    assert list(row(ConfigMap, {"data": {"a": "1"}, "binaryData": {"b": ""}}).values()) == ["x", 2, "5m3s"]
    assert list(row(Secret, {"type": "Opaque", "data": {"a": ""}}).values()) == ["x", "Opaque", 1, "5m3s"]
    assert list(row(ServiceAccount, {}).values()) == ["x", 0, "5m3s"]
    assert list(row(Namespace, {"status": {"phase": "Active"}}).values()) == ["x", "Active", "5m3s"]
    assert list(row(Lease, {"spec": {"holderIdentity": "me"}}).values()) == ["x", "me", "5m3s"]
    assert list(row(PodDisruptionBudget, {}).values()) == ["x", "5m3s"]


def test_an_unknown_time_is_shown_as_such() -> None:
    assert printers.age("", NOW) == "<unknown>"
    assert printers.age("2026-02-30T00:00:00Z", NOW) == "<unknown>"


def test_every_served_kind_has_columns_of_its_own() -> None:
    for resource in scheme.RESOURCES:
        assert printers.of(resource.type) is not printers.of(PodDisruptionBudget), resource.kind
