"""Node ports of Services: which are taken, and the next free one."""

from __future__ import annotations

import random

from podling.apiserver.cluster_ip import AllocationError

FIRST, LAST = 30000, 32767


class NodePorts:
    def __init__(self) -> None:
        self._taken: set[int] = set()

    def take(self, port: int) -> None:
        """Raises AllocationError."""
        if not FIRST <= port <= LAST:
            raise AllocationError(
                f"provided port is not in the valid range. The range of valid ports is {FIRST}-{LAST}"
            )
        if port in self._taken:
            raise AllocationError("provided port is already allocated")
        self._taken.add(port)

    def take_next(self) -> int:
        """A free port. Raises AllocationError when there is none."""
        span = LAST - FIRST + 1
        offset = random.randrange(span)
        for step in range(span):
            port = FIRST + (offset + step) % span
            if port not in self._taken:
                self._taken.add(port)
                return port
        raise AllocationError("range is full")

    def give_back(self, port: int) -> None:
        self._taken.discard(port)

    def assume(self, port: int) -> None:
        """Marks the port of a stored Service."""
        self._taken.add(port)
