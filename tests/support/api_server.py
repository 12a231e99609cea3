"""An API server of this repository in a process of its own, on a directory and a port of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from podling.api.core.v1 import Namespace, Node, Pod
from podling.api.meta.v1 import ObjectMeta
from podling.client.client import Client, ClientConfig, ConnectionFailed

_PROGRAM = """
import asyncio, pathlib, sys, uvloop
from podling.apiserver.server import ServerConfig, serve
async def main():
    directory = pathlib.Path(sys.argv[1])
    config = ServerConfig(data_dir=directory / "data", run_dir=directory / "run", node_name="test-node",
                          port=int(sys.argv[2]), bind_address="127.0.0.1")
    await serve(config, stop=asyncio.Event())
uvloop.run(main())
"""


class ApiServer:
    """Starts, dies and starts again on the same data."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "run" / "apiserver.sock"

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def client(self) -> Client:
        return Client(ClientConfig(socket=str(self.socket)))

    def start(self) -> None:
        with (self.directory / "server.log").open("ab") as log:
            command = [sys.executable, "-c", _PROGRAM, str(self.directory), str(self.port)]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    async def ready(self) -> None:
        """Returns when requests are answered. Raises RuntimeError if the server died."""
        async with self.client() as client, asyncio.timeout(30):
            while True:
                try:
                    await client.get(Namespace, "default")
                    return
                except ConnectionFailed:
                    if self._process is None or self._process.poll() is not None:
                        raise RuntimeError((self.directory / "server.log").read_text()) from None
                    await asyncio.sleep(0.02)

    def kill(self) -> None:
        """As power loss does it."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def _end(self, number: int) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)
            self._process.wait(20)
            self._process = None


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for the tests of a module."""
    server = ApiServer(tmp_path_factory.mktemp("server"))
    server.start()
    try:
        asyncio.run(server.ready())
        yield server
    finally:
        server.kill()


@contextlib.asynccontextmanager
async def api_server(directory: Path) -> AsyncIterator[ApiServer]:
    """A server that is ready."""
    server = ApiServer(directory)
    server.start()
    try:
        await server.ready()
        yield server
    finally:
        server.kill()


_numbers = itertools.count()


@contextlib.asynccontextmanager
async def own_namespace(client: Client) -> AsyncIterator[str]:
    """A new namespace. Afterwards its Pods go, and all Nodes with them: the module's other tests have their own."""
    name = f"test-{next(_numbers)}"
    await client.create(Namespace(metadata=ObjectMeta(name=name)))
    try:
        yield name
    finally:
        for pod in (await client.list(Pod, name)).items:
            await client.delete(Pod, pod.metadata.name, name, grace_period_seconds=0)
        for node in (await client.list(Node)).items:
            await client.delete(Node, node.metadata.name)


@contextlib.asynccontextmanager
async def running(*parts: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Parts of Podling beside the test; they must not fail, and are cancelled at the end."""
    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(part) for part in parts]
        yield
        for task in started:
            task.cancel()


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
