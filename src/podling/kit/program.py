"""Runs programs: under asyncio their input is a file in memory, and none outlives its caller's interest in it.

Input does not go through asyncio's PIPE. uvloop makes that a socket, which a program cannot open as /dev/stdin (ENXIO);
nft 1.0.9 does so and refuses what is not a regular file. A file in memory can be opened, read again, and needs no writer.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from podling.kit import oom_score


class Ended(NamedTuple):
    """How a program ended. `code` is its exit code, or the negative number of the signal that killed it."""

    code: int
    stdout: bytes
    stderr: bytes


async def run(
    *argv: str, input: bytes = b"", env: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> Ended:
    """Run a program to its end and return its exit code and what it wrote. Raises as `running` does."""
    async with running(*argv, input=input, env=env, pass_fds=pass_fds) as process:
        stdout, stderr = await process.communicate()
    assert process.returncode is not None
    return Ended(process.returncode, stdout, stderr)


def call(*argv: str, pass_fds: Sequence[int] = ()) -> Ended:
    """Run a program without input to its end, as `run` does, in a thread that may block. Raises OSError."""
    with oom_score.neutral():
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, pass_fds=pass_fds
        )
    with process:
        stdout, stderr = process.communicate()
    return Ended(process.returncode, stdout, stderr)


@asynccontextmanager
async def running(
    *argv: str,
    input: bytes = b"",
    env: Mapping[str, str] | None = None,
    stdout: int = asyncio.subprocess.PIPE,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a program, in a session of its own, that the block waits for (`communicate`).

    If the block raises or is cancelled, the whole session is killed. Raises OSError if the program cannot be started.
    """
    process = await _uninterrupted(_start(argv, input, env, stdout, pass_fds))
    try:
        yield process
    except BaseException:
        await _kill(process)
        raise


async def _start(
    argv: Sequence[str], data: bytes, env: Mapping[str, str] | None, stdout: int, pass_fds: Sequence[int]
) -> asyncio.subprocess.Process:
    stdin = _file(data)
    try:
        with oom_score.neutral():
            return await asyncio.create_subprocess_exec(
                *argv,
                env=env,
                stdin=stdin,
                stdout=stdout,
                stderr=asyncio.subprocess.PIPE,
                start_new_session=True,
                pass_fds=pass_fds,
            )
    finally:
        os.close(stdin)


async def _uninterrupted(
    starting: Coroutine[Any, Any, asyncio.subprocess.Process],
) -> asyncio.subprocess.Process:
    """Await `starting` to its end even if the caller is cancelled: half-way, a program runs that nobody would kill."""
    task = asyncio.ensure_future(starting)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        if task.exception() is None:
            await _kill(task.result())
        raise


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Kill the program's whole session and return when the program is gone."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _file(data: bytes) -> int:
    """Return a descriptor, at position 0, of a new file in memory that holds `data`."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
    except BaseException:
        os.close(fd)
        raise
    return fd
