"""namespaces/finalize: whoever cleans up a namespace takes its finalizer out of spec.finalizers."""

from __future__ import annotations

from aiohttp.web import StreamResponse

from podling.api import codec, status
from podling.api.core.v1 import Namespace
from podling.api.validation import namespace as validation
from podling.apiserver import decoding, output
from podling.apiserver.call import Call
from podling.apiserver.verbs.update import check_identity


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    caller = call.caller()
    given: Namespace = await decoding.read_object(call, call.resource)
    check_identity(call, given)

    def change(namespace: Namespace) -> None:
        version, uid = given.metadata.resource_version, given.metadata.uid
        if (version and version != namespace.metadata.resource_version) or (uid and uid != namespace.metadata.uid):
            raise status.conflict(call.resource, call.info.name)
        old = codec.decode(Namespace, codec.encode(namespace))
        namespace.spec.finalizers = list(given.spec.finalizers)
        errors = validation.validate_finalize(namespace, old)
        if errors:
            raise status.invalid(call.resource, call.info.name, errors)

    result = await call.registry.modify("", call.info.name, change, caller)
    return await output.send_object(call, result.value, accepted)
