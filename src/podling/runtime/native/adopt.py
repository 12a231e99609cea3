"""Taking over what an earlier agent left: what is whole goes on, the rest is cleaned up."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import select
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from podling.runtime.native import bundle, sandbox
from podling.runtime.native.container import Container
from podling.runtime.native.host import Host
from podling.runtime.native.sandbox import Sandbox
from podling.runtime.protocol import CRIError

log = logging.getLogger(__name__)

_TRIES = 6
"""Of taking over what the machine is too short of something for; some two seconds."""

SETTLE_TIMEOUT = 10.0
"""Seconds that programs started by the earlier agent get to end by themselves."""


async def adopt(host: Host, sandboxes: dict[str, Sandbox], containers: dict[str, Container]) -> None:
    """Fills `sandboxes` and `containers`."""
    await host.workers.run(settle, host)
    known = dict(await host.workers.run(lambda: list(host.records.load_sandboxes())))
    inner = dict(await host.workers.run(lambda: list(host.records.load_containers())))
    for sandbox_id, record in known.items():
        if record is not None:
            sandboxes[sandbox_id] = Sandbox(host, record)
    for container_id, container_record in inner.items():
        if container_record is not None and container_record.sandbox_id in sandboxes:
            parent = sandboxes[container_record.sandbox_id]
            one = Container(host, parent, container_record)
            one.targets = containers
            containers[container_id] = parent.containers[container_id] = one

    async def take(one: Container) -> None:
        try:
            if not await host.tasks.insist(one.adopt, f"taking over container {one.id}", _TRIES):
                del containers[one.id]
                del one.sandbox.containers[one.id]
        except (CRIError, OSError):  # one that resists must not keep the others from being served; it can be removed
            log.exception("container %s cannot be taken over", one.id)

    async with asyncio.TaskGroup() as group:
        for one in list(containers.values()):
            group.create_task(take(one))
    for pod in list(sandboxes.values()):
        try:
            if not await host.tasks.insist(pod.adopt, f"taking over sandbox {pod.id}", _TRIES):
                del sandboxes[pod.id]
        except (CRIError, OSError):
            log.exception("sandbox %s cannot be taken over", pod.id)
    for sandbox_id in known.keys() - sandboxes.keys():
        await host.workers.run(sandbox.remove_traces, host, sandbox_id)
    for container_id in inner.keys() - containers.keys():
        await host.workers.run(bundle.remove_traces, host, container_id)
    await host.workers.run(sweep, host, set(sandboxes), set(containers))


def settle(host: Host) -> None:
    """Waits until no OCI runtime program of an earlier agent is in the middle of something; kills those that stay.

    A program in `exec` runs as long as its command, and a conmon whose container is not made yet would go on to make
    it: both are killed at once, the OCI runtime below conmon with it.
    """
    poll = select.poll()
    waiting: dict[int, int] = {}
    try:
        for pid, arguments in _programs(str(host.layout.oci)):
            with contextlib.suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                waiting[fd] = pid
                poll.register(fd, select.POLLIN)
                if b"--exit-dir" in arguments or b"exec" in arguments:
                    signal.pidfd_send_signal(fd, signal.SIGKILL)
        if _wait(poll, waiting):
            return
        for fd in waiting:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        if not _wait(poll, waiting):
            log.warning("processes of an earlier agent do not end: %s", sorted(waiting.values()))
    finally:
        for fd in waiting:
            os.close(fd)


def _wait(poll: select.poll, waiting: dict[int, int]) -> bool:
    deadline = time.monotonic() + SETTLE_TIMEOUT
    while waiting and (left := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll(left * 1000):
            poll.unregister(fd)
            os.close(fd)
            del waiting[fd]
    return not waiting


def _programs(root: str) -> Iterator[tuple[int, list[bytes]]]:
    """Programs at work that name our state directory as an argument, with their arguments.

    Left out are conmons that watch their container, and first processes of containers that are created but not
    started: these bear the arguments of the program that made them.
    """
    host_mounts = os.readlink("/proc/self/ns/mnt")
    for entry in os.listdir("/proc"):
        if not entry.isdecimal() or int(entry) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            arguments = Path(f"/proc/{entry}/cmdline").read_bytes().split(b"\0")
            if root.encode() not in arguments or os.readlink(f"/proc/{entry}/ns/mnt") != host_mounts:
                continue
            if b"--exit-dir" in arguments and os.path.exists(arguments[arguments.index(b"-p") + 1]):
                continue
            yield int(entry), arguments


def sweep(host: Host, sandboxes: set[str], containers: set[str]) -> None:
    """Removes what bears the name of no record."""
    for directory in (host.layout.sandboxes, host.layout.pause):
        for name in os.listdir(directory):
            if name not in sandboxes:
                sandbox.remove_traces(host, name)
    for name in os.listdir(host.layout.bundles):
        if name not in containers:
            bundle.remove_traces(host, name)
    for name in os.listdir(host.layout.oci):
        if name not in containers and name not in sandboxes:
            host.runtime.delete(name)
    for name in os.listdir(host.layout.exits):
        if name not in containers:
            (host.layout.exits / name).unlink(missing_ok=True)
