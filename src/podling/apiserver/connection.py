"""The server side of a connection: who is at its other end, and what to stop when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, RequestPayloadError, Server
from aiohttp.web_protocol import RequestHandler

from podling.apiserver.user import User

_FIRST_REQUEST = 32.0
"""Seconds that a stranger has for the head of the first request (upstream's ReadHeaderTimeout)."""
IDLE = 90.0
"""Seconds that a connection stays open between requests (upstream's IdleTimeout)."""


class Connection(RequestHandler):
    """Remembers the user that the connection itself proves, and cancels the stream that it carries when it is lost.

    A TLS connection that never asks for anything is closed, so that strangers cannot use up all descriptors.
    """

    __slots__ = ("_patience", "identified", "stream", "user")

    def __init__(self, manager: Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.identified = False
        self.user: User | None = None
        self.stream: asyncio.Task[Any] | None = None
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if transport.get_extra_info("ssl_object") is not None:
            self._patience = asyncio.get_running_loop().call_later(_FIRST_REQUEST, self._give_up, transport)

    def _give_up(self, transport: asyncio.BaseTransport) -> None:
        if not self.identified:
            transport.close()

    def log_exception(self, *arguments: Any, **options: Any) -> None:
        """Requests that are no HTTP or break off are their sender's business: strangers must not fill the log."""
        if not isinstance(options.get("exc_info"), (HttpProcessingError, RequestPayloadError, ConnectionError)):
            super().log_exception(*arguments, **options)

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self._patience is not None:
            self._patience.cancel()
        if self.stream is not None:
            self.stream.cancel()


class ConnectionServer(Server):
    """An aiohttp low-level server of such connections."""

    def __call__(self) -> Connection:
        return Connection(self, loop=self._loop, **self._kwargs)


@contextmanager
def cancelled_with_connection(request: BaseRequest) -> Iterator[None]:
    """Cancels the block when the client goes away: a stream without news would not notice otherwise."""
    connection = request.protocol
    if not isinstance(connection, Connection):
        yield
        return
    connection.stream = asyncio.current_task()
    try:
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("client closed the connection")
        yield
    finally:
        connection.stream = None
