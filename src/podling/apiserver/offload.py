"""Work on large objects happens in a thread: decoding and judging megabytes takes seconds, and nobody else waits for it.

What counts is the size of all that is processed: the body, the object that it changes, and what comes of both."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from functools import partial
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
    return len(document) > LARGE or json_bounds.may_exceed(document, _MANY)


async def run(large: bool, work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls `work`, in a thread if `large`."""
    if large:
        return await asyncio.to_thread(_without_collector, partial(work, *args, **kwargs))
    return work(*args, **kwargs)


def _without_collector(work: Callable[[], R]) -> R:
    """Call `work` while the collector of cyclic garbage rests.

    It would stop all threads to look at the objects made so far, again and again, for a second in all. There is nothing to
    find: documents and API objects are trees.
    """
    if not gc.isenabled():
        return work()  # another thread has disabled it, and enables it again
    gc.disable()
    try:
        return work()
    finally:
        gc.enable()
