"""Objects cut down to their metadata: PartialObjectMetadata."""

from __future__ import annotations

import msgspec

from podling.api.meta.v1 import ObjectMeta


class _Partial(msgspec.Struct):
    metadata: msgspec.Raw


class _Metadata(msgspec.Struct):
    metadata: ObjectMeta


_decoder = msgspec.json.Decoder(_Partial)
_metadata_decoder = msgspec.json.Decoder(_Metadata)


def partial(value: bytes, api_version: str) -> bytes:
    """Return the PartialObjectMetadata of an object, both as JSON."""
    head = f'{{"kind":"PartialObjectMetadata","apiVersion":"{api_version}","metadata":'.encode()
    return head + bytes(_decoder.decode(value).metadata) + b"}"


def metadata_of(value: bytes) -> ObjectMeta:
    """Return the metadata of a stored object. The rest of it is passed over, which costs little however large it is."""
    return _metadata_decoder.decode(value).metadata
