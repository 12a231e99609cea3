"""Which OpenAPI document a request gets."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import msgspec

from podling.api import status
from podling.api.scheme import SERVED
from podling.apiserver import negotiation, version
from podling.apiserver.document import Document, digest, matches
from podling.apiserver.negotiation import JSON
from podling.apiserver.openapi import gnostic, schemas, v2, v3

PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
# The older name is no valid media type; client-go still asks by it.
_PROTOBUF_NAMES = (PROTOBUF, "application/com.github.proto-openapi.spec.v2@v1.0+protobuf")


def handle(path: str, query: Mapping[str, str], accept: str, etag: str = "") -> Document | None:
    """The document at /openapi/v2, /openapi/v3 or /openapi/v3/<API version>; None if there is none.

    etag: the client's If-None-Match; if it has the document the body is left empty, for making one takes some 50 ms
    (call this in a thread). Raises ApiError (406).
    """
    parts = path.strip("/").split("/")
    if parts == ["openapi", "v2"]:
        media_type = _negotiate(accept, (JSON, *_PROTOBUF_NAMES))
        tag = digest(_v2_version(), media_type.encode())
        body = b"" if matches(tag, etag) else v2.render() if media_type == JSON else gnostic.encode(v2.document())
        return Document(body, media_type, tag)
    if parts[:2] != ["openapi", "v3"]:
        return None
    if len(parts) == 2:
        _negotiate(accept, (JSON,))
        body = _index()
        return Document(body, JSON, digest(body))
    tag = _hashes().get("/".join(parts[2:]), "")
    if not tag:
        return None
    _negotiate(accept, (JSON,))
    body = b"" if matches(tag, etag) else v3.render(*_group_version(parts[2:]))
    return Document(body, JSON, tag, immutable=query.get("hash") == tag)


def _negotiate(accept: str, supported: tuple[str, ...]) -> str:
    for name, _ in negotiation.by_quality(accept or "*/*"):
        if name in ("*/*", "application/*"):
            return supported[0]
        if name in supported:
            return PROTOBUF if name in _PROTOBUF_NAMES else name
    raise status.not_acceptable(supported)


def _group_version(parts: list[str]) -> tuple[str, str]:
    return ("", parts[1]) if parts[0] == "api" else (parts[1], parts[2])


@cache
def _v2_version() -> bytes:
    return digest(schemas.version(), version.git_version().encode(), msgspec.json.encode(v2.paths())).encode()


@cache
def _hashes() -> dict[str, str]:
    """By API version, as the index names it ("api/v1", "apis/apps/v1"): the digest of its document."""
    hashes = {}
    for resource in SERVED:
        name = resource.root.strip("/")
        if name not in hashes:
            paths = msgspec.json.encode(v3.paths(resource.group, resource.version))
            hashes[name] = digest(schemas.version(), version.git_version().encode(), paths)
    return hashes


def _index() -> bytes:
    paths = {name: {"serverRelativeURL": f"/openapi/v3/{name}?hash={tag}"} for name, tag in _hashes().items()}
    return msgspec.json.encode({"paths": paths})
