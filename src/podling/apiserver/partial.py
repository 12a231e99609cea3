"""Objects cut down to their metadata: PartialObjectMetadata."""

from __future__ import annotations

import msgspec


class _Partial(msgspec.Struct):
    metadata: msgspec.Raw


_decoder = msgspec.json.Decoder(_Partial)


def partial(value: bytes) -> bytes:
    """The PartialObjectMetadata of an object, both as JSON."""
    head = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":'
    return head + bytes(_decoder.decode(value).metadata) + b"}"
