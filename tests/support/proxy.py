"""A TCP proxy that misbehaves on command: it stops, cuts or corrupts what the server sends."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self


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

    async def __aenter__(self) -> Self:
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
            altered = await self.alter(data)
            await self.write(writer, altered)
            if len(altered) < len(data):
                writer.write_eof()  # an orderly end, in the middle of the message
                raise _Cut
        raise _Cut

    async def alter(self, data: bytes) -> bytes:
        """What is passed on in the place of a chunk; less of it ends the connection."""
        return data

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()


class Slow(Proxy):
    """Passes byte by byte on what comes after the first `at_once` bytes, a hundred of them in a second."""

    def __init__(self, target: str, at_once: int) -> None:
        super().__init__(target)
        self._at_once = at_once

    async def write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.total <= self._at_once:
            return await super().write(writer, data)
        for byte in data:
            await super().write(writer, bytes([byte]))
            await asyncio.sleep(0.01)


class Chaos(Proxy):
    """Cuts, truncates, corrupts and delays, as the seed says: now and then, for as long as it is `raging`."""

    def __init__(self, target: str, seed: int) -> None:
        super().__init__(target)
        self._random = random.Random(seed)
        self.raging = True
        self.harm: Counter[str] = Counter()

    async def alter(self, data: bytes) -> bytes:
        if not self.raging or self._random.random() > 0.15:
            return data
        kind = self._random.choice(("cut", "truncate", "corrupt", "delay"))
        self.harm[kind] += 1
        if kind == "cut":
            self.cuts += 1
            raise _Cut
        if kind == "truncate":
            return data[: self._random.randrange(len(data))]
        if kind == "corrupt":
            changed = bytearray(data)
            changed[self._random.randrange(len(data))] ^= 1 << self._random.randrange(8)
            return bytes(changed)
        await asyncio.sleep(self._random.uniform(0, 0.05))
        return data


class _Cut(Exception):
    pass


@contextlib.asynccontextmanager
async def _closing(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()
