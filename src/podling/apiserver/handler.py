"""A request's way through the server: who is it, may they, what is it about, and what goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

from aiohttp.web import BaseRequest, StreamResponse
from multidict import MultiMapping

from podling.api import fields, go, scheme, status
from podling.api.core.v1 import Pod
from podling.api.fields import EVERYTHING
from podling.api.meta.v1 import ListMeta, Status, StatusDetails
from podling.api.scheme import Resource
from podling.apiserver import (
    list_body,
    negotiation,
    nonresource,
    not_implemented,
    parameters,
    responses,
    reviews,
    routing,
)
from podling.apiserver.authentication import impersonated
from podling.apiserver.authorization import Attributes, denial, is_public
from podling.apiserver.call import Call
from podling.apiserver.metrics import Key
from podling.apiserver.routing import RequestInfo
from podling.apiserver.state import State
from podling.apiserver.subresources import binding, eviction, finalize, log, token
from podling.apiserver.user import ANONYMOUS, LOCAL, User, node_user
from podling.apiserver.verbs import create, delete, get, list, patch, update, watch
from podling.kit.http_connection import Connection
from podling.store.protocol import StoreUnavailable

logger = logging.getLogger(__name__)

Handler = Callable[[Call], Awaitable[StreamResponse]]

_VERBS: dict[str, Handler] = {
    "get": get.handle,
    "list": list.handle,
    "watch": watch.handle,
    "create": create.handle,
    "update": update.handle,
    "patch": patch.handle,
    "delete": delete.handle,
    "deletecollection": delete.handle_collection,
}
_STATUS: dict[str, Handler] = {"get": get.handle, "update": update.handle, "patch": patch.handle}
_SUBRESOURCES: dict[tuple[str, str], dict[str, Handler]] = {
    ("namespaces", "finalize"): {"update": finalize.handle},
    ("pods", "binding"): {"create": binding.handle},
    ("pods", "eviction"): {"create": eviction.handle},
    ("pods", "log"): {"get": log.handle},
    ("serviceaccounts", "token"): {"create": token.handle},
}
_EMPTY_LISTS = {("apiextensions.k8s.io", "v1", "customresourcedefinitions"): "CustomResourceDefinitionList"}
"""What does not exist here, so that its list is empty: kubectl asks it before it says that a kind is unknown."""
_NAMED_VERBS = frozenset({"get", "update", "patch", "delete"})
"""Those about one object; the others are about a collection."""
_SELECTING_VERBS = frozenset({"list", "watch", "deletecollection"})
_COUNTED_VERBS = frozenset({*_VERBS, "head", "post", "put", "options"})
"""Those of resources, and the methods of other paths."""
_OTHER = "other"


class RequestHandler:
    """The handler of all listeners: `local` for the administrator's unix socket, `kubelet` for that of this machine's
    kubelet, `remote` for TLS."""

    def __init__(self, state: State, node: str) -> None:
        self._state = state
        self._node = node_user(node)

    async def local(self, request: BaseRequest) -> StreamResponse:
        return await self._handle(request, LOCAL)

    async def kubelet(self, request: BaseRequest) -> StreamResponse:
        return await self._handle(request, self._node)

    async def remote(self, request: BaseRequest) -> StreamResponse:
        return await self._handle(request, None)

    async def _handle(self, request: BaseRequest, user: User | None) -> StreamResponse:
        loop = asyncio.get_running_loop()
        started = loop.time()
        query = parameters.parse(request.rel_url.raw_query_string)
        info = routing.parse(request.method, request.rel_url.raw_path, query)
        try:
            response = await self._answer(request, info, query, user or self._authenticate(request))
        except ConnectionError:
            raise
        except Exception as error:
            response = _refused(request, query, error)
        seconds = -1.0 if _is_long_running(info) else loop.time() - started
        self._state.metrics.observe(_metrics_key(info), response.status, seconds)
        return response

    def _authenticate(self, request: BaseRequest) -> User:
        """By client certificate, else by token. Raises ApiError (401) for credentials that are not good."""
        connection = request.protocol
        assert isinstance(connection, Connection)
        if not connection.identified:
            if certificate := connection.certificate:
                connection.user = self._state.authenticator.by_certificate(certificate["subject"])
            connection.identified = True
        known: User | None = connection.user
        if known is not None:
            return known
        scheme_name, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme_name.lower() == "bearer" and credentials.strip():
            user = self._state.authenticator.by_token(credentials.strip())
            if user is None:
                raise status.unauthorized()
            connection.trust(user.name)
            return user
        return ANONYMOUS

    async def _answer(
        self, request: BaseRequest, info: RequestInfo, query: MultiMapping[str], user: User
    ) -> StreamResponse:
        if user is ANONYMOUS and info.is_resource:  # before anything that strangers send is read
            raise status.unauthorized()
        attributes = _attributes(info, query)
        if user is ANONYMOUS and not is_public(attributes):
            raise status.unauthorized()
        user = impersonated(user, request.headers, self._state.authorizer)
        decision = self._state.authorizer.authorize(user, attributes)
        if not decision.allowed:
            raise _forbidden(user, attributes, decision.reason)
        if not _is_long_running(info):
            _check_timeout(query)
        call = Call(request, info, query, user, self._state)
        if not info.is_resource:
            return await nonresource.handle(call)
        try:
            return await self._resource(call, info)
        except status.ApiError as error:
            error.warnings = (*call.warnings, *error.warnings)
            raise

    async def _resource(self, call: Call, info: RequestInfo) -> StreamResponse:
        review = reviews.HANDLERS.get((info.group, info.version, info.resource))
        if review is not None and not info.name:
            if info.verb != "create":
                raise _method_not_allowed()
            return await review(call)
        if (info.group, info.version, info.resource) == ("", "v1", "bindings") and info.verb == "create":
            self._route(call, scheme.by_type(Pod))
            return await binding.handle(call)
        if info.verb == "list" and (empty := _EMPTY_LISTS.get((info.group, info.version, info.resource))):
            metadata = ListMeta(resource_version=str(self._state.store.revision))
            return await responses.send(call, list_body.empty(empty, f"{info.group}/{info.version}", metadata))
        resource = scheme.by_plural(info.group, info.version, info.resource)
        if resource is None:
            raise not_implemented.refusal(info)
        if info.rest or (info.namespace and not _in_namespace(resource, info)):
            raise status.no_route()
        handler = _handler(resource, info)
        self._route(call, resource)
        if resource.deprecation:
            call.warnings.append(resource.deprecation)
        return await handler(call)

    def _route(self, call: Call, resource: Resource) -> None:
        call.resource = resource
        call.registry = self._state.registries[resource]


def _refused(request: BaseRequest, query: Mapping[str, str], error: Exception) -> StreamResponse:
    """Return the answer to a request that failed.

    A variable of the caller that holds the error would close a circle, for the error knows its caller: megabytes that were
    refused would stay until the garbage collector comes."""
    failure = _failure(request, error)
    for_people = negotiation.for_people(query, request.headers.get("User-Agent", ""))
    return responses.error(failure.status, failure.warnings, for_people=for_people)


def _failure(request: BaseRequest, error: Exception) -> status.ApiError:
    """Return what the client is told of an error."""
    if isinstance(error, status.ApiError):
        return error
    if isinstance(error, StoreUnavailable):
        return status.service_unavailable(str(error))
    if isinstance(error, RecursionError):
        return status.bad_request("the request is nested too deeply")
    logger.error("%s %s failed", request.method, request.path, exc_info=error)
    return status.internal("an unexpected error, see the server's log")


def _is_long_running(info: RequestInfo) -> bool:
    """Return whether the answer may go on for as long as the client likes."""
    return info.verb == "watch" or info.subresource == "log"


def _metrics_key(info: RequestInfo) -> Key:
    """What is served, and "other" for the rest: else strangers could fill the memory with words of their own."""
    verb = info.verb if info.verb in _COUNTED_VERBS else _OTHER
    if not info.is_resource:
        return verb, "", "", ""
    path = (info.group, info.version, info.resource)
    resource = scheme.by_plural(*path)
    if resource is None and path not in reviews.HANDLERS and path not in _EMPTY_LISTS:
        return verb, "", _OTHER, ""
    subresource = info.subresource
    served = not subresource or (resource is not None and resource.subresource(subresource) is not None)
    return verb, info.group, info.resource, subresource if served else _OTHER


def _in_namespace(resource: Resource, info: RequestInfo) -> bool:
    return resource.namespaced or resource.plural == "namespaces"


def _handler(resource: Resource, info: RequestInfo) -> Handler:
    """Raises ApiError (404, 405)."""
    if info.subresource:
        special = _SUBRESOURCES.get((resource.plural, info.subresource)) if not resource.group else None
        if special is None and info.subresource == "status" and resource.subresource("status") is not None:
            special = _STATUS
        if special is None:
            raise not_implemented.refusal(info)
        handler = special.get(info.verb)
    else:
        handler = _VERBS.get(info.verb) if info.verb in resource.verbs else None
        if info.verb != "watch" and bool(info.name) is not (info.verb in _NAMED_VERBS):
            handler = None
        if resource.namespaced and not info.namespace and info.verb not in ("list", "watch"):
            handler = None  # objects of all namespaces can only be looked at
    if handler is None:
        raise _method_not_allowed()
    return handler


def _attributes(info: RequestInfo, query: Mapping[str, str]) -> Attributes:
    if not info.is_resource:
        return Attributes(verb=info.verb, path=info.path)
    selector, name = EVERYTHING, info.name
    if info.verb in _SELECTING_VERBS and (text := query.get("fieldSelector")):
        with contextlib.suppress(ValueError):  # the verb itself refuses it, once it is known who asks
            selector = fields.parse(text)
        if info.verb != "deletecollection":
            name = name or selector.exact("metadata.name") or ""
    return Attributes(
        verb=info.verb,
        path=info.path,
        group=info.group,
        version=info.version,
        resource=info.resource,
        subresource=info.subresource,
        namespace=info.namespace,
        name=name,
        field_selector=selector,
    )


def _check_timeout(query: Mapping[str, str]) -> None:
    """Raise ApiError (400) unless the client's `timeout` is a duration. Only the client itself keeps to its value."""
    try:
        go.parse_duration(query.get("timeout") or "0")
    except ValueError as error:
        raise status.bad_request(f"invalid timeout specified in the request URL - {error}") from None


def _forbidden(user: User, attributes: Attributes, reason: str) -> status.ApiError:
    qualified = attributes.resource
    if attributes.resource and attributes.group:
        qualified = f"{attributes.resource}.{attributes.group}"
    return status.forbidden(qualified, attributes.name, denial(user, attributes, reason))


def _method_not_allowed() -> status.ApiError:
    message = "the server does not allow this method on the requested resource"
    return status.ApiError(
        Status(status="Failure", code=405, reason="MethodNotAllowed", message=message, details=StatusDetails())
    )
