"""Objects cut down to their metadata: PartialObjectMetadata."""

from __future__ import annotations

import msgspec


class _Partial(msgspec.Struct):
    metadata: msgspec.Raw


_decoder = msgspec.json.Decoder(_Partial)


def partial(value: bytes, api_version: str) -> bytes:
    """Return the PartialObjectMetadata of an object, both as JSON."""
    head = f'{{"kind":"PartialObjectMetadata","apiVersion":"{api_version}","metadata":'.encode()
    return head + bytes(_decoder.decode(value).metadata) + b"}"
