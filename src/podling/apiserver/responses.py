"""Answers: JSON (or YAML) bodies, compression, warnings and errors."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import zlib
from collections.abc import AsyncGenerator, Sequence

from aiohttp.web import Response, StreamResponse
from multidict import CIMultiDict

from podling.api import codec
from podling.api.meta.v1 import Status
from podling.apiserver import negotiation, offload
from podling.apiserver.call import Call
from podling.apiserver.document import Document, matches
from podling.apiserver.negotiation import JSON, YAML

log = logging.getLogger(__name__)

_COMPRESS_FROM = 128 << 10
"""Smaller bodies are not worth it (upstream's threshold)."""
_WARNINGS_SIZE, _WARNING_SIZE = 4096, 256
"""Characters of all warnings; of each, where all are too long. Both as upstream."""
_WARNINGS = 64
"""Python's http.client reads 100 headers."""


async def send(call: Call, value: bytes, *, code: int = 200, media_type: str = JSON) -> Response:
    """A JSON value, in the media type negotiated."""
    headers: CIMultiDict[str] = CIMultiDict()
    headers["Content-Type"] = media_type
    headers["Cache-Control"] = "no-cache, private"
    warn(headers, call.warnings)
    if not value.endswith(b"\n"):
        value += b"\n"
    if media_type == YAML:
        value = await asyncio.to_thread(negotiation.to_yaml, value)
    elif call.for_people:
        value = await offload.run(len(value) > offload.LARGE, negotiation.indented, value)
    if len(value) >= _COMPRESS_FROM and "gzip" in call.request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept-Encoding"
        value = await asyncio.to_thread(_gzip, value)
    return Response(body=value, status=code, headers=headers)


async def send_pieces(call: Call, pieces: AsyncGenerator[bytes, None], media_type: str) -> StreamResponse:
    """An answer whose size is not known: whole if it is one piece, else piece by piece, as fast as the client reads.

    Pieces but the last have _COMPRESS_FROM bytes or more."""
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": media_type, "Cache-Control": "no-cache, private"})
    warn(headers, call.warnings)
    async with contextlib.aclosing(pieces):
        first = await anext(pieces)
        second = await anext(pieces, None)
        if second is None and len(first) < _COMPRESS_FROM:
            return Response(body=first, headers=headers)
        compressor = None
        if "gzip" in call.request.headers.get("Accept-Encoding", ""):
            headers["Content-Encoding"] = "gzip"
            headers["Vary"] = "Accept-Encoding"
            compressor = _compressor()
        response = StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(call.request)
        try:
            piece: bytes | None = first
            while piece is not None:
                await response.write(await asyncio.to_thread(compressor.compress, piece) if compressor else piece)
                piece, second = second, await anext(pieces, None) if second is not None else None
            if compressor is not None:
                await response.write(compressor.flush())
        except ConnectionError:
            raise
        except Exception as error:
            # The answer has begun: breaking off without the last chunk tells the client that this is not all.
            log.exception("list of %s failed", call.request.path)
            raise ConnectionResetError("the list could not be completed") from error
    await response.write_eof()
    return response


async def document(call: Call, value: Document) -> Response:
    """A document of the server, or 304 if the client has it."""
    headers = {"Content-Type": value.content_type, "ETag": f'"{value.etag}"', "Vary": "Accept"}
    headers["Cache-Control"] = "public, immutable" if value.immutable else "public"
    if matches(value.etag, call.request.headers.get("If-None-Match", "")):
        return Response(status=304, headers=headers)
    body = value.body
    if len(body) >= _COMPRESS_FROM and "gzip" in call.request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        headers["Vary"] = "Accept, Accept-Encoding"
        body = await asyncio.to_thread(_gzip, body)
    return Response(body=body, headers=headers)


def error(failure: Status, warnings: tuple[str, ...] = (), *, for_people: bool = False) -> Response:
    """The answer to a request that failed, indented or not."""
    headers = CIMultiDict({"Content-Type": JSON, "Cache-Control": "no-cache, private"})
    warn(headers, warnings)
    if failure.details is not None and failure.details.retry_after_seconds:
        headers["Retry-After"] = str(failure.details.retry_after_seconds)
    if failure.code == 401:
        headers["Www-Authenticate"] = 'Bearer realm="kubernetes-master"'
    body = codec.encode_any_text(failure) + b"\n"
    if for_people:
        body = negotiation.indented(body)
    return Response(body=body, status=failure.code or 500, headers=headers)


def text(value: str, *, code: int = 200) -> Response:
    return Response(text=value, status=code, headers={"Content-Type": "text/plain; charset=utf-8"})


def warn(headers: CIMultiDict[str], warnings: Sequence[str]) -> None:
    """Each warning once; of too many, the first, shortened, as upstream: clients limit what headers they read."""
    if not warnings:
        return
    texts = list(dict.fromkeys(warnings))
    if sum(map(len, texts)) > _WARNINGS_SIZE:
        texts = [text[:_WARNING_SIZE] for text in texts]
    left = _WARNINGS_SIZE
    for text in texts[:_WARNINGS]:
        left -= len(text)
        if left < 0:
            break
        headers.add("Warning", f"299 - {_quoted(text)}")


def _compressor() -> zlib._Compress:
    return zlib.compressobj(1, zlib.DEFLATED, 16 + zlib.MAX_WBITS)


def _gzip(value: bytes) -> bytes:
    compressor = _compressor()
    return compressor.compress(value) + compressor.flush()


def _quoted(value: str) -> str:
    plain = "".join(char if char.isprintable() and ord(char) < 256 else " " for char in value)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
