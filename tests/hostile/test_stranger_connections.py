"""Strangers who open connections: many, idle, slow, or busy. Each port keeps few of them, and not for long."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.cluster import Cluster, eventually
from tests.support.foreign_node import client_certificate
from tests.support.pods import container, pod
from tests.support.stranger import PORTS, Port, pulse
from tools.registry import Registry

from podling.kit.descriptors import raise_limit
from podling.kit.http_connection import MOST_KNOWN
from podling.kit.places import SHARE
from podling.kit.strangers import MOST

MANY = 600
POOR = 1024
HEAD = b"GET /version HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(autouse=True)
def many_files() -> Iterator[None]:
    """The strangers themselves, and the judge, open more files than the 1,024 that processes often start with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    raise_limit()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture(params=PORTS)
def port(request: pytest.FixtureRequest, cluster: Cluster) -> Port:
    return Port(cluster, request.param)


@contextlib.contextmanager
def crowd(port: Port, kind: str, many: int) -> Iterator[list[socket.socket]]:
    """So many connections of strangers, all open at the same time as far as the port lets them."""
    opened: list[socket.socket] = []
    context = port.context()
    try:
        for number in range(many):
            each: socket.socket = port.plain()
            opened.append(each)
            with contextlib.suppress(OSError):
                if kind == "half a handshake":
                    each.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
                elif kind != "silent":
                    opened[-1] = context.wrap_socket(each)
                    if kind == "half a request":
                        opened[-1].sendall(HEAD + b"X-%d: " % number)
                    elif kind == "after an answer":
                        opened[-1].sendall(HEAD + b"\r\n")
                        opened[-1].recv(4096)
        yield opened
    finally:
        for each in opened:
            each.close()


@pytest.mark.parametrize("kind", ["silent", "half a handshake", "no request", "half a request", "after an answer"])
def test_a_crowd_displaces_itself(port: Port, kind: str) -> None:
    """A quarter of the places is for one source; of the others' connections none is touched."""
    before = port.descriptors()
    with pulse(port), crowd(port, kind, MANY):
        assert port.descriptors() - before <= MOST // 4 + 20
        assert port.serves_the_administrator()
    eventually(lambda: port.descriptors() - before <= 20)


def test_many_sources_have_few_places_too(port: Port) -> None:
    before = port.descriptors()
    opened = []
    try:
        for number in range(MANY):
            # Any address of 127.0.0.0/8 is the machine's own.
            source = (f"127.0.{1 + number // 100}.{1 + number % 100}", 0)
            opened.append(socket.create_connection(("127.0.0.1", port.number), source_address=source))
        eventually(lambda: port.descriptors() - before > MOST // 2)
        assert port.descriptors() - before <= MOST + 20
        assert port.serves_the_administrator()
    finally:
        for each in opened:
            each.close()


def test_a_user_without_rights_has_few_places_too(port: Port, tmp_path: Path) -> None:
    """Every Pod may hold a token, and every node a certificate: credentials alone open no more than so many connections."""
    head, pair = HEAD, None
    if port.name == "server":
        token = port.cluster.kubectl("create", "token", "default").strip()
        head += f"Authorization: Bearer {token}\r\n".encode()
    else:
        pair = client_certificate(port.pki, tmp_path, "nobody", "nothing")
    context, before = port.context(pair), port.descriptors()
    with contextlib.ExitStack() as opened, pulse(port):
        for _ in range(MOST_KNOWN // SHARE + 100):
            each = opened.enter_context(context.wrap_socket(port.plain()))
            each.sendall(head + b"\r\n")
            assert each.recv(4096).startswith(b"HTTP/1.1 ")
        assert port.descriptors() - before <= MOST_KNOWN // SHARE + 20
        assert port.serves_the_administrator()
    eventually(lambda: port.descriptors() - before <= 20)


def test_a_crowd_leaves_no_memory_behind(port: Port) -> None:
    """Twelve hundred connections at once would be 70 MB."""
    with crowd(port, "no request", MANY):
        pass
    before = port.memory()
    with crowd(port, "no request", 2 * MANY):
        assert port.memory() - before < 40 << 20
    eventually(lambda: port.memory() - before < 20 << 20)


@pytest.mark.parametrize("end", [b"\r\n", b"", b"\r\n ", b"\n"], ids=["headers", "a header", "folded", "bare lines"])
def test_heads_without_end_are_cut_off(port: Port, end: bytes) -> None:
    """The client may go on sending for the second that it has to read the answer."""
    sent, line, memory = 0, b"X: " + b"a" * 1000 + end, port.memory()
    try:
        with port.connect() as connection:
            connection.sendall(HEAD)
            while sent < 1 << 30:
                connection.sendall(line)
                sent += len(line)
    except (ssl.SSLError, ConnectionError):
        pass
    assert sent < 1 << 30
    assert port.memory() - memory < 64 << 20
    assert port.serves_the_administrator()


def test_answers_that_nobody_reads_do_not_pile_up(port: Port) -> None:
    """Who does not read gets nothing more to read: requests are then not looked at, and cannot be sent."""
    request, sent, before = HEAD + b"\r\n", 0, port.memory()
    try:
        with port.connect() as connection:
            connection.settimeout(2)
            while sent < 64 << 20:
                connection.sendall(request * 100)
                sent += 100 * len(request)
    except (ssl.SSLError, ConnectionError, TimeoutError):
        pass
    assert sent < 32 << 20
    assert port.memory() - before < 16 << 20
    assert port.serves_the_administrator()


@pytest.fixture
def poor(registry: Registry) -> Iterator[Cluster]:
    """A cluster that was started where processes may have 1,024 files open, as by default on most machines."""
    cluster = Cluster(registry.registries_conf)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (POOR, hard))
    try:
        cluster.__enter__()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.reset)
        yield cluster


def test_processes_take_the_descriptors_that_they_may_have(poor: Cluster) -> None:
    """Containers keep the limit that they would have had: a larger one makes some programs slow or breaks them."""
    poor.apply(pod("p", container(script="ulimit -n"), restartPolicy="Never"))
    poor.wait("pod/p", "jsonpath={.status.phase}=Succeeded")
    assert poor.logs("p").split() == [str(POOR)]
    for name in PORTS:
        limits = Path(f"/proc/{poor.pid(name)}/limits").read_text().splitlines()
        soft, hard = next(line.split()[3:5] for line in limits if line.startswith("Max open files"))
        assert soft == hard or soft == str(1 << 20)
