"""Priority: a Pod's priority comes from its PriorityClass. Source: upstream plugin/pkg/admission/priority.

The two system classes always exist. Other classes are looked up once the scheme serves PriorityClasses.
"""

from __future__ import annotations

from podling.api.core.v1 import Pod
from podling.api.scheduling.v1 import PriorityClass
from podling.apiserver.admission.chain import ListAll, Lookup, Operation, Review, refuse

SYSTEM_CLASSES = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
_PREEMPT = "PreemptLowerPriority"


class Priority:
    def __init__(self, lookup: Lookup, list_all: ListAll) -> None:
        self._lookup = lookup
        self._list_all = list_all

    async def admit(self, review: Review) -> None:
        if review.subresource:
            return
        if review.resource.type is Pod:
            if review.operation is Operation.CREATE:
                await self._admit_pod(review, review.obj)
            elif review.operation is Operation.UPDATE:
                _keep(review.obj, review.old)
        elif review.resource.type is PriorityClass and review.operation in (Operation.CREATE, Operation.UPDATE):
            await self._check_class(review, review.obj)

    async def _admit_pod(self, review: Review, pod: Pod) -> None:
        spec = pod.spec
        value, policy = await self._resolve(review, pod)
        if spec.priority is not None and spec.priority != value:
            raise refuse(
                review,
                f"the integer value of priority ({spec.priority}) must not be provided in pod spec; "
                f"priority admission controller computed {value} from the given PriorityClass name",
            )
        if spec.preemption_policy and spec.preemption_policy != policy:
            raise refuse(
                review,
                f"the string value of PreemptionPolicy ({spec.preemption_policy}) must not be provided in pod spec; "
                f"priority admission controller computed {policy} from the given PriorityClass name",
            )
        spec.priority, spec.preemption_policy = value, policy

    async def _resolve(self, review: Review, pod: Pod) -> tuple[int, str]:
        """Priority and preemption policy of the Pod's class, else of the default class. Sets the latter's name."""
        name = pod.spec.priority_class_name
        if not name:
            default = await self._default()
            if default is None:
                return 0, _PREEMPT
            pod.spec.priority_class_name = default.metadata.name
            return default.value or 0, default.preemption_policy or _PREEMPT
        if name in SYSTEM_CLASSES:
            return SYSTEM_CLASSES[name], _PREEMPT
        found: PriorityClass | None = self._lookup(PriorityClass, "", name)
        if found is None:
            raise refuse(review, f"no PriorityClass with name {name} was found")
        return found.value or 0, found.preemption_policy or _PREEMPT

    async def _default(self) -> PriorityClass | None:
        classes: list[PriorityClass] = await self._list_all(PriorityClass)
        return min((item for item in classes if item.global_default), key=lambda item: item.value or 0, default=None)

    async def _check_class(self, review: Review, new: PriorityClass) -> None:
        if not new.global_default:
            return
        default = await self._default()
        if default is not None and (review.operation is Operation.CREATE or default.metadata.name != new.metadata.name):
            name = default.metadata.name
            raise refuse(review, f"PriorityClass {name} is already marked as default. Only one default can exist")


def _keep(pod: Pod, old: Pod) -> None:
    """Updates by clients that do not know these fields leave them alone."""
    if pod.spec.priority is None:
        pod.spec.priority = old.spec.priority
    pod.spec.preemption_policy = pod.spec.preemption_policy or old.spec.preemption_policy
