"""Jittered exponential back-off."""

from __future__ import annotations

import random


class Backoff:
    """Delays in seconds: `initial`, then times `factor` each, at most `maximum`; each multiplied by 0.5 to 1 at random,
    so that clients that lost the same server do not come back in the same instant."""

    def __init__(self, initial: float = 0.05, maximum: float = 5.0, factor: float = 1.6) -> None:
        self._initial = initial
        self._maximum = maximum
        self._factor = factor
        self._current = initial

    def next(self) -> float:
        delay = self._current
        self._current = min(self._current * self._factor, self._maximum)
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        self._current = self._initial
