"""Container logs as `kubectl logs` reads them: CRI log files filtered by time, tail and size, followed by inotify.

Line format: "<RFC 3339 nanoseconds> <stdout|stderr> <P|F> <text>\\n" (CRI, "Container logging"; P marks a part
of a longer line). Options: PodLogOptions of the Pod API.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import AsyncGenerator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from inotify_simple import flags
from msgspec import Struct

from podling.api import time as times
from podling.kit.file_events import FileEvents
from podling.kubelet import log_files

_CHUNK = 256 * 1024


class LogOptions(Struct, kw_only=True, frozen=True):
    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: str = ""
    """RFC 3339, as lines begin: earlier lines are left out."""
    limit_bytes: int | None = None
    stream: str = "All"
    """All, Stdout or Stderr."""


_EVENTS = flags.MODIFY | flags.CLOSE_WRITE | flags.MOVE_SELF | flags.DELETE_SELF


class FileWatch:
    """Wakes when a file is written, closed by its writer, moved or deleted, or another takes its name."""

    def __init__(self, path: Path) -> None:
        self._changed = asyncio.Event()
        self._events = FileEvents(self.wake, self.wake)
        try:
            self.follow(path)
            self._events.watch(path.parent, flags.CREATE | flags.MOVED_TO)
        except OSError:  # it was removed meanwhile
            self.close()
            raise

    def follow(self, path: Path) -> None:
        """Watches `path` too (the file that took the name of a rotated one)."""
        self._events.watch(path, _EVENTS)

    def wake(self, _cause: object = None) -> None:
        self._changed.set()

    async def wait(self) -> None:
        await self._changed.wait()
        self._changed.clear()

    def close(self) -> None:
        self._events.close()


def tail_offset(file: BinaryIO, lines: int) -> int:
    """Where the last `lines` lines of the file begin."""
    end = file.seek(0, os.SEEK_END)
    if lines <= 0:
        return end
    position, needed = end, lines + 1
    while position > 0:
        start = max(0, position - _CHUNK)
        file.seek(start)
        block = file.read(position - start)
        if position == end and not block.endswith(b"\n"):
            needed -= 1
        found = block.count(b"\n")
        if found >= needed:
            at = len(block)
            for _ in range(needed):
                at = block.rindex(b"\n", 0, at)
            return start + at + 1
        needed -= found
        position = start
    return 0


def instant(text: bytes) -> tuple[float, int]:
    """A comparable instant from an RFC 3339 time with up to nine fraction digits. Raises ValueError."""
    stamp = text.decode("ascii", "replace")
    body, fraction = stamp, ""
    if "." in stamp:
        body, rest = stamp.split(".", 1)
        digits = 0
        while digits < len(rest) and rest[digits].isdigit():
            digits += 1
        fraction, body = rest[:digits], body + rest[digits:]
    return datetime.fromisoformat(body).timestamp(), int(fraction.ljust(9, "0")[:9] or 0)


def _shown(stamp: bytes) -> bytes:
    """Return the time of a line as users see it: in UTC, with nine digits."""
    try:
        seconds, nanoseconds = instant(stamp)
    except ValueError:
        return stamp
    return f"{times.from_seconds(seconds).removesuffix('Z')}.{nanoseconds:09d}Z".encode()


class _Filter:
    """Turns raw CRI log lines into what the user sees."""

    def __init__(self, options: LogOptions) -> None:
        self._timestamps = options.timestamps
        self._since = instant(options.since.encode()) if options.since else None
        self._left = options.limit_bytes
        self._stream = options.stream.lower().encode() if options.stream != "All" else b""
        self._continues = False

    @property
    def full(self) -> bool:
        return self._left is not None and self._left <= 0

    def lines(self, raw: bytes) -> bytes:
        out: list[bytes] = []
        for line in _lines(raw):
            parts = line.split(b" ", 3)
            if len(parts) < 4:
                continue
            stamp, stream, tag, text = parts
            if self._stream and stream != self._stream:
                continue
            if self._since is not None:
                try:
                    if instant(stamp) < self._since:
                        continue
                except ValueError:
                    continue
                self._since = None
            partial = tag.startswith(b"P")
            if partial:
                text = text.removesuffix(b"\n")
            if self._timestamps and not self._continues:
                text = _shown(stamp) + b" " + text
            self._continues = partial
            out.append(text)
        data = b"".join(out)
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        return data


def _lines(raw: bytes) -> list[bytes]:
    """With their ends. Not bytes.splitlines, which takes a carriage return, as progress bars use it, for an end."""
    return [line for line in re.split(rb"(?<=\n)", raw) if line]


async def read_logs(path: Path, options: LogOptions, exited: asyncio.Event) -> AsyncGenerator[bytes, None]:
    """Yields the log of one container; with `follow`, until the container has ended and all was read.

    `exited` is set once the container does not run. Raises FileNotFoundError when there is no log file.
    """
    select = _Filter(options)
    file: BinaryIO = await asyncio.to_thread(path.open, "rb")
    watch = FileWatch(path) if options.follow else None
    exit_wait: asyncio.Task[bool] | None = None
    try:
        if watch is not None:
            exit_wait = asyncio.create_task(exited.wait())
            exit_wait.add_done_callback(watch.wake)
        if options.tail_lines is not None:
            file.seek(await asyncio.to_thread(tail_offset, file, options.tail_lines))
        rest = b""
        while not select.full:
            ended = watch is None or exited.is_set()
            while chunk := await asyncio.to_thread(file.read, _CHUNK):
                whole, newline, tail = (rest + chunk).rpartition(b"\n")
                rest = tail
                if data := select.lines(whole + newline):
                    yield data
                if select.full:
                    return
            # Before the end counts: what was written last may stand in a file that took the name meanwhile.
            following = await asyncio.to_thread(_next, file, path) if watch is not None else None
            if watch is not None and following is not None:
                file.close()
                file, rest = following, b""
                with contextlib.suppress(FileNotFoundError):
                    watch.follow(path)
            elif ended or watch is None:
                if rest and (data := select.lines(rest)):
                    yield data
                return
            else:
                await watch.wait()
    finally:
        if exit_wait is not None:
            exit_wait.cancel()
        if watch is not None:
            watch.close()
        file.close()


def _next(file: BinaryIO, path: Path) -> BinaryIO | None:
    """Open the file that goes on where this one, read to its end, was rotated; None while it is the one in use."""
    following = log_files.open_following(path, file.fileno())
    # Asked last: what is followed by another is not written any more.
    if following is not None and file.tell() < os.fstat(file.fileno()).st_size:
        following.close()
        return None
    return following
