"""What strangers do to the ports of a cluster, byte by byte, and how to see that the others are served meanwhile."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cluster import Cluster
from tests.support.pulse import Pulse, pulse_of

from podling.apiserver.pki import PKI, KeyPair

PORTS = ("server", "agent")


@dataclass
class Port:
    """The TLS port of a process of the cluster, on loopback."""

    cluster: Cluster
    name: str
    """Of PORTS."""

    @property
    def number(self) -> int:
        return self.cluster.port if self.name == "server" else self.cluster.agent_port

    @property
    def pid(self) -> int:
        return self.cluster.pid(self.name)

    @property
    def pki(self) -> PKI:
        return PKI(self.cluster.data_dir / "pki")

    @property
    def log(self) -> Path:
        return self.cluster.data_dir / "logs" / f"{self.name}.log"

    def plain(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.number), timeout=15)

    def context(self, pair: KeyPair | None = None) -> ssl.SSLContext:
        """Of a client with this certificate, or with none."""
        context = ssl.create_default_context(cafile=str(self.pki.ca.cert))
        context.check_hostname = False
        if pair is not None:
            context.load_cert_chain(pair.cert, pair.key)
        return context

    def connect(self, pair: KeyPair | None = None, context: ssl.SSLContext | None = None) -> ssl.SSLSocket:
        return (context or self.context(pair)).wrap_socket(self.plain())

    def answer(self, request: bytes, pair: KeyPair | None = None, context: ssl.SSLContext | None = None) -> bytes:
        """All that comes back until the connection is closed; nothing where it is closed without a word."""
        received = b""
        try:
            with self.connect(pair, context) as connection:
                connection.sendall(request)
                while chunk := connection.recv(65536):
                    received += chunk
        except (ssl.SSLError, ConnectionError):
            pass
        return received

    def serves_the_administrator(self) -> bool:
        path = b"/api/v1/namespaces" if self.name == "server" else b"/pods"
        answer = self.answer(b"GET " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", self.pki.admin)
        return answer.startswith(b"HTTP/1.1 200 ")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def memory(self) -> int:
        """Bytes that the process holds."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE")

    def cpu(self) -> float:
        """Seconds of processor that the process has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def code(answer: bytes) -> int:
    """The status of an answer; 0 where the connection was closed without one."""
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0


@contextmanager
def pulse(port: Port) -> Iterator[Pulse]:
    """Ask the port for its health while the block runs, as an administrator on a connection that was there before."""
    request = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"

    def asking() -> Generator[None, None, None]:
        with port.connect(port.pki.admin) as connection:
            yield
            while True:
                connection.sendall(request)
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
                yield

    with pulse_of(asking) as pulse:
        yield pulse
