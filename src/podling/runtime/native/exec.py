"""Commands inside a running container, run to their end: probes and hooks."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from podling.runtime.native import oci, spawn
from podling.runtime.native.cgroup import Cgroups
from podling.runtime.native.container import Container
from podling.runtime.native.host import Host
from podling.runtime.protocol import CRIError, ExecResult

OUTPUT_LIMIT = 16 << 20
"""Bytes of each stream that are kept, as in other runtimes."""


async def exec_sync(host: Host, container: Container, cmd: Sequence[str], timeout_seconds: float) -> ExecResult:
    """Runs `cmd` as the container's user with its environment; 0 seconds mean no limit.

    Raises CRIError: DeadlineExceeded when it takes longer (it and its descendants are killed), ExecFailed when it
    cannot be started.
    """
    if not container.running:
        raise CRIError("InvalidState", f"container {container.id} is not running")
    runtime = container.sandbox.runtime
    pid_file = container.bundle / f"exec-{os.urandom(8).hex()}"
    argv = [runtime.path, *runtime.global_arguments, "exec", "--pid-file", str(pid_file), container.id]
    argv += cmd
    running = asyncio.create_task(
        spawn.run_async(host.workers, argv, limit=OUTPUT_LIMIT), name=f"exec in {container.id}"
    )
    try:
        finished, _ = await asyncio.wait([running], timeout=timeout_seconds or None)
        if not finished:
            await _abort(host, container, pid_file, running)
            raise CRIError(
                "DeadlineExceeded",
                f"command {list(cmd)} timed out after {timeout_seconds:g} s in container {container.id}",
            )
        done = await running
    except OSError as error:
        raise CRIError("ExecFailed", f"command {list(cmd)} cannot be started: {error.strerror}") from error
    except asyncio.CancelledError:
        await _abort(host, container, pid_file, running)
        raise
    finally:
        started = pid_file.exists()
        pid_file.unlink(missing_ok=True)
    if done.exit_code != 0 and not started:
        raise CRIError("ExecFailed", oci.exec_error(oci.explain(done.stderr)))
    return ExecResult(stdout=done.stdout, stderr=done.stderr, exit_code=done.exit_code)


async def _abort(host: Host, container: Container, pid_file: Path, running: asyncio.Task[spawn.Completed]) -> None:
    """First the command, so that the OCI runtime, its parent, can still reap it; then the OCI runtime."""
    try:
        kill = partial(host.workers.run, _kill_tree, host.cgroups, container.record.cgroup, pid_file)
        await host.tasks.insist(kill, f"ending a command in container {container.id}", tries=6)
        await asyncio.wait([running], timeout=1)
    finally:
        running.cancel()
        await asyncio.wait([running])


def _kill_tree(cgroups: Cgroups, cgroup: str, pid_file: Path) -> None:
    """Kills the process that was executed, its session and its descendants: all of them are in the container's group."""
    try:
        root = int(pid_file.read_text())
    except (FileNotFoundError, ValueError):
        return
    doomed = {root}
    while True:
        found = set()
        for pid in cgroups.pids(cgroup):
            with contextlib.suppress(OSError, ValueError):
                fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[1]) in doomed or int(fields[3]) == root or pid == root:
                    found.add(pid)
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if found <= doomed:
            return
        doomed |= found
