"""A cache of what clients send again and again: short texts. Long ones, each of its own, would fill the memory."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, wraps
from typing import TypeVar

R = TypeVar("R")

LONGEST = 1024


def short_cache(size: int) -> Callable[[Callable[[str], R]], Callable[[str], R]]:
    """Return a decorator that keeps the results for so many texts of LONGEST characters or less."""

    def decorate(function: Callable[[str], R]) -> Callable[[str], R]:
        cached = lru_cache(size)(function)

        @wraps(function)
        def call(text: str) -> R:
            return cached(text) if len(text) <= LONGEST else function(text)

        return call

    return decorate
