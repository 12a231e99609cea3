"""Disks of a few megabytes, to be filled without harm to the machine."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def mounted(path: Path, megabytes: int) -> Iterator[Path]:
    """A tmpfs at `path`, which is made if it does not exist."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=755", "none", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 MB."""
    with mounted(tmp_path / "disk", 64) as path:
        yield path


def fill(directory: Path) -> Path:
    """Takes all that is free, and returns the file that has it."""
    filler = directory / "filler"
    with filler.open("ab") as file:
        for size in (1 << 20, 4096):
            with pytest.raises(OSError, match="No space left"):  # noqa: PT012
                while True:
                    os.write(file.fileno(), b"\0" * size)
    return filler
