"""A TCP proxy that misbehaves on command: it stops, cuts or corrupts what the server sends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import TracebackType


class Proxy:
    """Listens on loopback for as long as its `async with` lasts, and forwards to `target` ("host:port").

    `on_bytes(total)` is called before each chunk from the server is passed on, with the number of bytes of all
    connections so far: an exception cuts the connection. While `gate` is clear nothing is passed on.
    """

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.address = ""
        self.total = 0
        self.cuts = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.on_bytes: Callable[[int], None] = lambda total: None
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
            async with _closing(upstream_writer), _closing(writer), asyncio.TaskGroup() as group:
                group.create_task(self._forward(upstream_reader, writer))
                sending = group.create_task(self._send(reader, upstream_writer))
                sending.add_done_callback(lambda _: upstream_writer.close())
        except* (OSError, _Cut):
            pass
        finally:
            self._tasks.discard(task)

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            try:
                self.on_bytes(self.total)
            except ConnectionAbortedError:
                self.cuts += 1
                raise _Cut from None
            await self.gate.wait()
            self.total += len(data)
            writer.write(data)
            await writer.drain()
        raise _Cut


class _Cut(Exception):
    pass


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
