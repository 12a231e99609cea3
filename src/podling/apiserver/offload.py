"""Work on large objects happens in a thread: decoding and judging megabytes takes seconds, and nobody else waits for it.

What counts is the size of all that is processed: the body, the object that it changes, and what comes of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from podling.api import json_bounds

P = ParamSpec("P")
R = TypeVar("R")

LARGE = 64 << 10
"""Bytes. What is smaller is done sooner than it is handed over."""
_MANY = 1000
"""Objects and arrays. Two bytes in a document, each may have dozens of fields once it has its type."""


def is_large(document: bytes) -> bool:
    """Return whether to work on the object in this JSON document in a thread."""
    return len(document) > LARGE or json_bounds.collections_at_most(document) > _MANY


async def run(large: bool, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `work`, in a thread if `large`."""
    if large:
        return await asyncio.to_thread(work, *args, **kwargs)
    return work(*args, **kwargs)
