"""pods/log: the log of a container, streamed from its kubelet. Source: upstream pkg/registry/core/pod (LogLocation)."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import logging
from collections.abc import Mapping

from aiohttp import ClientError, ClientPayloadError, ClientResponse
from aiohttp.web import StreamResponse

from podling.api import codec, coerce, field, scheme, status
from podling.api.core.v1 import Node, Pod
from podling.api.field import FieldError
from podling.api.meta.v1 import Status, StatusDetails
from podling.apiserver import parameters, responses
from podling.apiserver.call import Call
from podling.apiserver.kubelet_client import Endpoint
from podling.kit import connection_error
from podling.kit.http_connection import cancelled_with_connection

log = logging.getLogger(__name__)

_BOOLEANS = ("follow", "previous", "timestamps")
_NUMBERS = ("sinceSeconds", "tailLines", "limitBytes")
_ALL = "All"
_STREAMS = (_ALL, "Stderr", "Stdout")
_POSITIVE = "must be greater than 0"
_MAX_ERROR = 4096
_CHUNK = 64 << 10


async def handle(call: Call) -> StreamResponse:
    query = _options(call.query, call.info.name)
    pod: Pod = call.registry.get(call.namespace, call.info.name)
    container = _container(pod, call.query.get("container", ""))
    if not pod.spec.node_name:
        # Nothing runs yet, so there is nothing to show; upstream answers with an empty page, too.
        return responses.text("")
    node: Node | None = call.state.find(Node, "", pod.spec.node_name)
    if node is None:
        raise status.not_found(scheme.by_type(Node), pod.spec.node_name)
    path = f"/containerLogs/{call.namespace}/{pod.metadata.name}/{container}"
    async with call.state.kubelets.get(Endpoint.of(node), path, query) as answer:
        if not 200 <= answer.status <= 206:
            raise await _error(call, answer)
        return await _stream(call, answer)


async def _stream(call: Call, answer: ClientResponse) -> StreamResponse:
    response = StreamResponse(headers={"Content-Type": "text/plain", "Cache-Control": "no-cache, private"})
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    with contextlib.suppress(TimeoutError), cancelled_with_connection(call.request):
        async with asyncio.timeout(None) as timeout:
            call.state.streams.add(timeout)
            try:
                async for chunk in answer.content.iter_chunked(_CHUNK):
                    await response.write(chunk)
            except (ClientError, ClientPayloadError) as error:
                # The status line is gone; ending without the last chunk tells the client that this is not all.
                log.warning(
                    "log of %s/%s broke off: %s", call.namespace, call.info.name, connection_error.reason(error)
                )
                raise ConnectionResetError("the kubelet's answer broke off") from error
            finally:
                call.state.streams.discard(timeout)
    await response.write_eof()
    return response


def _options(query: Mapping[str, str], pod: str) -> dict[str, str]:
    """The kubelet's query from the client's: PodLogOptions. Raises ApiError (400, 422)."""
    numbers = {name: parameters.integer(query, name) for name in _NUMBERS}
    since = _since(query.get("sinceTime", ""))
    stream = query.get("stream", _ALL)
    errors = _number_errors(numbers)
    if numbers["sinceSeconds"] is not None and "sinceTime" in query:
        errors.append(field.forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified"))
    elif numbers["sinceSeconds"] is not None and numbers["sinceSeconds"] < 1:
        errors.append(field.invalid("sinceSeconds", numbers["sinceSeconds"], _POSITIVE))
    if stream not in _STREAMS:
        errors.append(field.not_supported("stream", stream, _STREAMS))
    if stream != _ALL and numbers["tailLines"] is not None:
        errors.append(field.forbidden("", "`tailLines` and specific `stream` are mutually exclusive for now"))
    if errors:
        raise status.invalid("PodLogOptions", pod, errors)
    found = {name: str(number) for name, number in numbers.items() if number is not None}
    found |= {name: "true" for name in _BOOLEANS if parameters.flag(query, name)}
    if since:
        found["sinceTime"] = since
    if stream != _ALL:
        found["stream"] = stream
    return found


def _number_errors(numbers: Mapping[str, int | None]) -> list[FieldError]:
    errors: list[FieldError] = []
    lines, size = numbers["tailLines"], numbers["limitBytes"]
    if lines is not None and lines < 0:
        errors.append(field.invalid("tailLines", lines, "must be greater than or equal to 0"))
    if size is not None and size < 1:
        errors.append(field.invalid("limitBytes", size, _POSITIVE))
    return errors


def _since(text: str) -> str:
    """Return the time in UTC and whole seconds, or "" for none; old clients send "null". Raises ApiError (400)."""
    try:
        return coerce.to_utc(text) if text not in ("", "null") else ""
    except codec.DecodeError as error:
        raise status.bad_request(str(error)) from None


def _container(pod: Pod, name: str) -> str:
    """The container asked for, or the only one. Raises ApiError (400)."""
    spec = pod.spec
    names = [item.name for item in spec.init_containers]
    names += [item.name for item in spec.containers]
    names += [item.name for item in spec.ephemeral_containers]
    if name:
        if name not in names:
            raise status.bad_request(f"container {name} is not valid for pod {pod.metadata.name}")
        return name
    if len(spec.containers) == 1:
        return spec.containers[0].name
    text = f"a container name must be specified for pod {pod.metadata.name}"
    if spec.containers:
        text += f", choose one of: [{' '.join(names)}]"
    raise status.bad_request(text)


_REASONS = {400: "BadRequest", 403: "Forbidden", 404: "NotFound", 429: "TooManyRequests", 500: "InternalError"}


async def _error(call: Call, answer: ClientResponse) -> status.ApiError:
    """The kubelet's refusal as the client's: the code, if it is one of an error, and the body as message."""
    code = answer.status if answer.status >= 400 else 500
    text = (await answer.content.read(_MAX_ERROR)).decode(errors="replace").strip()
    details = StatusDetails(name=call.info.name, kind="pods")
    reason = _REASONS.get(code, "")
    return status.ApiError(
        Status(
            status="Failure",
            code=code,
            reason=reason,
            message=text or http.client.responses.get(code, ""),
            details=details,
        )
    )
