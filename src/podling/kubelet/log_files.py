"""The files of one container's log: the one in use, and those that keep what was in use before.

    0.log                           in use; the runtime writes it
    0.log.20261127-231501.250113    a file by the time of its name, oldest first; the newest is (a hard link of) the one in use

A runtime changes files in no time: when the one in use is full, it gives its name to an empty file (conmon does so by itself,
at --log-size-max). Only its second name keeps the full one. So what is on disk is bounded at every moment, however fast a
container prints and whether or not the agent runs; an agent that comes too late for one change has lost lines, never space.
What it has to do in time is a single system call, and no name ever comes to mean another file but that of the one in use.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO

_BLOCK = 4096
"""Bytes in which file systems count space."""
_STAMP = "%Y%m%d-%H%M%S.%f"


def largest(max_bytes: int, max_files: int) -> int:
    """Return the size at which the runtime must change files.

    While the agent names a new file and has not yet deleted the oldest one there is one file more than `max_files`; if a
    flood fills that one before the agent's thread runs again, there are two. A further change gives up a file that has no
    second name. With the factor, all of them together never exceed 1.2 times what the node promises.
    """
    return min(max_bytes, max_bytes * max_files * 12 // (10 * (max_files + 2)) - _BLOCK)


def named(path: Path) -> list[Path]:
    """Return the second names, oldest first. The last one may be that of the file in use."""
    prefix = f"{path.name}."
    names = (name for name in os.listdir(path.parent) if name.startswith(prefix))
    return sorted(path.with_name(name) for name in names if name[len(prefix) :][:1].isdigit())


def keep(path: Path, newest: Path | None) -> Path | None:
    """Give the file in use a second name and return it, or return None if `newest`, the last one given, is one already."""
    name = path.with_name(f"{path.name}.{_stamp(path, newest)}")
    os.link(path, name)
    if newest is None or not os.path.samefile(newest, name):
        return name
    os.unlink(name)
    return None


def _stamp(path: Path, newest: Path | None) -> str:
    """Return the time now, or one after that of `newest` if the clock was set back."""
    now = datetime.now(UTC)
    if newest is not None:
        with contextlib.suppress(ValueError):  # of an earlier version, which had no fractions
            last = datetime.strptime(newest.name.removeprefix(f"{path.name}."), _STAMP).replace(tzinfo=UTC)
            now = max(now, last + timedelta(microseconds=1))
    return now.strftime(_STAMP)


def in_use(path: Path, name: Path | None) -> bool:
    """Return whether `name` is a second name of the file in use."""
    try:
        return name is not None and os.path.samefile(path, name)
    except FileNotFoundError:
        return False


def prune(path: Path, count: int) -> None:
    """Delete the oldest files, so that `count` second names remain."""
    names = named(path)
    for one in names[: max(0, len(names) - count)]:
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
    for one in (path, path.with_name(f"{path.name}.tmp")):
        remove(one)


def files(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the files of the log, oldest first and each once, by its second name if it has one."""
    # Asked first: what was in use before this one has its second name by now, or has gone.
    current = _status(path)
    found: dict[tuple[int, int], tuple[Path, os.stat_result]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in named(path):
            if (status := _status(name)) is not None:
                found.setdefault((status.st_dev, status.st_ino), (name, status))
    if current is not None:
        found.setdefault((current.st_dev, current.st_ino), (path, current))
    return list(found.values())


def open_following(path: Path, descriptor: int) -> BinaryIO | None:
    """Open the file that goes on where an open one ends; return None if that is the one in use, or nothing is left."""
    at = os.fstat(descriptor)
    while (following := _following(files(path), at)) is not None:
        name, status = following
        with contextlib.suppress(FileNotFoundError):  # the oldest lines have gone meanwhile
            file = name.open("rb")
            if os.path.samestat(os.fstat(file.fileno()), status):
                return file
            file.close()
    return None


def _following(files: list[tuple[Path, os.stat_result]], at: os.stat_result) -> tuple[Path, os.stat_result] | None:
    for number, (_, status) in enumerate(files):
        if os.path.samestat(status, at):
            return files[number + 1] if number + 1 < len(files) else None
    # It is gone: its lines were among the oldest.
    return next((one for one in files if one[1].st_mtime_ns > at.st_mtime_ns), files[-1] if files else None)


def _status(path: Path) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None
