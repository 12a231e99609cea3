"""What happens next for a Pod: restart policies, back-off, init containers, sidecars, lost sandboxes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.core.v1 import Container, Pod, PodSpec
from podling.api.meta.v1 import ObjectMeta
from podling.kubelet.pod_actions import (
    BACKOFF_ANNOTATION,
    IMAGE_ANNOTATION,
    SECOND,
    Actions,
    Records,
    compute,
    next_backoff,
)
from podling.kubelet.pod_status import Observed, generate
from podling.runtime.protocol import (
    ContainerMetadata,
    ContainerState,
    ContainerStatus,
    SandboxMetadata,
    SandboxState,
    SandboxStatus,
)

NOW = 1_800_000_000 * SECOND


def pod(policy: str = "Always", names: tuple[str, ...] = ("main",), init: tuple[Container, ...] = ()) -> Pod:
    return Pod(
        metadata=ObjectMeta(name="p", namespace="d", uid="u"),
        spec=PodSpec(
            restart_policy=policy,
            containers=[Container(name=name, image="i") for name in names],
            init_containers=list(init),
        ),
    )


def sandbox(state: SandboxState = SandboxState.READY, attempt: int = 0) -> SandboxStatus:
    metadata = SandboxMetadata(name="p", namespace="d", uid="u", attempt=attempt)
    return SandboxStatus(id=f"s{attempt}", metadata=metadata, state=state, created_at=NOW, ips=["10.0.0.2"])


def container(
    name: str = "main",
    exit_code: int | None = None,
    attempt: int = 0,
    backoff: int = 0,
    ran: int = 1,
    ago: int = 0,
    sandbox_id: str = "s0",
    image: str = "i",
) -> ContainerStatus:
    ended = exit_code is not None
    return ContainerStatus(
        id=f"{name}{attempt}",
        sandbox_id=sandbox_id,
        metadata=ContainerMetadata(name=name, attempt=attempt),
        state=ContainerState.EXITED if ended else ContainerState.RUNNING,
        created_at=NOW - (ago + ran) * SECOND,
        started_at=NOW - (ago + ran) * SECOND,
        finished_at=NOW - ago * SECOND if ended else 0,
        exit_code=exit_code or 0,
        annotations={IMAGE_ANNOTATION: image, BACKOFF_ANNOTATION: str(backoff)},
    )


def actions(pod: Pod, *containers: ContainerStatus, box: SandboxStatus | None = None, now: int = NOW) -> Actions:
    return compute(pod, Records.of([box or sandbox()], containers), {}, now)


def started(found: Actions) -> list[str]:
    return [start.container.name for start in found.start]


def test_a_new_pod_gets_a_sandbox_first() -> None:
    found = compute(pod(), Records(None, {}), {}, NOW)
    assert found.create_sandbox
    assert found.sandbox_attempt == 0
    assert not found.start


def test_all_containers_of_a_new_sandbox_are_started_in_order() -> None:
    assert started(actions(pod(names=("a", "b", "c")))) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("policy", "exit_code", "again"),
    [
        ("Always", 0, True),
        ("OnFailure", 0, False),
        ("Never", 0, False),
        ("Always", 1, True),
        ("OnFailure", 1, True),
        ("Never", 1, False),
        ("Always", 137, True),
        ("OnFailure", 137, True),
        ("Never", 137, False),
    ],
)
def test_restart_policy_of_one_container(policy: str, exit_code: int, again: bool) -> None:
    found = actions(pod(policy), container(exit_code=exit_code))
    assert started(found) == (["main"] if again else [])
    assert found.done is not again


def test_a_pod_is_not_done_while_one_container_runs() -> None:
    found = actions(pod("Never", ("a", "b")), container("a", exit_code=1), container("b"))
    assert not found.start
    assert not found.done


def test_the_first_restart_is_at_once_and_the_second_after_ten_seconds() -> None:
    first = actions(pod(), container(exit_code=1))
    assert [(s.attempt, s.backoff) for s in first.start] == [(1, 10)]
    second = actions(pod(), container(exit_code=1, attempt=1, backoff=10, ago=3))
    assert not second.start
    waiting = second.waiting["main"]
    assert waiting.reason == "CrashLoopBackOff"
    assert waiting.message == "back-off 10s restarting failed container=main pod=p_d(u)"
    assert second.wake_at == NOW + 7 * SECOND
    third = actions(pod(), container(exit_code=1, attempt=1, backoff=10, ago=10))
    assert [(s.attempt, s.backoff) for s in third.start] == [(2, 20)]


def test_back_off_doubles_to_five_minutes_and_ends_after_ten_good_minutes() -> None:
    delays = [0]
    while len(delays) < 8:
        delays.append(next_backoff(delays[-1]))
    assert delays == [0, 10, 20, 40, 80, 160, 300, 300]
    found = actions(pod(), container(exit_code=1, attempt=9, backoff=300, ran=600))
    assert [(s.attempt, s.backoff) for s in found.start] == [(10, 10)]


def test_init_containers_run_one_after_the_other() -> None:
    init = (Container(name="one", image="i"), Container(name="two", image="i"))
    p = pod(init=init)
    assert started(actions(p)) == ["one"]
    assert started(actions(p, container("one"))) == []
    assert started(actions(p, container("one", 0))) == ["two"]
    assert started(actions(p, container("one", 0), container("two", 0))) == ["main"]


def test_a_failed_init_container_ends_a_pod_that_never_restarts() -> None:
    init = (Container(name="one", image="i"),)
    assert actions(pod("Never", init=init), container("one", 1)).done
    assert started(actions(pod("Always", init=init), container("one", 1))) == ["one"]


def test_a_sidecar_lets_the_next_one_start_and_is_restarted_after_its_exit() -> None:
    init = (Container(name="side", image="i", restart_policy="Always"), Container(name="one", image="i"))
    p = pod("Never", init=init)
    assert started(actions(p)) == ["side"]
    assert started(actions(p, container("side"))) == ["one"]
    assert started(actions(p, container("side"), container("one", 0))) == ["main"]
    assert started(actions(p, container("side", 0), container("one", 0), container("main"))) == ["side"]


def test_a_pod_is_done_though_its_sidecar_runs() -> None:
    p = pod("Never", init=(Container(name="side", image="i", restart_policy="Always"),))
    assert actions(p, container("side"), container("main", 0)).done


def test_init_containers_run_again_in_a_new_sandbox() -> None:
    init = (Container(name="one", image="i"),)
    found = actions(pod(init=init), container("one", 0), container("main", 255), box=sandbox(attempt=1))
    assert [(s.container.name, s.attempt) for s in found.start] == [("one", 1)]


@pytest.mark.parametrize(
    ("policy", "exit_code", "done"), [("Never", 1, True), ("OnFailure", 0, True), ("Always", 0, False)]
)
def test_a_pod_that_had_ended_needs_no_new_sandbox(policy: str, exit_code: int, done: bool) -> None:
    found = actions(pod(policy), container(exit_code=exit_code), box=sandbox(SandboxState.NOT_READY))
    assert (found.done, found.create_sandbox) == (done, not done)


def test_a_changed_image_stops_the_container_and_starts_it_again_whatever_the_policy() -> None:
    running = actions(pod("Never"), container(image="old"))
    assert [kill.message for kill in running.kill] == ["Container main definition changed, will be restarted"]
    stopped = actions(pod("Never"), container(exit_code=0, image="old"))
    assert started(stopped) == ["main"]
    assert stopped.waiting["main"].reason == "ContainerCreating"


@pytest.mark.parametrize(("policy", "again"), [("Never", []), ("OnFailure", []), ("Always", ["main"])])
def test_a_new_image_does_not_start_what_had_ended_before(policy: str, again: list[str]) -> None:
    p, ended = pod(policy), container(exit_code=0, image="old")
    p.status = generate(p, Observed(records=Records.of([sandbox()], [ended]), ended=True), NOW / SECOND)
    assert started(actions(p, ended)) == again


def test_the_count_of_lost_records_is_kept() -> None:
    found = compute(pod(), Records.of([sandbox()], []), {"main": 4}, NOW)
    assert [s.attempt for s in found.start] == [4]


@given(
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.lists(st.sampled_from([None, 0, 1, 137]), min_size=1, max_size=4),
)
def test_done_is_exactly_what_the_phase_says(policy: str, exits: list[int | None]) -> None:
    names = tuple(f"c{index}" for index in range(len(exits)))
    p = pod(policy, names)
    held = [container(name, exit_code) for name, exit_code in zip(names, exits, strict=True)]
    records = Records.of([sandbox()], held)
    found = compute(p, records, {}, NOW)
    phase = generate(p, Observed(records=records, ended=found.done), NOW / SECOND).phase
    final = {
        "Always": False,
        "OnFailure": all(code == 0 for code in exits),
        "Never": all(code is not None for code in exits),
    }[policy]
    assert found.done is final
    assert phase == (("Succeeded" if all(code == 0 for code in exits) else "Failed") if final else "Running")


def test_another_image_does_not_wait_for_the_back_off_of_the_old_one() -> None:
    found = actions(pod(), container(exit_code=1, attempt=4, backoff=160, image="old"))
    assert [(s.attempt, s.backoff) for s in found.start] == [(5, 10)]


def test_a_changed_image_stops_a_sidecar_and_spares_an_init_container_that_runs() -> None:
    side = Container(name="side", image="i", restart_policy="Always")
    running = actions(pod(init=(side,)), container("side", image="old"), container("main"))
    assert [kill.message for kill in running.kill] == ["Init container side definition changed"]
    assert not actions(pod(init=(Container(name="one", image="i"),)), container("one", image="old")).kill


def test_back_off_does_not_outlast_a_clock_that_was_set_back() -> None:
    late = actions(pod(), container(exit_code=1, attempt=1, backoff=10, ago=-86400))
    assert started(late) == ["main"]


def test_an_init_containers_own_restart_policy_wins() -> None:
    once = Container(name="one", image="i", restart_policy="Never")
    assert actions(pod("Always", init=(once,)), container("one", 1)).done
    again = Container(name="one", image="i", restart_policy="OnFailure")
    assert started(actions(pod("Never", init=(again,)), container("one", 1))) == ["one"]
