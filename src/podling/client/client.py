"""The typed HTTP client of the Kubernetes API, over a unix socket or TLS.

Kinds are named by their API type (`podling.api.core.v1.Pod`); paths come from `podling.api.scheme`. Every method raises
`ApiError` for an answer that is an error, `ConnectionFailed` where no answer came, and `codec.DecodeError` for one that is
not of the type.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket
import ssl
from collections.abc import AsyncGenerator, AsyncIterator
from enum import StrEnum
from typing import Any, Generic, Literal, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
import msgspec
from yarl import URL

from podling.api import codec, scheme
from podling.api.meta.v1 import ListMeta, Status
from podling.api.scheme import Resource
from podling.api.status import ApiError
from podling.client.objects import Object
from podling.kit import connection_error, document_error, file_error

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)
O = TypeVar("O", bound=msgspec.Struct)  # noqa: E741

PatchType = Literal["merge", "strategic", "json"]

_PATCH_TYPES: dict[str, str] = {
    "merge": "application/merge-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "json": "application/json-patch+json",
}

_TYPED = "?fieldValidation=Ignore"
"""What is encoded from a type has no unknown fields: the server need not look for them."""

_REQUEST_TIMEOUT = 60.0
_CONNECT_TIMEOUT = 10.0
_KEEPALIVE_TIMEOUT = 30.0
_REQUESTS_AT_ONCE = 32
"""More would only wait in the server, and a burst of connections overruns the queue of its socket. Watches come on top."""
_WATCH_SECONDS = (300, 600)
"""The server ends a watch after a time between these, as client-go asks for: spreads watches over servers."""


class ConnectionFailed(Exception):
    """The server was not reached, or the connection broke before the whole answer came."""


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Where the API server is and who asks. `socket`, the path of a unix socket, wins over the address in `server`."""

    server: str = "http://localhost"
    socket: str = ""
    ca: bytes = b""
    """PEM certificates of the authorities that may have signed the server's; empty: the system's."""
    cert_file: str = ""
    key_file: str = ""
    token: str = ""
    user_agent: str = "podling"


class EventType(StrEnum):
    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"


class WatchEvent(msgspec.Struct, Generic[T], frozen=True):
    """One change. The object of a BOOKMARK holds nothing but metadata.resource_version."""

    type: EventType
    object: T


class ListResult(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]
    resource_version: str
    """The version at which the list is true; a watch goes on from it."""
    continue_token: str = ""
    """Asks for the next page; empty at the end."""
    unreadable: tuple[str, ...] = ()
    """Why objects that are not of the type are missing among the items: they cost the others nothing."""


class _Items(msgspec.Struct):
    """A list of whatever kind. Objects are decoded one by one, since `codec` knows how to mend API types only."""

    metadata: ListMeta = msgspec.field(default_factory=ListMeta)
    items: list[msgspec.Raw] | None = None
    """None: Go's null for a list of none."""


class _Frame(msgspec.Struct):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


_decode_items = msgspec.json.Decoder(_Items).decode
_decode_line = msgspec.json.Decoder(_Frame).decode


class Client:
    """A pool of keep-alive connections to one API server. Use within one event loop; `close()` it."""

    def __init__(self, config: ClientConfig) -> None:
        self.config = config
        self._base = config.server.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._turns = asyncio.Semaphore(_REQUESTS_AT_ONCE)
        self._away = False
        self._back = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    # -- one object

    async def get(self, type: type[T], name: str, namespace: str = "") -> T:
        return codec.decode(type, await self.request("GET", _path(type, namespace, name)))

    async def create(self, obj: T, namespace: str = "") -> T:
        """`namespace` defaults to the object's own."""
        path = _path(type(obj), namespace or obj.metadata.namespace, "") + _TYPED
        return codec.decode(type(obj), await self.request("POST", path, body=codec.encode(obj)))

    async def create_subresource(
        self, type: type[T], name: str, namespace: str, subresource: str, obj: O
    ) -> O | Status:
        """Posts e.g. a Binding to pods/binding. The answer is an object of the same kind, or a Status where the server
        answers with one."""
        path = _path(type, namespace, name, subresource) + _TYPED
        answer = await self.request("POST", path, body=codec.encode(obj))
        if b'"kind":"Status"' in answer[:256]:
            return codec.decode(Status, answer)
        return codec.decode(obj.__class__, answer)

    async def update(self, obj: T, subresource: str = "") -> T:
        path = _path(type(obj), obj.metadata.namespace, obj.metadata.name, subresource) + _TYPED
        return codec.decode(type(obj), await self.request("PUT", path, body=codec.encode(obj)))

    async def patch(
        self,
        type: type[T],
        name: str,
        namespace: str,
        patch: object,
        *,
        content_type: PatchType = "merge",
        subresource: str = "",
    ) -> T:
        """`patch` is plain dicts, lists (for a JSON patch) or API structs."""
        answer = await self.request(
            "PATCH",
            _path(type, namespace, name, subresource) + _TYPED,
            body=codec.encode(patch),
            content_type=_PATCH_TYPES[content_type],
        )
        return codec.decode(type, answer)

    async def delete(
        self,
        type: type[T],
        name: str,
        namespace: str = "",
        *,
        grace_period_seconds: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None:
        """`uid` and `resource_version` are preconditions (409 Conflict if they do not hold); `propagation` is
        Background, Foreground or Orphan."""
        options: dict[str, object] = {"kind": "DeleteOptions", "apiVersion": "v1"}
        preconditions = {k: v for k, v in (("uid", uid), ("resourceVersion", resource_version)) if v}
        if preconditions:
            options["preconditions"] = preconditions
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        if propagation:
            options["propagationPolicy"] = propagation
        await self.request("DELETE", _path(type, namespace, name), body=msgspec.json.encode(options))

    # -- collections

    async def list(
        self,
        type: type[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        resource_version: str = "",
        continue_token: str = "",
        resource: Resource | None = None,
    ) -> ListResult[T]:
        """Objects of one namespace, or of all. With `limit`, one page: go on with its `continue_token`.

        `resource` is needed where the type is not that of the scheme, but one that decodes less of each object."""
        params = _params(
            labelSelector=label_selector,
            fieldSelector=field_selector,
            limit=str(limit) if limit else "",
            resourceVersion=resource_version,
            **{"continue": continue_token},
        )
        path = (resource or scheme.by_type(type)).path(namespace)
        try:
            result = _decode_items(await self.request("GET", path + params))
        except msgspec.DecodeError as error:
            raise codec.DecodeError(f"a list of {type.__name__} is expected: {document_error.reason(error)}") from error
        items: list[T] = []
        unreadable: list[str] = []
        for item in result.items or ():
            try:
                items.append(codec.decode(type, item))
            except codec.DecodeError as error:
                unreadable.append(f"{_name(item)}: {error}")
        return ListResult(items, result.metadata.resource_version, result.metadata.continue_, tuple(unreadable))

    async def delete_collection(
        self, type: type[T], namespace: str = "", *, label_selector: str = "", field_selector: str = ""
    ) -> None:
        params = _params(labelSelector=label_selector, fieldSelector=field_selector)
        await self.request("DELETE", _path(type, namespace, "") + params)

    async def watch(
        self,
        type: type[T],
        namespace: str = "",
        *,
        resource_version: str = "",
        label_selector: str = "",
        field_selector: str = "",
        bookmarks: bool = True,
        resource: Resource | None = None,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        """Changes after `resource_version`, until the server ends the watch (after some minutes).

        Raises ApiError with code 410 when the history does not reach back that far. Close it (`contextlib.aclosing`)
        when leaving early.
        """
        seconds = random.randint(*_WATCH_SECONDS)
        params = _params(
            watch="1",
            timeoutSeconds=str(seconds),
            resourceVersion=resource_version,
            labelSelector=label_selector,
            fieldSelector=field_selector,
            allowWatchBookmarks="true" if bookmarks else "",
        )
        url = self._base + (resource or scheme.by_type(type)).path(namespace) + params
        timeout = aiohttp.ClientTimeout(total=seconds + 30, sock_connect=_CONNECT_TIMEOUT)
        async with self._connection_errors(), self._open().get(URL(url, encoded=True), timeout=timeout) as response:
            if response.status >= 400:
                raise _api_error(response.status, await response.read())
            self._note_answer()
            _probe_dead_peers(response)
            rest = b""
            async for chunk in response.content.iter_any():
                lines = (rest + chunk).split(b"\n")
                rest = lines.pop()
                for line in lines:
                    if line:
                        yield _decode_frame(type, line)

    # -- below the types

    async def request(
        self, method: str, path: str, *, body: bytes | None = None, content_type: str = "application/json"
    ) -> bytes:
        """One exchange; `path` includes the query. Raises ApiError for a status of 400 and above."""
        headers = {"Content-Type": content_type} if body is not None else None
        async with (
            self._turns,
            self._connection_errors(),
            self._open().request(method, URL(self._base + path, encoded=True), data=body, headers=headers) as response,
        ):
            answer = await response.read()
        self._note_answer()
        if response.status >= 400:
            raise _api_error(response.status, answer)
        return answer

    async def recovered(self, delay: float) -> None:
        """Waits for `delay` seconds, or less if the server is away and meanwhile answers some other request: whoever
        finds it back wakes the others."""
        if not self._away:
            await asyncio.sleep(delay)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._back.wait()
                await asyncio.sleep(random.uniform(0.01, 0.05))

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            config = self.config
            connector: aiohttp.BaseConnector
            if config.socket:
                connector = aiohttp.UnixConnector(config.socket, limit=0, keepalive_timeout=_KEEPALIVE_TIMEOUT)
            else:
                context = _ssl_context(config) if self._base.startswith("https:") else True
                connector = aiohttp.TCPConnector(limit=0, ssl=context, keepalive_timeout=_KEEPALIVE_TIMEOUT)
            headers = {"User-Agent": config.user_agent, "Accept": "application/json", "Accept-Encoding": "identity"}
            if config.token:
                headers["Authorization"] = f"Bearer {config.token}"
            self._session = aiohttp.ClientSession(
                connector=connector,
                headers=headers,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT, sock_connect=_CONNECT_TIMEOUT),
            )
        return self._session

    @contextlib.asynccontextmanager
    async def _connection_errors(self) -> AsyncIterator[None]:
        try:
            yield
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            text = connection_error.reason(error)
            if not self._away:
                self._away = True
                self._back.clear()
                log.warning("the API server at %s is away: %s", self.config.socket or self._base, text)
            raise ConnectionFailed(f"the API server at {self.config.socket or self._base} is away: {text}") from error

    def _note_answer(self) -> None:
        if self._away:
            self._away = False
            self._back.set()
            log.info("the API server at %s is back", self.config.socket or self._base)


def _path(type: type[Any], namespace: str, name: str, subresource: str = "") -> str:
    return scheme.by_type(type).path(namespace, name, subresource)


def _name(item: msgspec.Raw) -> str:
    """Namespace and name of an object that is not of the expected type, as far as it tells them."""
    try:
        metadata = msgspec.json.decode(item)["metadata"]
        return f"{metadata.get('namespace', '')}/{metadata['name']}".lstrip("/")
    except (msgspec.DecodeError, LookupError, TypeError, AttributeError):
        return "an object without a name"


def _params(**values: str) -> str:
    given = {key: value for key, value in values.items() if value}
    return "?" + urlencode(given) if given else ""


def _api_error(code: int, answer: bytes) -> ApiError:
    try:
        status = codec.decode(Status, answer)
    except codec.DecodeError:
        status = Status()
    if status.kind != "Status" or not status.status:
        message = answer.decode("utf-8", "replace").strip() or f"the server answered with HTTP status {code}"
        status = Status(status="Failure", reason="", message=message, code=code)
    return ApiError(status)


def _decode_frame(type: type[T], line: bytes) -> WatchEvent[T]:
    try:
        frame = _decode_line(line)
        kind = None if frame.type == "ERROR" else EventType(frame.type)
    except (msgspec.DecodeError, ValueError) as error:
        raise codec.DecodeError(f"a watch event is expected: {document_error.reason(error)}") from error
    if kind is None:
        raise ApiError(codec.decode(Status, frame.object))
    return WatchEvent(kind, codec.decode(type, frame.object))


def _ssl_context(config: ClientConfig) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=config.ca.decode() if config.ca else None)
    except (ValueError, ssl.SSLError):
        raise ConnectionFailed("the certificates of the API server's authorities are not PEM") from None
    if config.cert_file:
        try:
            context.load_cert_chain(config.cert_file, config.key_file)
        except ssl.SSLError:
            text = f"{config.cert_file} and {config.key_file} are not a certificate and its key in PEM"
            raise ConnectionFailed(text) from None
        except OSError as error:
            raise ConnectionFailed(f"{config.cert_file} or {config.key_file}: {file_error.reason(error)}") from None
    return context


def _probe_dead_peers(response: aiohttp.ClientResponse) -> None:
    """A watch may be silent for minutes: have the kernel find out within 45 s that the peer is gone."""
    transport = response.connection.transport if response.connection else None
    sock = transport.get_extra_info("socket") if transport else None
    if sock is None or sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
