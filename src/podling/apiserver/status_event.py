"""Errors inside a stream that has already begun."""

from __future__ import annotations

from podling.api import codec
from podling.api.meta.v1 import Status


def error_event(failure: Status) -> bytes:
    """A watch event of type ERROR."""
    return b'{"type":"ERROR","object":' + codec.encode(failure) + b"}\n"
