"""The server side of an HTTP connection, the same for the API server and the agent: aiohttp's, with limits.

What a client may cost is bounded before anybody knows who it is:
- Nothing is unpacked. A body is what was sent; whether a Content-Encoding is understood is for the handler to say, once it
  knows that the client may send a body at all.
- The head of a request is at most MAX_HEAD bytes. Of a body that the handler did not read at most MAX_UNREAD bytes are read
  and thrown away, so that the client, which may still be sending, sees the answer; then the connection ends.
- A client that does not read its answers gets no further ones (aiohttp sees to it), and is not waited for.
Strangers have limits of their own (podling.kit.strangers), and so has everybody who shows credentials: every Pod may hold a
token, so that credentials alone must not open connections without number.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

from aiohttp import StreamReader
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestPayloadError, Server, StreamResponse
from aiohttp.web_protocol import ERROR, RequestHandler

from podling.kit.places import Place, Places
from podling.kit.strangers import Stranger

MAX_LINE: Final = 64 << 10
"""Bytes of a request line or of one header: selectors of controllers can be long."""
MAX_HEAD: Final = 256 << 10
"""Bytes of all of them."""
MAX_UNREAD: Final = 4 << 20
"""Bytes of an unread body. Clients that send a body of the size allowed before they look for an answer get one."""
IDLE: Final = 90.0
"""Seconds that a connection stays open between requests (upstream's IdleTimeout)."""
_LINGER: Final = 2.0
"""Seconds that an unread body is read."""
_UNREAD_ANSWER: Final = 60.0
"""Seconds that a client may leave an answer unread, as far as the buffers do not take it."""

MOST_KNOWN: Final = 4096
"""Connections with credentials at a time, of which one user has a quarter."""
_SHARE_OF_DESCRIPTORS: Final = 2
"""One in so many descriptors is for them; the others are for files, strangers and local sockets."""

Handler = Callable[[BaseRequest], Awaitable[StreamResponse]]


class Connection(RequestHandler):
    """One connection. The handler calls `trust` once it has accepted credentials."""

    __slots__ = (
        "_answering",
        "_body",
        "_known",
        "_place",
        "_stranger",
        "_surplus",
        "_unread",
        "identified",
        "stream",
        "user",
    )

    def __init__(self, manager: ConnectionServer, stranger: Stranger | None, **options: Any) -> None:
        super().__init__(manager, **options)
        self.identified = False
        """Whether the handler has looked at the certificate."""
        self.user: Any = None
        """Whom the handler found by the certificate; holds as long as the connection."""
        self.stream: asyncio.Task[Any] | None = None
        self._stranger = stranger
        self._known = manager.known
        self._place: Place | None = None
        """Once credentials were shown."""
        self._unread: asyncio.TimerHandle | None = None
        self._answering = False
        """From the moment when a request's head is complete, for its body may follow before the handler begins."""
        self._body: StreamReader | None = None
        """Of the request that was answered last."""
        self._surplus = 0
        """Bytes received since the last request that belong to no request yet, or to a body that nobody reads."""

    @property
    def certificate(self) -> dict[str, Any]:
        """The verified client certificate as the ssl module gives it; empty if there is none."""
        tls = self.transport.get_extra_info("ssl_object") if self.transport is not None else None
        return (tls.getpeercert() if tls is not None else None) or {}

    def trust(self, user: str) -> None:
        """The client has shown credentials of this user."""
        if self._stranger is None or self.transport is None:
            return
        self._forget_stranger()
        self._place = Place(self._known, user, self.transport.abort)
        self._known.take(self._place)

    def _forget_stranger(self) -> None:
        if self._stranger is not None:
            self._stranger.leave()
            self._stranger = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self._stranger is not None:
            self._stranger.close = cast(asyncio.Transport, transport).abort
            if certificate := self.certificate:
                self.trust(_common_name(certificate))

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        self._forget_stranger()
        if self._place is not None:
            self._place.leave()
        if self._unread is not None:
            self._unread.cancel()
        if self.stream is not None:
            self.stream.cancel()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._answering or self._messages:
            return  # the handler bounds what it reads, and the parser how many requests wait
        self._surplus += len(data)
        limit = MAX_HEAD if self._body is None or self._body.is_eof() else MAX_UNREAD
        if self._surplus > limit and self.transport is not None:
            self.transport.abort()

    def begin(self, body: StreamReader) -> None:
        """A request has left the queue. Its handler runs a turn of the loop later, and its body may arrive in between."""
        if self._stranger is not None and self._body is None:
            self._stranger.asked()
        self._answering, self._body, self._surplus = True, body, 0

    async def answer(self, request: BaseRequest, handler: Handler) -> StreamResponse:
        """The handler's response. Raises what it raises, and ConnectionError."""
        try:
            return await handler(request)
        finally:
            self._answering = False

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered."""
        super().pause_writing()
        self._unread = asyncio.get_running_loop().call_later(_UNREAD_ANSWER, self._give_up)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._unread is not None:
            self._unread.cancel()

    def _give_up(self) -> None:
        """Streams go on: whoever follows a log may stop reading for a while, and is owed nothing that grows."""
        if self.stream is None and self.transport is not None:
            self.transport.abort()

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Requests that are no HTTP or break off are their sender's business: strangers must not fill the log."""
        if not isinstance(options.get("exc_info"), (HttpProcessingError, RequestPayloadError, ConnectionError)):
            super().log_exception(*arguments, **options)


def _common_name(certificate: dict[str, Any]) -> str:
    attributes = (pair for relative in certificate.get("subject", ()) for pair in relative)
    return next((value for key, value in attributes if key == "commonName"), "")


class ConnectionServer(Server):
    """Answers requests on connections of a local socket (itself a protocol factory) or of a TLS port (tls_listener)."""

    def __init__(self, handler: Handler, *, max_body: int, keepalive_timeout: float = 0) -> None:
        """max_body: how much of a body `request.read()` accepts. keepalive_timeout: 0 stands for aiohttp's own."""
        options: dict[str, Any] = {"keepalive_timeout": keepalive_timeout} if keepalive_timeout else {}
        super().__init__(
            self._answer,
            request_factory=self._request,
            access_log=None,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            lingering_time=_LINGER,
            auto_decompress=False,
            **options,
        )
        self._handler = handler
        self._max_body = max_body
        descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.known = Places(min(MOST_KNOWN, descriptors // _SHARE_OF_DESCRIPTORS))
        """The connections of users who have shown credentials."""

    def __call__(self) -> Connection:
        return self.connection(None)

    def connection(self, stranger: Stranger | None) -> Connection:
        """The protocol of a new connection. stranger: for one that may be anybody's."""
        return Connection(self, stranger, loop=self._loop, **self._kwargs)

    async def _answer(self, request: BaseRequest) -> StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        return await connection.answer(request, self._handler)

    def _request(self, *parts: Any) -> BaseRequest:
        message, payload, protocol, writer, task = parts
        if message is not ERROR:  # aiohttp answers that itself, and ends the connection
            protocol.begin(payload)
        return BaseRequest(message, payload, protocol, writer, task, self._loop, client_max_size=self._max_body)


@contextmanager
def cancelled_with_connection(request: BaseRequest) -> Iterator[None]:
    """Cancels the block when the client goes away: a stream without news would not notice otherwise."""
    connection = request.protocol
    assert isinstance(connection, Connection)
    connection.stream = asyncio.current_task()
    try:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("client closed the connection")
        yield
    finally:
        connection.stream = None
