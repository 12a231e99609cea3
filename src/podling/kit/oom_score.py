"""How likely the kernel ends this process when the machine has no memory left (oom_score_adj, proc(5)).

Server and agent outlive what runs in containers: they have the scores of upstream's components. A program inherits the
score of the process that starts it, so this process has the neutral score, 0, while it starts one. That leaves no moment
in which the program, or what it starts in turn, has another score; and this process stays behind nearly all containers
even then, whose scores are mostly above 0. conmon needs no exception: it lowers its own score to -1000, and its newer
versions start the container with the score that they were started with.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

log = logging.getLogger(__name__)

NEUTRAL: Final = 0

_FILE: Final = "/proc/self/oom_score_adj"

_lock = threading.Lock()
_starting = 0
"""Blocks of `neutral` that have begun and not ended, in all threads."""
_own = NEUTRAL
_fd = -1
"""_FILE, held open: a program must start with the right score also when no descriptor is left."""


def protect(score: int) -> None:
    """Lower this process's score to `score`, or warn where that is not permitted. Called once, before threads start."""
    global _own, _fd
    _fd = os.open(_FILE, os.O_WRONLY | os.O_CLOEXEC)
    _own = int(Path(_FILE).read_text())
    if score >= _own:
        return
    try:
        _set(score)
    except PermissionError:
        log.warning(
            "oom_score_adj stays %d and is not lowered to %d, which needs CAP_SYS_RESOURCE: when memory runs out, "
            "the kernel may end this process before containers",
            _own,
            score,
        )
    else:
        _own = score


@contextlib.contextmanager
def neutral() -> Iterator[None]:
    """A program that is started inside the block has the score 0, unless this process may not lower its own to that."""
    global _starting
    with _lock:
        _starting += 1
        if _starting == 1:
            _change(NEUTRAL)
    try:
        yield
    finally:
        with _lock:
            _starting -= 1
            if not _starting:
                _change(_own)


def _change(score: int) -> None:
    """Set the score where it is another than the process has outside of `neutral`, or back."""
    if _own != NEUTRAL:
        # A score above 0 may have been given with privilege; nothing depends on getting it back.
        with contextlib.suppress(PermissionError):
            _set(score)


def _set(score: int) -> None:
    os.write(_fd, str(score).encode())
