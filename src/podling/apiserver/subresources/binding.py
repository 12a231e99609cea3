"""pods/binding and bindings: a scheduler puts a Pod on a node. Source: upstream pkg/registry/core/pod/storage."""

from __future__ import annotations

from aiohttp.web import StreamResponse

from podling.api import codec, status, time, validation
from podling.api.core.v1 import Binding, Pod, PodCondition
from podling.api.meta.v1 import Status
from podling.apiserver import decoding, responses
from podling.apiserver.call import Call
from podling.apiserver.verbs.create import check_namespace

_RESOURCE = "pods/binding"


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted(transform=False)
    binding: Binding = await decoding.read(call, Binding, "v1", "Binding")
    caller = call.caller()
    check_namespace(call, binding)
    name = call.info.name or binding.metadata.name
    if binding.metadata.name and binding.metadata.name != name:
        raise status.bad_request("name in URL does not match name in Binding object")
    binding.metadata.name = name
    if errors := validation.validate_binding(binding):
        raise status.invalid("Binding", name, errors)
    pods = call.state.registry(Pod)
    await pods.modify(call.info.namespace, name, lambda pod: _bind(pod, binding), caller)
    answer = codec.encode(Status(status="Success", code=201))
    return await responses.send(call, answer, code=201, media_type=accepted.media_type)


def _bind(pod: Pod, binding: Binding) -> None:
    """Raises ApiError (409) where the Pod cannot be bound."""
    name, uid = pod.metadata.name, binding.metadata.uid
    if uid and uid != pod.metadata.uid:
        raise _conflict(
            name, f"Precondition failed: UID in precondition: {uid}, UID in object meta: {pod.metadata.uid}"
        )
    version = binding.metadata.resource_version
    if version and version != pod.metadata.resource_version:
        text = (
            f"Precondition failed: ResourceVersion in precondition: {version}, "
            f"ResourceVersion in object meta: {pod.metadata.resource_version}"
        )
        raise _conflict(name, text)
    if pod.metadata.deletion_timestamp:
        raise _conflict(name, f"pod {name} is being deleted, cannot be assigned to a host")
    if pod.spec.node_name:
        raise _conflict(name, f'pod {name} is already assigned to node "{pod.spec.node_name}"')
    if pod.spec.scheduling_gates:
        raise _conflict(name, f"pod {name} has non-empty .spec.schedulingGates")
    pod.spec.node_name = binding.target.name
    pod.metadata.annotations.update(binding.metadata.annotations)
    pod.metadata.labels.update(binding.metadata.labels)
    pod.status.nominated_node_name = ""
    scheduled = PodCondition(
        type="PodScheduled",
        status="True",
        last_transition_time=time.now(),
        observed_generation=pod.metadata.generation,
    )
    others = [condition for condition in pod.status.conditions if condition.type != "PodScheduled"]
    pod.status.conditions = [*others, scheduled]


def _conflict(name: str, reason: str) -> status.ApiError:
    return status.conflict(_RESOURCE, name, reason)
