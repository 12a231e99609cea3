"""One API server for the tests of a process, and three ways to talk to it: raw HTTP, the Python client, kubectl."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.api_server import ApiServer

from podling.apiserver import kubeconfig
from podling.apiserver.pki import PKI

MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


@dataclass
class Answer:
    code: int
    headers: http.client.HTTPMessage
    raw: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.raw)

    @property
    def message(self) -> str:
        text: str = self.json["message"]
        return text


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(self._path))


def unix_connection(path: Path) -> http.client.HTTPConnection:
    return _UnixConnection(path)


@dataclass
class Api:
    server: ApiServer
    directory: Path
    kubeconfig: Path = field(init=False)

    def __post_init__(self) -> None:
        self.kubeconfig = self.directory / "kubeconfig"

    @property
    def pki(self) -> PKI:
        return PKI(self.directory / "data" / "pki")

    def open(self) -> http.client.HTTPConnection:
        """A connection to the unix socket: requests on it are an administrator's."""
        return unix_connection(self.server.socket)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request; `body` is sent as JSON unless it is text or bytes."""
        connection = self.open()
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, body=data, headers={"Content-Type": content_type, **(headers or {})})
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer

    def get(self, path: str, **options: Any) -> Answer:
        return self.request("GET", path, **options)

    def post(self, path: str, body: Any, **options: Any) -> Answer:
        return self.request("POST", path, body, **options)

    def put(self, path: str, body: Any, **options: Any) -> Answer:
        return self.request("PUT", path, body, **options)

    def patch(self, path: str, body: Any, content_type: str = MERGE, **options: Any) -> Answer:
        return self.request("PATCH", path, body, content_type=content_type, **options)

    def delete(self, path: str, body: Any = None, **options: Any) -> Answer:
        return self.request("DELETE", path, body, **options)

    def create(self, path: str, body: Any) -> dict[str, Any]:
        """A POST that has to succeed."""
        answer = self.post(path, body)
        assert answer.code == 201, answer.raw
        created: dict[str, Any] = answer.json
        return created

    @contextmanager
    def watch(self, path: str, *, headers: Mapping[str, str] = {}, **query: Any) -> Iterator[Iterator[dict[str, Any]]]:
        """The events of a watch, as they come; the stream ends after 20 s at the latest."""
        separator = "&" if "?" in path else "?"
        pairs = "&".join(f"{key}={value}" for key, value in {"timeoutSeconds": 20, **query}.items())
        connection = self.open()
        connection.request("GET", f"{path}{separator}watch=true&{pairs}", headers=dict(headers))
        response = connection.getresponse()
        assert response.status == 200, response.read()
        try:
            yield (json.loads(line) for line in iter(response.readline, b""))
        finally:
            response.close()
            connection.close()

    def kubectl(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory)}
        return subprocess.run(
            ["kubectl", *argv], input=stdin, capture_output=True, text=True, timeout=60, env=environment, check=False
        )


def pod(name: str = "web", *, containers: tuple[str, ...] = ("main",), **more: Any) -> dict[str, Any]:
    """A Pod's manifest. more: fields of the spec; `labels` and `metadata` go to its metadata."""
    metadata = {"name": name, "labels": more.pop("labels", {}), **more.pop("metadata", {})}
    spec = {"containers": [{"name": item, "image": "nginx:1.27"} for item in containers], **more}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


@pytest.fixture(scope="session")
def api() -> Iterator[Api]:
    """A server on a directory and a port of its own."""
    with tempfile.TemporaryDirectory(prefix="podling-api-") as directory, started(Path(directory)) as running:
        yield running


@contextmanager
def started(directory: Path) -> Iterator[Api]:
    """A server on this directory; what a former one left there is used."""
    server = ApiServer(directory)
    server.start()
    try:
        asyncio.run(server.ready())
        running = Api(server, directory)
        kubeconfig.write(running.kubeconfig, kubeconfig.render(running.pki, server=server.url))
        yield running
    finally:
        server.kill()


@pytest.fixture
def namespace(api: Api) -> str:
    """A namespace of its own, with the default service account that the controllers would make."""
    return new_namespace(api)


def new_namespace(api: Api) -> str:
    """For tests where the fixture of this name is that of a whole cluster."""
    name = f"t-{uuid.uuid4().hex[:8]}"
    api.create("/api/v1/namespaces", {"metadata": {"name": name}})
    api.create(f"/api/v1/namespaces/{name}/serviceaccounts", {"metadata": {"name": "default"}})
    return name


@pytest.fixture
def pods(namespace: str) -> str:
    """The path of the Pods in the test's namespace."""
    return f"/api/v1/namespaces/{namespace}/pods"


@pytest.fixture
def config_maps(namespace: str) -> str:
    """The path of the ConfigMaps in the test's namespace."""
    return f"/api/v1/namespaces/{namespace}/configmaps"
