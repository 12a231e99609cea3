"""A document about the server itself (discovery, OpenAPI), ready to be sent."""

from __future__ import annotations

import hashlib

from msgspec import Struct


class Document(Struct, frozen=True):
    body: bytes
    content_type: str
    etag: str
    """Without quotes."""
    immutable: bool = False
    """Whether the URL asked for names the content, so that a client may keep it for ever."""


def digest(*parts: bytes) -> str:
    """The ETag of what is made of these parts."""
    return hashlib.sha512(b"\0".join(parts)).hexdigest().upper()


def matches(etag: str, if_none_match: str) -> bool:
    """Whether a client has the document already, by its If-None-Match header."""
    tags = [tag.strip().removeprefix("W/").strip('"') for tag in if_none_match.split(",")]
    return etag in tags or "*" in tags
