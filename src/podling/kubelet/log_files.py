"""The files of one container's log: the one in use and those that were rotated away, oldest first.

    0.log                           in use; the runtime writes it
    0.log.20261127-231501.250113    rotated, the oldest first by name
    .0.log.next                     another name (hard link) of the file in use

A runtime changes files in no time: when the one in use is full, it gives its name to an empty file (conmon does so by itself,
at --log-size-max). Only the second name keeps the full one, which then becomes a rotated one. So what is on disk is bounded
at every moment, however fast a container prints and whether or not the agent runs; an agent that comes too late for one
change has lost lines, never space.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

_BLOCK = 4096
"""Bytes in which file systems count space."""


def largest(max_bytes: int, max_files: int) -> int:
    """Return the size at which the runtime must change files.

    While the agent keeps a full file and has not yet deleted the oldest one there is one file more than `max_files`; if a flood
    fills the next file before the agent's thread runs again, there are two. A further change gives up a file that has no second
    name. With the factor, all of them together never exceed 1.2 times what the node promises.
    """
    return min(max_bytes, max_bytes * max_files * 12 // (10 * (max_files + 2)) - _BLOCK)


def kept(path: Path) -> Path:
    """Return the second name of the file in use."""
    return path.with_name(f".{path.name}.next")


def rotated(path: Path) -> list[Path]:
    """Return the rotated files, oldest first."""
    prefix = f"{path.name}."
    names = (name for name in os.listdir(path.parent) if name.startswith(prefix))
    return sorted(path.with_name(name) for name in names if name[len(prefix) :][:1].isdigit())


def keep(path: Path) -> bool:
    """Give the file in use its second name; the one that bore it before becomes a rotated file. Return whether one did."""
    second = kept(path)
    before = _identity(second)
    if before is not None:
        if before == _identity(path):
            return False
        stamp = datetime.fromtimestamp(os.stat(second).st_mtime, UTC).strftime("%Y%m%d-%H%M%S.%f")
        # Two files that were full within the same tick of the clock must not become one.
        number, name = 0, f"{path.name}.{stamp}"
        while os.path.lexists(path.with_name(name)):
            number += 1
            name = f"{path.name}.{stamp}.{number:03}"
        os.rename(second, path.with_name(name))
    os.link(path, second)
    return before is not None


def in_use(path: Path) -> bool:
    """Return whether the file that bears the second name is still the one in use."""
    return _identity(path) == _identity(kept(path))


def prune(path: Path, count: int) -> None:
    """Delete all rotated files but the newest `count`."""
    old = rotated(path)
    for one in old[: max(0, len(old) - count)]:
        remove(one)


def remove(path: Path) -> None:
    """Delete a file and give back its space now, even if a reader that does not read on holds it open."""
    with contextlib.suppress(FileNotFoundError):
        written = os.stat(path).st_mtime_ns
        os.truncate(path, 0)
        os.utime(path, ns=(written, written))  # by which a reader finds the file that follows
        os.unlink(path)


def remove_all(path: Path) -> None:
    """Delete every file of the log."""
    with contextlib.suppress(FileNotFoundError):
        prune(path, 0)
    for one in (path, kept(path), path.with_name(f"{path.name}.tmp")):
        remove(one)


def following(path: Path, descriptor: int) -> Path | None:
    """Return the file that goes on where an open one ends, or None when that is the one in use."""
    at = os.fstat(descriptor)
    files: list[tuple[Path, os.stat_result]] = []
    for one in _sequence(path):
        with contextlib.suppress(FileNotFoundError):
            files.append((one, os.stat(one)))
    for number, (_, status) in enumerate(files):
        if (status.st_dev, status.st_ino) == (at.st_dev, at.st_ino):
            return files[number + 1][0] if number + 1 < len(files) else None
    # It is gone: its lines were among the oldest.
    return next((one for one, status in files if status.st_mtime_ns > at.st_mtime_ns or one == path), None)


def _sequence(path: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from rotated(path)
    if not in_use(path):
        yield kept(path)
    yield path


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
