"""How many files the process may have open.

The soft limit that a process starts with is often 1,024, for the sake of programs that use select(2) or that close every
possible descriptor one by one. Server and agent do neither, and need more; containers keep what the process started with.
"""

from __future__ import annotations

import resource
from typing import Final, NamedTuple

_MOST: Final = 1 << 20
"""The programs that the agent starts inherit the limit, and some would need seconds to close a billion descriptors."""


class Limit(NamedTuple):
    soft: int
    hard: int


_inherited = Limit(*resource.getrlimit(resource.RLIMIT_NOFILE))


def inherited() -> Limit:
    """The limit that the process started with."""
    return _inherited


def raise_limit() -> None:
    """Raise the soft limit to the hard one, or to a million where that is more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST if hard == resource.RLIM_INFINITY else min(hard, _MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
