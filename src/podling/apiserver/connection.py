"""The server side of a connection: who is at its other end, and what to stop when it breaks."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiohttp.web import BaseRequest, Server
from aiohttp.web_protocol import RequestHandler

from podling.apiserver.user import User


class Connection(RequestHandler):
    """Remembers the user that the connection itself proves, and cancels the stream that it carries when it is lost."""

    __slots__ = ("identified", "stream", "user")

    def __init__(self, manager: Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.identified = False
        self.user: User | None = None
        self.stream: asyncio.Task[Any] | None = None

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if self.stream is not None:
            self.stream.cancel()


class ConnectionServer(Server):
    """An aiohttp low-level server of such connections."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._options = options

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
