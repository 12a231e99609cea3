"""Why a peer was not reached, in words for people."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from podling.api.core.v1 import Pod
from podling.client.client import Client, ClientConfig, ConnectionFailed


@contextmanager
def _peer(answer: bytes) -> Iterator[int]:
    """A server that says this to everybody, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _failure(config: ClientConfig) -> str:
    async def ask() -> None:
        async with Client(config) as client:
            await client.get(Pod, "a", "b")

    with pytest.raises(ConnectionFailed) as caught:
        asyncio.run(ask())
    return str(caught.value)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"", "the connection was closed before the answer"),
        (b"garbage\r\n\r\n", "the answer is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nx", "the answer broke off"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nx", "the answer broke off"),
    ],
)
def test_a_server_that_breaks_off_is_named_with_what_it_did(answer: bytes, text: str) -> None:
    with _peer(answer) as port:
        address = f"http://127.0.0.1:{port}"
        assert _failure(ClientConfig(server=address)) == f"the API server at {address} is away: {text}"


def test_a_server_that_is_not_there_is_named_with_its_place(tmp_path: Path) -> None:
    missing, file = tmp_path / "no.sock", tmp_path / "file"
    file.touch()
    for path, text in ((missing, "no such file or directory"), (file, "connection refused")):
        assert _failure(ClientConfig(socket=str(path))) == f"the API server at {path} is away: {text}"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert _failure(ClientConfig(server=f"https://127.0.0.1:{port}")).endswith(" is away: connection refused")


def test_a_server_without_tls_and_files_without_certificates_are_told_so(tmp_path: Path) -> None:
    with _peer(b"HTTP/1.1 400 Bad Request\r\n\r\n") as port:
        assert _failure(ClientConfig(server=f"https://127.0.0.1:{port}")).endswith(
            " is away: the TLS handshake failed (wrong version number)"
        )
    server = "https://127.0.0.1:1"
    assert (
        _failure(ClientConfig(server=server, ca=b"x")) == "the certificates of the API server's authorities are not PEM"
    )
    file = tmp_path / "file"
    file.write_text("x")
    text = f"{file} and {file} are not a certificate and its key in PEM"
    assert _failure(ClientConfig(server=server, cert_file=str(file), key_file=str(file))) == text
    assert str(tmp_path / "none") in _failure(ClientConfig(server=server, cert_file=str(tmp_path / "none")))
