"""The order in which Pods get their attempts."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st
from tests.support.objects import make_pod

from podling.api.core.v1 import Pod, PodSchedulingGate
from podling.scheduler.framework import ClusterEvent
from podling.scheduler.queue import Place, QueuedPod, SchedulingQueue

FREED = frozenset({ClusterEvent.POD_REMOVED})


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def queue_of(*pods: Pod) -> tuple[SchedulingQueue, Clock]:
    clock = Clock()
    queue = SchedulingQueue(clock)
    for pod in pods:
        queue.put(pod)
    return queue, clock


def pod(name: str, priority: int = 0) -> Pod:
    return make_pod(name, uid=name, priority=priority)


def names(queue: SchedulingQueue) -> list[str]:
    found = []
    while (queued := queue.pop_ready()) is not None:
        found.append(queued.pod.metadata.name)
    return found


def take(queue: SchedulingQueue) -> QueuedPod:
    queued = queue.pop_ready()
    assert queued is not None
    return queued


def test_higher_priority_first_then_first_come() -> None:
    queue, _ = queue_of(pod("a"), pod("b", 10), pod("c"), pod("d", 10))
    assert names(queue) == ["b", "d", "a", "c"]


@given(st.lists(st.integers(-5, 5), max_size=20))
def test_the_order_is_that_of_a_stable_sort(priorities: list[int]) -> None:
    queue, _ = queue_of(*(pod(str(number), priority) for number, priority in enumerate(priorities)))
    expected = sorted(range(len(priorities)), key=lambda number: -priorities[number])
    assert names(queue) == [str(number) for number in expected]


def test_a_rejected_pod_waits_for_an_event_that_helps() -> None:
    queue, _ = queue_of(pod("a"))
    queue.reject(take(queue), FREED)
    queue.notify(ClusterEvent.NODE_LABELS)
    assert names(queue) == []
    queue.notify(ClusterEvent.POD_REMOVED)
    assert names(queue) == ["a"]


def test_a_pod_that_failed_just_now_yields_to_the_others_only() -> None:
    queue, _ = queue_of(pod("a", 10))
    queue.reject(take(queue), FREED)
    queue.notify(ClusterEvent.POD_REMOVED)
    queue.put(pod("b"))
    assert names(queue) == ["b", "a"]


def test_after_its_back_off_a_pod_has_its_rank_again() -> None:
    queue, clock = queue_of(pod("a", 10))
    queue.reject(take(queue), FREED)
    queue.notify(ClusterEvent.POD_REMOVED)
    queue.put(pod("b"))
    clock.now += 1
    assert names(queue) == ["a", "b"]


def test_back_off_grows_with_the_attempts() -> None:
    queue, clock = queue_of(pod("a"))
    delays = []
    for _ in range(6):
        queued = take(queue)
        queue.retry(queued)
        delays.append(queued.backoff_until - clock.now)
        clock.now = queued.backoff_until
    assert delays == [1, 2, 4, 8, 10, 10]


def test_a_delayed_pod_is_not_given_out_early() -> None:
    queue, clock = queue_of(pod("a"))
    queue.retry(take(queue))
    clock.now += 0.999
    assert names(queue) == []
    clock.now += 0.001
    assert names(queue) == ["a"]


def test_a_pod_nobody_helps_is_tried_again_after_five_minutes() -> None:
    queue, clock = queue_of(pod("a"))
    queue.reject(take(queue), FREED)
    clock.now += 299
    assert names(queue) == []
    clock.now += 1
    assert names(queue) == ["a"]


def test_gates_hold_a_pod_until_the_last_is_removed() -> None:
    gated = pod("a")
    gated.spec.scheduling_gates = [PodSchedulingGate(name="example.com/wait")]
    queue, _ = queue_of(gated)
    assert queue.place("a") is Place.GATED
    queue.notify(ClusterEvent.NODE_ADDED)
    assert names(queue) == []
    queue.put(pod("a"))
    assert names(queue) == ["a"]


def test_a_changed_spec_wakes_a_rejected_pod_and_a_changed_status_does_not() -> None:
    queue, _ = queue_of(pod("a"))
    queue.reject(take(queue), FREED)
    changed = pod("a")
    changed.status.message = "x"
    queue.put(changed)
    assert queue.place("a") is Place.UNSCHEDULABLE
    changed = pod("a")
    changed.spec.node_selector = {"a": "b"}
    queue.put(changed)
    assert names(queue) == ["a"]


def test_a_deleted_pod_is_never_given_out() -> None:
    queue, _ = queue_of(pod("a"), pod("b"))
    taken = take(queue)
    queue.delete("a")
    queue.delete("b")
    queue.retry(taken)
    queue.reject(taken, FREED)
    queue.notify(ClusterEvent.POD_REMOVED)
    assert names(queue) == []
    assert len(queue) == 0


def test_pop_wakes_up_for_a_new_pod() -> None:
    async def scenario() -> str:
        queue = SchedulingQueue()
        waiting = asyncio.create_task(queue.pop())
        await asyncio.sleep(0)
        queue.put(pod("late"))
        return (await asyncio.wait_for(waiting, 1)).pod.metadata.name

    assert asyncio.run(scenario()) == "late"
