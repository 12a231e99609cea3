"""Machines that are short of something: a process without descriptors, calls that fail, a full file system."""

from __future__ import annotations

import builtins
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest


@contextmanager
def no_descriptors(pid: int = 0, spare: int = 0) -> Iterator[None]:
    """Let a process, this one unless given, open no more than `spare` files in the block (RLIMIT_NOFILE)."""
    directory = f"/proc/{pid or 'self'}/fd"
    # One of ours belongs to the listing itself, and is free again by now.
    taken = {int(name) for name in os.listdir(directory) if os.path.lexists(f"{directory}/{name}")}
    free = [number for number in range(len(taken) + spare + 1) if number not in taken]
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (free[spare], hard))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


class Failing:
    """A stand-in for a system call: it fails `times` times where `concerns` its first argument, else it is the real one."""

    def __init__(
        self, real: Callable[..., Any], error: int, times: int, concerns: Callable[[Any], bool] = lambda first: True
    ) -> None:
        self._real = real
        self._error = error
        self._concerns = concerns
        self.left = times

    def __call__(self, first: Any, *args: Any, **kwargs: Any) -> Any:
        if self.left > 0 and self._concerns(first):
            self.left -= 1
            raise OSError(self._error, os.strerror(self._error), first)
        return self._real(first, *args, **kwargs)


def failing_open(patch: pytest.MonkeyPatch, error: int, times: int, below: Path) -> Failing:
    """Let open() fail that often for files in this directory."""
    failing = Failing(builtins.open, error, times, lambda path: str(path).startswith(f"{below}/"))
    patch.setattr(builtins, "open", failing)
    return failing


@contextmanager
def small_disk(directory: Path, kilobytes: int) -> Iterator[None]:
    """Mount a file system of that size over a directory for the block."""
    size = f"size={kilobytes}k"
    subprocess.run(["mount", "-t", "tmpfs", "-o", size, "small", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Write a file until its file system is full; the caller removes it."""
    path = directory / "filler"
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            return path
