"""serviceaccounts/token: a token for a service account, bound to a Pod, Node or Secret if asked for."""

from __future__ import annotations

from typing import Any

from aiohttp.web import StreamResponse

from podling.api import codec, field, scheme, status, time
from podling.api.authentication.v1 import BoundObjectReference, TokenRequest, TokenRequestStatus
from podling.api.core.v1 import Node, Pod, Secret, ServiceAccount
from podling.apiserver import decoding, responses
from podling.apiserver.admission.chain import Operation
from podling.apiserver.call import Call
from podling.apiserver.tokens import Binding, Reference
from podling.apiserver.user import service_account_name
from podling.apiserver.verbs.create import check_namespace

_API_VERSION = "authentication.k8s.io/v1"
_SHORTEST, _LONGEST, _USUAL = 600, 1 << 32, 3600


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted(transform=False)
    request: TokenRequest = await decoding.read(call, TokenRequest, _API_VERSION, "TokenRequest")
    caller = call.caller()
    check_namespace(call, request)
    await call.registry.admit(
        Operation.CREATE, caller, namespace=call.namespace, name=call.info.name, obj=request, subresource="token"
    )
    account: ServiceAccount = call.registry.get(call.namespace, call.info.name)
    spec = request.spec
    seconds = _USUAL if spec.expiration_seconds is None else spec.expiration_seconds
    _check_duration(seconds)
    audiences = spec.audiences or [call.state.tokens.issuer]
    binding = _binding(call, account, spec.bound_object_ref)
    request.metadata.name, request.metadata.namespace = account.metadata.name, account.metadata.namespace
    request.metadata.creation_timestamp = time.now()
    spec.audiences, spec.expiration_seconds = audiences, seconds
    if not caller.dry_run:
        subject = service_account_name(account.metadata.namespace, account.metadata.name)
        token, claims = call.state.tokens.issue(subject=subject, audiences=audiences, seconds=seconds, binding=binding)
        request.status = TokenRequestStatus(token=token, expiration_timestamp=time.from_seconds(claims.exp))
    return await responses.send(call, codec.encode(request), code=201, media_type=accepted.media_type)


def _check_duration(seconds: int) -> None:
    path = "spec.expirationSeconds"
    problem = ""
    if seconds < _SHORTEST:
        problem = "may not specify a duration less than 10 minutes"
    elif seconds > _LONGEST:
        problem = "may not specify a duration larger than 2^32 seconds"
    if problem:
        raise status.invalid("TokenRequest.authentication.k8s.io", "", [field.invalid(path, seconds, problem)])


def _binding(call: Call, account: ServiceAccount, bound: BoundObjectReference | None) -> Binding:
    namespace = account.metadata.namespace
    own = Reference(account.metadata.name, account.metadata.uid)
    if bound is None:
        return Binding(namespace, own)
    if bound.api_version not in ("", "v1") or bound.kind not in ("Pod", "Secret", "Node"):
        group_version = bound.api_version or "v1"
        raise status.bad_request(f"cannot bind token to object of type {group_version}, Kind={bound.kind}")
    if bound.kind == "Pod":
        pod: Pod = _bound(call, Pod, namespace, bound)
        if pod.spec.service_account_name != account.metadata.name:
            text = (
                f'cannot bind token for serviceaccount "{own.name}" to pod running with different serviceaccount name.'
            )
            raise status.bad_request(text)
        node: Node | None = call.state.find(Node, "", pod.spec.node_name) if pod.spec.node_name else None
        node_reference = (
            Reference(pod.spec.node_name, node.metadata.uid if node else "") if pod.spec.node_name else None
        )
        return Binding(namespace, own, pod=_reference(pod), node=node_reference)
    if bound.kind == "Secret":
        return Binding(namespace, own, secret=_reference(_bound(call, Secret, namespace, bound)))
    return Binding(namespace, own, node=_reference(_bound(call, Node, "", bound)))


def _bound(call: Call, kind: type[Any], namespace: str, bound: BoundObjectReference) -> Any:
    found = call.state.find(kind, namespace, bound.name)
    resource = scheme.by_type(kind)
    if found is None:
        raise status.not_found(resource, bound.name)
    if bound.uid and bound.uid != found.metadata.uid:
        text = (
            f"the UID in the bound object reference ({bound.uid}) does not match the UID in record. "
            "The object might have been deleted and then recreated"
        )
        raise status.conflict(resource, bound.name, text)
    return found


def _reference(obj: Any) -> Reference:
    return Reference(obj.metadata.name, obj.metadata.uid)
