"""Pods. Source: upstream pkg/registry/core/pod/strategy.go."""

from __future__ import annotations

from podling.api import resources, time
from podling.api.core.v1 import Pod, PodCondition, PodStatus
from podling.api.meta.v1 import DeleteOptions
from podling.apiserver.strategy import Strategy

_FINISHED = ("Succeeded", "Failed")


class PodStrategy(Strategy[Pod]):
    counts_generation = True
    returns_deleted = True

    def prepare_for_create(self, obj: Pod) -> None:
        obj.metadata.generation = 1
        obj.status = PodStatus(phase="Pending", qos_class=resources.qos_class(obj))
        if (obj.spec.termination_grace_period_seconds or 0) < 0:
            obj.spec.termination_grace_period_seconds = 1
        if obj.spec.scheduling_gates:
            obj.status.conditions.append(
                PodCondition(
                    type="PodScheduled",
                    status="False",
                    reason="SchedulingGated",
                    message="Scheduling is blocked due to non-empty scheduling gates",
                    last_transition_time=time.now(),
                )
            )

    def prepare_for_status_update(self, obj: Pod, old: Pod) -> None:
        obj.spec = old.spec
        obj.metadata.deletion_timestamp = ""
        obj.metadata.owner_references = old.metadata.owner_references
        obj.status.qos_class = obj.status.qos_class or old.status.qos_class
        _preserve_observed_generation(obj, old)

    def check_graceful_delete(self, obj: Pod, options: DeleteOptions) -> bool:
        period = options.grace_period_seconds
        if period is None:
            period = obj.spec.termination_grace_period_seconds or 0
        if not obj.spec.node_name or obj.status.phase in _FINISHED:
            period = 0
        options.grace_period_seconds = 1 if period < 0 else period
        return True


def _preserve_observed_generation(pod: Pod, old: Pod) -> None:
    """What a client that does not know observedGeneration left out."""
    pod.status.observed_generation = pod.status.observed_generation or old.status.observed_generation
    known = {condition.type: condition.observed_generation for condition in reversed(old.status.conditions)}
    for condition in pod.status.conditions:
        condition.observed_generation = condition.observed_generation or known.get(condition.type, 0)
