"""Whether the files of a database are still there: what is written into deleted ones is lost, and nothing fails."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from inotify_simple import INotify, flags


async def gone(*files: Path) -> Path:
    """Return the first of these files, all in one directory, that is not there any more under its name."""
    directory = files[0].parent
    loop = asyncio.get_running_loop()
    changed = asyncio.Event()
    with INotify() as inotify:
        inotify.add_watch(directory, flags.DELETE | flags.MOVED_FROM | flags.DELETE_SELF | flags.MOVE_SELF)
        # Looked at after the watch begins, so that nothing is missed in between.
        known = {file: os.stat(file) for file in files}
        loop.add_reader(inotify.fd, changed.set)
        try:
            while True:
                for file, before in known.items():
                    try:
                        if not os.path.samestat(before, os.stat(file)):
                            return file
                    except FileNotFoundError:
                        return file
                await changed.wait()
                changed.clear()
                inotify.read(timeout=0)
        finally:
            loop.remove_reader(inotify.fd)
