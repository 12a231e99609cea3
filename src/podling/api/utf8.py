"""JSON text as Go reads it: bytes that are not UTF-8, and surrogates without their other half, become U+FFFD."""

from __future__ import annotations

import codecs
import re

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_ESCAPE = re.compile(
    rb"\\(?:(?P<pair>u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
_HANDLER = "podling-each-byte"


def _replace(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "\ufffd" * (error.end - error.start), error.end


codecs.register_error(_HANDLER, _replace)


def encoded(text: str) -> bytes:
    """Return the bytes of a text that may have come from bytes that are not UTF-8 (surrogate escapes)."""
    return text.encode(errors="surrogateescape")


def repaired(data: bytes) -> bytes:
    """Return the text with replacement characters; the same bytes where there is nothing to replace."""
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError:
            data = data.decode(errors=_HANDLER).encode()
    if b"\\u" in data and _SURROGATE.search(data):
        data = _ESCAPE.sub(lambda found: b"\\ufffd" if found["half"] else found[0], data)
    return data
