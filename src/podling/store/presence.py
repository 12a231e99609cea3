"""Whether the files of a database are still there: what is written into deleted ones is lost, and nothing fails."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

from inotify_simple import flags

from podling.kit.file_events import FileEvents

_LOOK_SECONDS = 5.0
"""No event of the directory tells that one above it was renamed."""

_CONTENT = flags.CREATE | flags.MOVED_TO | flags.DELETE | flags.MOVED_FROM
_ITSELF = flags.DELETE_SELF | flags.MOVE_SELF


async def gone(*files: Path) -> Path:
    """Return the first of these files, all in one directory, that is not there any more under its name."""
    changed = asyncio.Event()
    events = FileEvents(lambda event: changed.set(), changed.set)
    try:
        events.watch(files[0].parent, _CONTENT | _ITSELF)
        # Looked at after the watch begins, so that nothing is missed in between.
        known = {file: os.stat(file) for file in files}
        while True:
            for file, before in known.items():
                try:
                    if not os.path.samestat(before, os.stat(file)):
                        return file
                except FileNotFoundError:
                    return file
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await changed.wait()
            changed.clear()
    finally:
        events.close()
