"""Words for the operating system: C ends a word at a NUL, so that what was checked would not be what is used.

Python refuses such words with ValueError, ctypes and JSON cut them or hand them on. Whoever takes words from strangers
looks for them here first.
"""

from __future__ import annotations

import contextlib
from typing import Any

import msgspec
from msgspec import Struct


def flaw(value: Any, name: str = "") -> str | None:
    """Return which text in a struct, list or mapping the system cannot take, and why; None if it can take all.

    The text itself is not shown: it may be secret.
    """
    with contextlib.suppress(UnicodeEncodeError):
        if b"\\u0000" not in msgspec.json.encode(value, enc_hook=str):
            return None  # the usual case: a hundred texts take microseconds
    return _find(value, name)


def _find(value: Any, name: str) -> str | None:
    if isinstance(value, str):
        if "\0" in value:
            return f"{name} holds a NUL character"
        return None if value.isascii() or _is_unicode(value) else f"{name} holds bytes that are not UTF-8"
    for part, inner in _parts(value, name):
        if (found := _find(inner, part)) is not None:
            return found
    return None


def _parts(value: Any, name: str) -> list[tuple[str, Any]]:
    if isinstance(value, Struct):
        prefix = f"{name}." if name else ""
        fields = zip(value.__struct_encode_fields__, value.__struct_fields__, strict=True)
        return [(prefix + wire, getattr(value, attribute)) for wire, attribute in fields]
    if isinstance(value, dict):
        return [(name, part) for entry in value.items() for part in entry]
    if isinstance(value, list | tuple):
        return [(f"{name}[{index}]", part) for index, part in enumerate(value)]
    return []


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
