"""Bodies of clients that may not send any: nothing is unpacked, and what nobody reads is not read for long."""

from __future__ import annotations

import gzip
import ssl
from pathlib import Path

import pytest
from tests.support.certificates import certificate
from tests.support.cluster import Cluster
from tests.support.stranger import PORTS, Port, code

from podling.apiserver.pki import KeyPair

TARGETS = {"server": b"/api/v1/namespaces/default/configmaps", "agent": b"/pods"}
ZEROS = 64 << 20
TIMES = 10


@pytest.fixture(params=PORTS)
def port(request: pytest.FixtureRequest, cluster: Cluster) -> Port:
    return Port(cluster, request.param)


@pytest.fixture(params=["nobody", "somebody without rights"])
def client(request: pytest.FixtureRequest, port: Port, tmp_path: Path) -> KeyPair | None:
    if request.param == "nobody":
        return None
    return certificate(tmp_path, port.pki.ca, organization="")


def post(port: Port, body: bytes, *headers: bytes, length: int = 0) -> bytes:
    lines = [b"POST " + TARGETS[port.name] + b" HTTP/1.1", b"Host: x", b"Content-Type: application/json", *headers]
    lines.append(b"Content-Length: %d" % (length or len(body)))
    return b"\r\n".join(lines) + b"\r\nConnection: close\r\n\r\n" + body


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_costs_no_more_than_its_bytes(port: Port, client: KeyPair | None, encoding: str) -> None:
    """Unpacking ten of these takes a second of a processor; so does unpacking none of them ten thousand times."""
    bomb = gzip.compress(bytes(ZEROS), 9)
    before, memory = port.cpu(), port.memory()
    for _ in range(TIMES):
        assert code(port.answer(post(port, bytes(len(bomb))), client)) in (0, 401, 403)
    plain = port.cpu() - before
    before = port.cpu()
    for _ in range(TIMES):
        header = b"Content-Encoding: " + encoding.encode()
        assert code(port.answer(post(port, bomb, header), client)) in (0, 401, 403)
    assert port.cpu() - before < 3 * plain + 0.3
    assert port.memory() - memory < ZEROS / 2
    assert port.serves_the_administrator()


def test_a_body_without_end_is_cut_off(port: Port, client: KeyPair | None) -> None:
    """The answer comes at once; what is sent on is read up to a bound, so that the client can see the answer."""
    sent, block = 0, bytes(64 << 10)
    try:
        with port.connect(client) as connection:
            connection.sendall(post(port, b"", length=1 << 40))
            while sent < 256 << 20:
                connection.sendall(block)
                sent += len(block)
    except (ssl.SSLError, ConnectionError):
        pass
    assert sent < 32 << 20  # some megabytes are in the buffers of both machines
    assert port.serves_the_administrator()


def test_a_body_that_never_comes_is_not_waited_for(port: Port, client: KeyPair | None) -> None:
    assert code(port.answer(post(port, b"", length=1000), client)) in (0, 401, 403)
