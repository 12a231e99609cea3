"""Directory trees that containers and images filled: they may be deeper than Python's own functions go."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from podling.kit import program


def remove(path: Path) -> None:
    """Removes a directory with all that is below it. Blocks. Idempotent. Raises OSError."""
    try:
        shutil.rmtree(path)
    except (RecursionError, OSError) as error:
        if not os.path.lexists(path):
            return
        done = program.call("rm", "-rf", "--one-file-system", "--", str(path))
        if done.code:
            said = done.stderr.decode(errors="replace").strip()
            raise OSError(getattr(error, "errno", 0), said, str(path)) from error


def usage(path: Path) -> tuple[int, int]:
    """(allocated bytes, inodes) of a file, or of a directory with all that is below it. Blocks, as long as it is large.

    What goes meanwhile does not count. Only files with several names are remembered, to count them once: a container can make
    millions of files. Raises OSError.
    """
    linked: set[tuple[int, int]] = set()
    pending = [str(path)]
    used = inodes = 0
    with contextlib.suppress(FileNotFoundError):
        used, inodes = os.lstat(path).st_blocks * 512, 1
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    with contextlib.suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        if entry.is_dir(follow_symlinks=False):
                            pending.append(entry.path)
                        elif status.st_nlink > 1:
                            identity = status.st_dev, status.st_ino
                            if identity in linked:
                                continue
                            linked.add(identity)
                        used += status.st_blocks * 512
                        inodes += 1
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # a path longer than the kernel takes
            return _du(path, "--block-size=1"), _du(path, "--inodes")
    return used, inodes


def _du(path: Path, what: str) -> int:
    done = program.call("du", "--summarize", "--one-file-system", what, "--", str(path))
    try:
        return int(done.stdout.split()[0])
    except (IndexError, ValueError):
        raise OSError(0, done.stderr.decode(errors="replace").strip(), str(path)) from None
