"""pods/eviction: a deletion that disruption budgets can forbid. Source: upstream pkg/registry/core/pod/storage."""

from __future__ import annotations

from aiohttp.web import StreamResponse

from podling.api import codec, labels, status, time
from podling.api.core.v1 import Pod
from podling.api.meta.v1 import DeleteOptions, Preconditions, Status, StatusCause
from podling.api.policy.v1 import Eviction, PodDisruptionBudget
from podling.apiserver import decoding, responses, write_options
from podling.apiserver.admission.chain import Operation
from podling.apiserver.call import Call
from podling.apiserver.verbs.create import check_namespace

_FINISHED = ("Succeeded", "Failed")


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted(transform=False)
    eviction: Eviction = await decoding.read(call, Eviction, "policy/v1", "Eviction")
    check_namespace(call, eviction)
    name = call.info.name
    if eviction.metadata.name and eviction.metadata.name != name:
        raise status.bad_request("name in URL does not match name in Eviction object")
    options = eviction.delete_options or DeleteOptions()
    caller = call.caller(dry_run=bool(options.dry_run))
    await call.registry.admit(
        Operation.CREATE, caller, namespace=call.namespace, name=name, obj=eviction, subresource="eviction"
    )
    pod: Pod = call.registry.get(call.namespace, name)
    write_options.check_delete(options)
    budget = None if _needs_no_budget(pod) else await _budget_of(call, pod)
    if budget is not None:
        # Only the Pod that the budget was asked for may go.
        options.preconditions = options.preconditions or Preconditions()
        options.preconditions.uid = options.preconditions.uid or pod.metadata.uid
        await call.state.registry(PodDisruptionBudget).modify(
            call.namespace, budget.metadata.name, lambda current: _disrupt(current, pod), caller
        )
    await call.registry.delete(call.namespace, name, options, caller)
    answer = codec.encode(Status(status="Success", code=201))
    return await responses.send(call, answer, code=201, media_type=accepted.media_type)


def _needs_no_budget(pod: Pod) -> bool:
    return pod.status.phase in (*_FINISHED, "Pending") or bool(pod.metadata.deletion_timestamp)


async def _budget_of(call: Call, pod: Pod) -> PodDisruptionBudget | None:
    """The Pod's budget. Raises ApiError (500) for several."""
    found = [
        budget
        for budget in await call.state.list_all(PodDisruptionBudget, pod.metadata.namespace)
        if labels.from_struct(budget.spec.selector).matches(pod.metadata.labels)
    ]
    if len(found) > 1:
        text = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
        raise status.internal(text)
    return found[0] if found else None


def _disrupt(budget: PodDisruptionBudget, pod: Pod) -> None:
    """Counts the disruption. Raises ApiError (429, 403) where the budget does not allow it."""
    state, name = budget.status, budget.metadata.name
    if state.observed_generation < budget.metadata.generation:
        raise _refused(f"The disruption budget {name} is still being processed by the server.", 10)
    allowed = state.disruptions_allowed or 0
    if allowed <= 0:
        need = f"needs {state.desired_healthy or 0} healthy pods and has {state.current_healthy or 0} currently"
        raise _refused(f"The disruption budget {name} {need}", 0)
    state.disruptions_allowed = allowed - 1
    state.disrupted_pods[pod.metadata.name] = time.now()


def _refused(cause: str, retry_after: int) -> status.ApiError:
    error = status.too_many_requests("Cannot evict pod as it would violate the pod's disruption budget.", retry_after)
    if error.status.details is not None:
        error.status.details.causes.append(StatusCause(reason="DisruptionBudget", message=cause))
    return error
