"""A TLS port that strangers can reach: accepts connections, shakes hands, and hands them to a ConnectionServer.

The event loop's own servers cannot count connections before the end of the handshake, nor end one; so this one accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from podling.kit.http_connection import ConnectionServer
from podling.kit.strangers import FIRST_REQUEST, Strangers

log = logging.getLogger(__name__)

_BACKLOG: Final = 1024
_SHUTDOWN: Final = 1.0
"""Seconds that a client has for its part in ending TLS. What it sends meanwhile is read and thrown away."""
_PAUSE: Final = 1.0
"""Seconds without accepting after the process ran out of descriptors or memory, as asyncio does it."""


def server_context(cert: Path, key: Path, client_ca: Path, *, anonymous: bool) -> ssl.SSLContext:
    """TLS for a port with client certificates by this authority. anonymous: whether it may be left out. Blocking."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(cert, key)
    context.load_verify_locations(client_ca)
    context.verify_mode = ssl.CERT_OPTIONAL if anonymous else ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def listening(server: ConnectionServer, address: str, port: int, context: ssl.SSLContext) -> AsyncIterator[None]:
    """Accepts connections while the block runs; the caller shuts the server down afterwards.

    address: "" stands for all. Raises OSError."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in _bind(address, port)]
        strangers = Strangers()
        async with asyncio.TaskGroup() as tasks:
            accepting = [tasks.create_task(_accept(server, each, context, strangers)) for each in listeners]
            try:
                yield
            finally:
                for task in accepting:
                    task.cancel()


def _bind(address: str, port: int) -> list[socket.socket]:
    addresses = [address] if address else ["0.0.0.0", "::"] if socket.has_dualstack_ipv6() else ["0.0.0.0"]
    with contextlib.ExitStack() as stack:
        listeners = []
        for each in addresses:
            family = socket.AF_INET6 if ":" in each else socket.AF_INET
            listeners.append(stack.enter_context(socket.create_server((each, port), family=family, backlog=_BACKLOG)))
            listeners[-1].setblocking(False)
        stack.pop_all()
    return listeners


async def _accept(
    server: ConnectionServer, listener: socket.socket, context: ssl.SSLContext, strangers: Strangers
) -> None:
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as handshakes:
        while True:
            try:
                connection, address = await loop.sock_accept(listener)
            except ConnectionError:
                continue
            except OSError as error:
                log.error("cannot accept connections for a moment: %s", error.strerror)
                strangers.displace()
                server.known.displace()
                await asyncio.sleep(_PAUSE)
                continue
            handshakes.create_task(_shake_hands(server, connection, address[0], context, strangers))
            await asyncio.sleep(0)  # a flood of connections is not all that there is to do


async def _shake_hands(
    server: ConnectionServer, connection: socket.socket, address: str, context: ssl.SSLContext, strangers: Strangers
) -> None:
    task = asyncio.current_task()
    assert task is not None
    stranger = strangers.admit(address, task.cancel)
    try:
        await asyncio.get_running_loop().connect_accepted_socket(
            partial(server.connection, stranger),
            connection,
            ssl=context,
            ssl_handshake_timeout=FIRST_REQUEST,
            ssl_shutdown_timeout=_SHUTDOWN,
        )
    except BaseException as error:
        stranger.leave()
        connection.close()
        if not isinstance(error, Exception):
            raise
        if not isinstance(error, OSError):  # of any kind: no TLS, no certificate, too late, gone
            # Whatever a stranger may have found, it is one connection: an error here would end all of them.
            log.exception("a connection from %s could not be accepted", address)
