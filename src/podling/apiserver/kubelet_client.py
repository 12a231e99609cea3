"""Calls to the kubelets' own API (:10250), with the API server's client certificate."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from aiohttp import (
    ClientConnectorError,
    ClientError,
    ClientResponse,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    TCPConnector,
)
from msgspec import Struct
from yarl import URL

from podling.api import status
from podling.api.core.v1 import Node
from podling.apiserver.pki import PKI
from podling.kit import connection_error

_ADDRESS_TYPES = ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS")
_DEFAULT_PORT = 10250
_CONNECT_TIMEOUT = 10.0
_REDIRECTS = (301, 302, 303, 307, 308)


class Endpoint(Struct, frozen=True):
    """Where the kubelet of a node listens."""

    node: str
    address: str
    port: int

    @classmethod
    def of(cls, node: Node) -> Endpoint:
        """Raises ApiError (500) for a node that has no address yet."""
        known = {address.type: address.address for address in reversed(node.status.addresses)}
        address = next((known[type_] for type_ in _ADDRESS_TYPES if type_ in known), "")
        if not address:
            raise status.internal(f"no preferred addresses found; known addresses: {list(known.values())}")
        return cls(node.metadata.name, address, node.status.daemon_endpoints.kubelet_endpoint.port or _DEFAULT_PORT)


class KubeletClient:
    """One for the server's life; `close()` it. The session is made at the first call."""

    def __init__(self, pki: PKI) -> None:
        self._pki = pki
        self._session: ClientSession | None = None

    @asynccontextmanager
    async def get(self, endpoint: Endpoint, path: str, query: Mapping[str, str]) -> AsyncIterator[ClientResponse]:
        """GET of a path, its body to be streamed.

        Raises ApiError (500) where the kubelet is not reached, or answers with a redirect: an attacker on a node could make
        this server fetch what only this server can reach (CVE-2018-1002102).
        """
        host = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        url = URL(f"https://{host}:{endpoint.port}").join(URL(path)).with_query(dict(query))
        session = self._session or await self._open()
        # The certificate must be that node's, at whatever address it is.
        try:
            response = await session.get(url, server_hostname=endpoint.node, allow_redirects=False)
        except (ClientError, TimeoutError, OSError) as error:
            why = connection_error.reason(error)
            if isinstance(error, ClientConnectorError) and not isinstance(error, ClientSSLError):
                why = f"dial tcp {host}:{endpoint.port}: connect: {why}"
            raise status.internal(f'error dialing backend: Get "{url}": {why}') from error
        try:
            if response.status in _REDIRECTS:
                place = response.headers.get("Location", "").encode(errors="replace").decode()
                raise status.unexpected(f'Get "{place}": redirects forbidden')
            yield response
        finally:
            response.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def _open(self) -> ClientSession:
        context = await asyncio.to_thread(self._context)
        if self._session is None:  # another call may have made it meanwhile
            timeout = ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT)
            self._session = ClientSession(connector=TCPConnector(ssl=context, limit=0), timeout=timeout)
        return self._session

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=str(self._pki.ca.cert))
        pair = self._pki.kubelet_client
        context.load_cert_chain(pair.cert, pair.key)
        return context
