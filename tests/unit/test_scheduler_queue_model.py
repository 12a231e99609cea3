"""Whatever happens to the scheduling queue, no Pod is lost and none is given out twice at a time."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.objects import make_pod

from podling.api.core.v1 import Pod, PodSchedulingGate
from podling.scheduler.framework import ClusterEvent
from podling.scheduler.queue import Place, QueuedPod, SchedulingQueue

uids = st.sampled_from([f"pod-{number}" for number in range(6)])
events = st.sampled_from(list(ClusterEvent))


class QueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.queue = SchedulingQueue(lambda: self.now)
        self.there: dict[str, bool] = {}
        """Uid to whether gates hold it."""
        self.taken: dict[str, QueuedPod] = {}

    @rule(uid=uids, priority=st.integers(0, 2), gated=st.booleans())
    def put(self, uid: str, priority: int, gated: bool) -> None:
        # Gates can be removed, but not added.
        gated = gated and self.there.get(uid, True)
        pod: Pod = make_pod(uid, uid=uid, priority=priority)
        if gated:
            pod.spec.scheduling_gates = [PodSchedulingGate(name="example.com/gate")]
        self.queue.put(pod)
        self.there[uid] = gated

    @rule(uid=uids)
    def delete(self, uid: str) -> None:
        self.queue.delete(uid)
        self.there.pop(uid, None)
        self.taken.pop(uid, None)

    @rule()
    def pop(self) -> None:
        queued = self.queue.pop_ready()
        if queued is not None:
            uid = queued.info.uid
            assert self.there[uid] is False
            assert uid not in self.taken
            self.taken[uid] = queued

    @rule(helped_by=st.frozensets(events), data=st.data())
    def reject(self, helped_by: frozenset[ClusterEvent], data: st.DataObject) -> None:
        if self.taken:
            uid = data.draw(st.sampled_from(sorted(self.taken)))
            self.queue.reject(self.taken.pop(uid), helped_by)
            assert self.queue.place(uid) is Place.UNSCHEDULABLE

    @rule(data=st.data())
    def retry(self, data: st.DataObject) -> None:
        if self.taken:
            uid = data.draw(st.sampled_from(sorted(self.taken)))
            self.queue.retry(self.taken.pop(uid))
            assert self.queue.place(uid) is Place.DELAYED

    @rule(event=events)
    def notify(self, event: ClusterEvent) -> None:
        self.queue.notify(event)

    @rule(seconds=st.floats(0, 20))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def after_a_long_time_everyone_gets_a_turn(self) -> None:
        self.now += 301
        waiting = {uid for uid, gated in self.there.items() if not gated and uid not in self.taken}
        given: set[str] = set()
        while (queued := self.queue.pop_ready()) is not None:
            given.add(queued.info.uid)
            self.taken[queued.info.uid] = queued
        assert given == waiting

    @invariant()
    def the_queue_holds_exactly_what_was_put_and_not_deleted(self) -> None:
        assert len(self.queue) == len(self.there)
        for uid, gated in self.there.items():
            place = self.queue.place(uid)
            assert (place is Place.GATED) == gated
            assert (place is Place.TAKEN) == (uid in self.taken)


TestQueue = QueueMachine.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
