"""Requests to the TLS port, as any client of the API makes them."""

from __future__ import annotations

import http.client
import json
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.api import Answer

from podling.apiserver.pki import PKI, KeyPair


@dataclass
class Https:
    """A client of the API server at this port of loopback. pki: the server's own directory of keys."""

    port: int
    pki_dir: Path
    context: ssl.SSLContext = field(init=False)

    def __post_init__(self) -> None:
        self.context = ssl.create_default_context(cafile=str(self.pki.ca.cert))

    @property
    def pki(self) -> PKI:
        return PKI(self.pki_dir)

    def identify(self, pair: KeyPair) -> Https:
        """From now on with this client certificate."""
        self.context.load_cert_chain(pair.cert, pair.key)
        return self

    def administrator(self) -> Https:
        return self.identify(self.pki.admin)

    def open(self) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection("127.0.0.1", self.port, context=self.context, timeout=30)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request on a connection of its own; `body` is sent as JSON unless it is text or bytes."""
        connection = self.open()
        data = body if body is None or isinstance(body, (str, bytes)) else json.dumps(body)
        connection.request(method, path, body=data, headers={"Content-Type": content_type, **(headers or {})})
        response = connection.getresponse()
        answer = Answer(response.status, response.headers, response.read())
        connection.close()
        return answer
