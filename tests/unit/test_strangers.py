"""How many connections without credentials there are, whose are closed for new ones, and for how long they last."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import uvloop
from aiohttp.web import BaseRequest, Response
from tests.support.api_server import free_port
from tests.support.certificates import certificate

from podling.apiserver import pki
from podling.kit import http_connection, strangers, tls_listener
from podling.kit.http_connection import Connection, ConnectionServer
from podling.kit.strangers import Strangers


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    uvloop.run(test())


def test_the_oldest_connection_of_a_source_makes_room_for_its_next() -> None:
    async def test() -> None:
        closed: list[int] = []
        port = Strangers(most=16)
        for number in range(6):
            port.admit("192.0.2.1", partial(closed.append, number))
        assert closed == [0, 1]
        assert len(port) == 4

    run(test)


def test_where_all_places_are_taken_the_source_with_the_most_loses_one() -> None:
    async def test() -> None:
        closed: list[str] = []
        port = Strangers(most=16)

        def admit(source: str) -> None:
            port.admit(source, lambda: closed.append(source))

        for _ in range(4):
            admit("192.0.2.1")
        for number in range(12):
            admit(f"198.51.100.{number}")
        assert not closed
        admit("203.0.113.1")
        admit("203.0.113.2")
        assert closed == ["192.0.2.1", "192.0.2.1"]
        assert len(port) == 16

    run(test)


def test_one_ipv6_network_is_one_source() -> None:
    async def test() -> None:
        closed: list[str] = []
        port = Strangers(most=16)
        for number in range(5):
            port.admit(f"2001:db8::{number}", lambda: closed.append("network"))
        port.admit("2001:db8:0:1::1", lambda: closed.append("another"))
        for number in range(5):
            port.admit(f"::ffff:192.0.2.{number}", lambda: closed.append("mapped"))
        assert closed == ["network"]

    run(test)


def test_who_shows_credentials_takes_no_place() -> None:
    async def test() -> None:
        port = Strangers(most=4)
        for _ in range(20):
            port.admit("192.0.2.1", lambda: pytest.fail("nobody is in the way")).leave()
        assert len(port) == 0

    run(test)


def test_few_descriptors_mean_few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        monkeypatch.setattr(resource, "getrlimit", lambda _: (1024 // 4, 4096))
        port = Strangers()
        for number in range(300):
            port.admit(f"192.0.2.{number}" if number < 256 else f"198.51.100.{number - 256}", lambda: None)
        assert len(port) == 64

    run(test)


MAX_BODY = 3 << 20


class Server:
    """A port like the API server's, with short limits, whose only credential is the header "Authorization: good"."""

    def __init__(self, directory: Path) -> None:
        self.pki = pki.ensure(
            directory / "pki",
            node_name="n",
            addresses=["127.0.0.1"],
            service_address="10.96.0.1",
            cluster_domain="cluster.local",
        )
        self.directory = directory
        self.port = free_port()

    @contextlib.asynccontextmanager
    async def listening(self, *, anonymous: bool = True) -> AsyncIterator[None]:
        pair = self.pki.apiserver
        context = tls_listener.server_context(pair.cert, pair.key, self.pki.ca.cert, anonymous=anonymous)
        server = ConnectionServer(self._answer, max_body=MAX_BODY)
        async with tls_listener.listening(server, "127.0.0.1", self.port, context):
            yield
        await server.shutdown(1)

    async def _answer(self, request: BaseRequest) -> Response:
        assert isinstance(request.protocol, Connection)
        if (user := request.headers.get("Authorization", "")).startswith("good"):
            request.protocol.trust(user)
        if request.method == "POST":
            return Response(text=str(len(await request.read())))
        return Response(text=request.path)

    async def connect(self, *, identified: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        context = ssl.create_default_context(cafile=str(self.pki.ca.cert))
        if identified:
            pair = certificate(self.directory, self.pki.ca)
            context.load_cert_chain(pair.cert, pair.key)
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=context)


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limits of time, short enough for a test: none of them is waited for by what must not be closed."""
    monkeypatch.setattr(strangers, "FIRST_REQUEST", 0.3)
    monkeypatch.setattr(strangers, "LIFETIME", 0.6)


async def closed(reader: asyncio.StreamReader) -> None:
    """Returns when the other side has closed the connection; whatever it said before."""
    with contextlib.suppress(ConnectionError):
        while await reader.read(65536):
            pass


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET / HTTP/1.1\r\nHost: x\r\n", b"GET / HTTP/1.1\r\nX: "])
@pytest.mark.usefixtures("short")
def test_a_connection_that_asks_for_nothing_ends(server: Server, beginning: bytes) -> None:
    async def test() -> None:
        async with server.listening(), asyncio.timeout(10):
            reader, writer = await server.connect()
            writer.write(beginning)
            await closed(reader)
            writer.close()

    run(test)


@pytest.mark.usefixtures("short")
def test_a_head_that_drips_does_not_prolong_a_connection(server: Server) -> None:
    async def test() -> None:
        async with server.listening(), asyncio.timeout(10):
            reader, writer = await server.connect()
            writer.write(b"GET / HTTP/1.1\r\n")
            ending = asyncio.create_task(closed(reader))
            while not ending.done():
                writer.write(b"X: y\r\n")
                await asyncio.wait([ending], timeout=0.02)
            writer.close()

    run(test)


@pytest.mark.usefixtures("short")
def test_a_busy_connection_without_credentials_ends(server: Server) -> None:
    async def test() -> None:
        async with server.listening(), asyncio.timeout(10):
            reader, writer = await server.connect()
            answers = 0
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n/a")
                    answers += 1
            assert answers
            writer.close()

    run(test)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("credential", ["certificate", "token"])
def test_a_connection_with_credentials_stays(server: Server, credential: str) -> None:
    async def test() -> None:
        async with server.listening(), asyncio.timeout(10):
            reader, writer = await server.connect(identified=credential == "certificate")
            other, _ = await server.connect()
            if credential == "token":
                writer.write(b"GET /b HTTP/1.1\r\nHost: x\r\nAuthorization: good\r\n\r\n")
                await reader.readuntil(b"\r\n\r\n/b")
            # Two strangers one after the other: longer than the lifetime of one.
            await closed(other)
            other, asking = await server.connect()
            asking.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await closed(other)
            writer.write(b"GET /c HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"\r\n\r\n/c")
            writer.close()

    run(test)


@pytest.mark.parametrize("credential", ["certificate", "token"])
def test_a_user_has_few_connections_and_loses_none_to_others(
    server: Server, monkeypatch: pytest.MonkeyPatch, credential: str
) -> None:
    monkeypatch.setattr(http_connection, "MOST_KNOWN", 16)

    async def test() -> None:
        async with server.listening(), asyncio.timeout(20):

            async def connect(user: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
                reader, writer = await server.connect(identified=user == "certificate")
                await ask(reader, writer, user)
                return reader, writer

            async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, user: str) -> None:
                writer.write(b"GET /e HTTP/1.1\r\nHost: x\r\nAuthorization: good %s\r\n\r\n" % user.encode())
                await reader.readuntil(b"\r\n\r\n/e")

            other = await connect("other")
            crowd = [await connect(credential) for _ in range(6)]
            for reader, _ in crowd[:2]:
                await closed(reader)
            for each in crowd[2:]:
                await ask(*each, credential)
            await ask(*other, "other")
            for _, writer in (other, *crowd):
                writer.close()

    run(test)


@pytest.mark.usefixtures("short")
def test_a_handshake_that_does_not_end_is_ended(server: Server) -> None:
    async def test() -> None:
        async with server.listening(), asyncio.timeout(10):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            await closed(reader)
            writer.close()

    run(test)


def test_a_port_for_certificates_alone_does_not_hear_others(server: Server) -> None:
    async def test() -> None:
        async with server.listening(anonymous=False), asyncio.timeout(10):
            for identified in (False, True):
                answer = b""
                with contextlib.suppress(ConnectionError, ssl.SSLError):
                    reader, writer = await server.connect(identified=identified)
                    writer.write(b"GET /d HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                    answer = await reader.read()
                    writer.close()
                assert answer.endswith(b"/d") is identified

    run(test)


def test_who_does_not_read_answers_gets_no_more(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_connection, "_UNREAD_ANSWER", 0.3)
    path = b"/" + b"a" * 60000

    async def test() -> None:
        async with server.listening(), asyncio.timeout(20):
            reader, writer = await server.connect(identified=True)
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            with contextlib.suppress(ConnectionError):
                while not writer.is_closing():
                    writer.write(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                    await writer.drain()
            writer.close()

    run(test)


@pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
def test_a_body_that_comes_at_once_is_read(server: Server, earlier: int) -> None:
    """Much of it is there before the handler has begun: it is no surplus."""

    async def test() -> None:
        async with server.listening(), asyncio.timeout(30):
            for _ in range(20):
                reader, writer = await server.connect()
                for _ in range(earlier):
                    writer.write(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n")
                    await reader.readuntil(b"\r\n\r\n/a")
                writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % MAX_BODY)
                writer.write(bytes(MAX_BODY))
                await reader.readuntil(b"\r\n\r\n%d" % MAX_BODY)
                writer.close()

    run(test)
