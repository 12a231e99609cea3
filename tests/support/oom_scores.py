"""A component's oom_score_adj, in the test's own process.

Every process may raise its score and lower it again, so it is a higher one: what a program inherits shows as well as with
the lower one that needs CAP_SYS_RESOURCE.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from podling.kit import oom_score
from podling.runtime.native import spec

SCORE = 500


def read(pid: int | str = "self") -> int:
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@pytest.fixture
def own_score(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The score of this process during the test, in which it is a component."""
    before = read()
    monkeypatch.setattr(oom_score, "_own", 0)
    monkeypatch.setattr(oom_score, "_fd", -1)
    write(SCORE)
    spec._own_oom_score_adj.cache_clear()
    try:
        oom_score.protect(SCORE)
        yield SCORE
    finally:
        os.close(oom_score._fd)
        write(before)
        spec._own_oom_score_adj.cache_clear()


def write(score: int) -> None:
    Path("/proc/self/oom_score_adj").write_text(str(score))
