"""One request on its way through the server."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.web import BaseRequest, HTTPRequestEntityTooLarge, RequestPayloadError
from multidict import MultiMapping

from podling.api import status
from podling.api.scheme import Resource
from podling.apiserver import negotiation, offload, write_options
from podling.apiserver.negotiation import Accepted
from podling.apiserver.registry import Caller, Registry
from podling.apiserver.routing import RequestInfo
from podling.apiserver.user import User
from podling.apiserver.write_options import WriteOptions

if TYPE_CHECKING:
    from podling.apiserver.state import State

MAX_BODY = 3 << 20
"""Bytes of a request's body, as upstream."""
_BODY_SECONDS = 60.0
"""How long a client may take to send it: upstream's time for a whole request."""


class Call:
    """A request, who makes it and what it is about. `resource` and `registry` are there once it is routed."""

    __slots__ = ("_options", "info", "large", "query", "registry", "request", "resource", "state", "user", "warnings")

    def __init__(
        self, request: BaseRequest, info: RequestInfo, query: MultiMapping[str], user: User, state: State
    ) -> None:
        self.request = request
        self.info = info
        self.query = query
        self.user = user
        self.state = state
        self.warnings: list[str] = []
        self._options: WriteOptions | None = None
        self.large = False
        """Whether the body that was read is, or stands for, a large object."""
        self.resource: Resource
        self.registry: Registry[Any]

    @property
    def namespace(self) -> str:
        """Where the object lives: "" for cluster-scoped ones."""
        return self.info.namespace if self.resource.namespaced else ""

    def accepted(self, *, transform: bool = True) -> Accepted:
        """Raises ApiError (406)."""
        return negotiation.accept(self.request.headers.get("Accept", ""), transform=transform)

    @property
    def for_people(self) -> bool:
        """Whether the answer, if it is JSON, is to be indented."""
        return negotiation.for_people(self.query, self.request.headers.get("User-Agent", ""))

    @property
    def options(self) -> WriteOptions:
        """The options of a create, update or patch. Raises ApiError (422)."""
        if self._options is None:
            self._options = write_options.parse(self.info.verb, self.query)
        return self._options

    def caller(self, *, dry_run: bool = False) -> Caller:
        """Return on whose behalf to write. dry_run: what the body says beside the query. Raises ApiError (422)."""
        return Caller(self.user, self.warnings, dry_run=dry_run or self.options.dry_run, large=self.large)

    async def body(self) -> bytes:
        """The request's body. Raises ApiError (400, 413, 415, 504)."""
        encoding = self.request.headers.get("Content-Encoding", "")
        if encoding and encoding.lower() != "identity":
            raise status.unsupported_content_encoding(encoding)
        if self.request.headers.get("Expect", "").lower() == "100-continue" and self.request.transport is not None:
            self.request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            if self.request.content.is_eof():  # as usual, it came with the head
                body = await self.request.read()
            else:
                async with asyncio.timeout(_BODY_SECONDS):
                    body = await self.request.read()
        except TimeoutError:
            raise status.timeout(
                "request did not complete within requested timeout - context deadline exceeded"
            ) from None
        except HTTPRequestEntityTooLarge:
            raise status.request_entity_too_large(f"limit is {MAX_BODY}") from None
        except (HttpProcessingError, RequestPayloadError) as error:
            text = "its length or its chunks are not what HTTP/1.1 demands, or the connection broke off"
            raise status.bad_request(f"the body cannot be read: {text}") from error
        self.large = offload.is_large(body)
        return body
