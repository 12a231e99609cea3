"""What a Pod's status says: readiness, initialization, times of transitions, ends of containers that never ran."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from podling.api import printers
from podling.api import time as times
from podling.api.core.v1 import Container, Pod, PodCondition, PodReadinessGate, PodSpec, PodStatus
from podling.api.meta.v1 import ObjectMeta
from podling.kubelet.pod_actions import IMAGE_ANNOTATION, SECOND, Records, Waiting
from podling.kubelet.pod_status import Observed, generate
from podling.runtime.protocol import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    SandboxMetadata,
    SandboxState,
    SandboxStatus,
)

NOW = 1_800_000_000
SIDE = Container(name="side", image="i", restart_policy="Always")
STEP = Container(name="step", image="i")
BOX = SandboxStatus(
    id="s", metadata=SandboxMetadata(name="p", namespace="d", uid="u"), state=SandboxState.READY, created_at=NOW
)


def pod(*names: str, init: tuple[Container, ...] = (), policy: str = "Always", **status: Any) -> Pod:
    containers = [Container(name=name, image="i") for name in names or ("main",)]
    return Pod(
        metadata=ObjectMeta(name="p", namespace="d", uid="u"),
        spec=PodSpec(restart_policy=policy, containers=containers, init_containers=list(init)),
        status=PodStatus(**status),
    )


def ran(name: str, exit_code: int | None = None, message: str = "") -> ContainerStatus:
    return ContainerStatus(
        id=name,
        sandbox_id="s",
        metadata=ContainerMetadata(name=name),
        state=ContainerState.RUNNING if exit_code is None else ContainerState.EXITED,
        created_at=NOW * SECOND,
        started_at=NOW * SECOND,
        finished_at=0 if exit_code is None else (NOW + 1) * SECOND,
        exit_code=exit_code or 0,
        message=message,
        annotations={IMAGE_ANNOTATION: "i"},
    )


def status(of: Pod, *containers: ContainerStatus, at: float = NOW, **seen: Any) -> PodStatus:
    return generate(of, Observed(records=Records.of([BOX], containers), **seen), at)


def condition(of: PodStatus, kind: str) -> PodCondition:
    (found,) = [each for each in of.conditions if each.type == kind]
    return found


def shown(of: Pod, found: PodStatus) -> str:
    """The STATUS column of kubectl get."""
    return str(printers.of(Pod).cells(Pod(metadata=of.metadata, spec=of.spec, status=found), NOW)[2])


def test_an_init_container_that_runs_has_not_initialized_the_pod() -> None:
    p = pod(init=(STEP,))
    found = status(p, ran("step"))
    assert not found.init_container_statuses[0].ready
    initialized = condition(found, "Initialized")
    assert (initialized.status, initialized.message) == ("False", "containers with incomplete status: [step]")
    assert condition(status(p, ran("step", 0)), "Initialized").status == "True"


def test_a_sidecar_that_runs_is_ready_and_lets_the_pod_be_initialized() -> None:
    found = status(pod(init=(SIDE,)), ran("side"))
    assert found.init_container_statuses[0].ready
    assert condition(found, "Initialized").status == "True"


def test_unready_containers_are_named_sidecars_first() -> None:
    found = status(pod("main", "aux", init=(SIDE,)))
    assert condition(found, "Ready").message == "containers with unready status: [side main aux]"


def test_readiness_gates_hold_the_pod_back() -> None:
    p = pod(conditions=[PodCondition(type="b", status="False")])
    p.spec.readiness_gates = [PodReadinessGate(condition_type="a"), PodReadinessGate(condition_type="b")]
    found = status(p, ran("main"))
    ready = condition(found, "Ready")
    assert (ready.status, ready.reason) == ("False", "ReadinessGatesNotReady")
    assert ready.message == (
        'corresponding condition of pod readiness gate "a" does not exist., '
        'the status of pod readiness gate "b" is not "True", but False'
    )
    assert condition(found, "ContainersReady").status == "True"
    assert condition(found, "b").status == "False"


def test_a_transition_keeps_its_time_while_the_api_does_not_know_of_it() -> None:
    p = pod()
    first = status(p, ran("main"), at=NOW)
    later = status(p, ran("main"), at=NOW + 60, before=first)
    assert later.conditions == first.conditions
    ended = status(p, ran("main", 1), at=NOW + 90, before=later)
    assert condition(ended, "Ready").last_transition_time == times.from_seconds(NOW + 90)
    assert condition(ended, "Initialized").last_transition_time == times.from_seconds(NOW)


def test_conditions_of_others_are_those_that_the_api_has() -> None:
    before = status(pod(conditions=[PodCondition(type="theirs", status="False")]), ran("main"))
    p = pod(conditions=[PodCondition(type="theirs", status="True")])
    assert condition(status(p, ran("main"), before=before), "theirs").status == "True"
    assert not [each for each in status(pod(), ran("main"), before=before).conditions if each.type == "theirs"]


def test_container_statuses_are_in_order_of_names() -> None:
    found = status(pod("b", "c", "a"), ran("c"))
    assert [each.name for each in found.container_statuses] == ["a", "b", "c"]


def test_a_container_that_never_ran_counts_as_failed_when_the_pod_has_ended() -> None:
    p = pod("a", "b")
    pull = {"b": Waiting("ImagePullBackOff", "no")}
    assert shown(p, status(p, ran("a"), waiting=pull)) == "ImagePullBackOff"
    found = status(p, ran("a", 0), ended=True)
    assert found.phase == "Failed"
    ended = found.container_statuses[1].state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    deadline = status(p, ended=True, phase="Failed", reason="DeadlineExceeded", before=PodStatus())
    assert shown(p, deadline) == "DeadlineExceeded"


def test_containers_wait_for_ever_in_a_pod_whose_init_phase_failed() -> None:
    p = pod(init=(STEP, Container(name="then", image="i")), policy="Never")
    found = status(p, ran("step", 3), ended=True)
    assert found.phase == "Failed"
    assert found.container_statuses[0].state.waiting is not None
    assert found.init_container_statuses[1].state.waiting is not None
    assert shown(p, found) == "Init:Error"
    # Deleted before anything ran.
    ended = status(p, ended=True, before=status(p)).init_container_statuses
    assert [each.state.terminated is not None for each in ended] == [True, False]


def test_an_init_container_that_may_not_restart_fails_the_pod() -> None:
    once = Container(name="once", image="i", restart_policy="Never")
    assert status(pod(init=(once,)), ran("once", 1)).phase == "Failed"
    assert status(pod(init=(STEP,)), ran("step", 1)).phase == "Pending"


def test_messages_of_the_runtime_and_of_the_container_share_their_room() -> None:
    long = {"a": "ö" * 4096, "b": "told"}
    found = status(pod("a", "b", "c", "d"), ran("a", 1), ran("b", 1, "runtime"), messages=long, ended=True)
    messages = [each.state.terminated.message for each in found.container_statuses[:2] if each.state.terminated]
    assert messages == ["ö" * 1536, "runtime: told"]


def test_a_pod_in_the_hosts_network_has_the_hosts_address_from_the_start() -> None:
    p = pod()
    p.spec.host_network = True
    found = generate(p, Observed(records=Records(None, {}), host_ip="192.0.2.7"), NOW)
    assert (found.pod_ip, [ip.ip for ip in found.pod_ips]) == ("192.0.2.7", ["192.0.2.7"])


def test_the_end_of_a_container_that_the_node_forgot_is_remembered() -> None:
    p = pod()
    p.status = status(p, ran("main"))
    lost = status(p, waiting={"main": Waiting("ContainerCreating")}).container_statuses[0]
    assert lost.last_state.terminated is not None
    assert lost.last_state.terminated.reason == "ContainerStatusUnknown"
    fresh = replace(ran("main"), id="fresh", metadata=ContainerMetadata(name="main", attempt=1))
    again = status(p, fresh)
    assert again.container_statuses[0].last_state == lost.last_state
    assert status(p, fresh, before=again).container_statuses[0].last_state == lost.last_state
