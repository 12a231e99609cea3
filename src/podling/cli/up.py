"""`podling up`: starts the cluster in the background and returns when its node is Ready."""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import select
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from typing import Any

from podling.cli import checks, down, lock, notify, process, run_dir, systemd
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError, one_line
from podling.cli.notify import Listener
from podling.cli.settings import CONFIG_FILE, Settings

READY_SECONDS = 60.0
QUIET_SECONDS = 2.0
"""What takes longer is announced."""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("up", help="start the cluster", description=__doc__)
    cluster_settings.add_flags(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with lock.held(args.data_dir, create=True):
        return _up(args)


def _up(args: argparse.Namespace) -> int:
    started = time.monotonic()
    saved = cluster_settings.load(args.data_dir)
    if saved is None and (found := cluster_settings.find(args.data_dir)) is not None:
        raise CommandError(cluster_settings.deleted(found))
    settings = cluster_settings.wanted(args, saved)
    running = {name: pid for name in process.NAMES if (pid := process.find(settings, name))}
    if running and saved is not None and settings != saved:
        changed = [name for name in vars(settings) if getattr(settings, name) != getattr(saved, name)]
        flags = ", ".join(cluster_settings.flag(name) for name in changed)
        raise CommandError(f"the cluster is up with another {flags}: `{settings.command('down')}` first")
    _check_machine(settings, running, new=saved is None)
    missing = [name for name in process.NAMES if name not in running]
    with _full_disk_named(settings):
        cluster_settings.save(settings)
        run_dir.prepare(settings)
        if missing:
            _start(settings, missing, started)
        _wait_until_ready(settings, started)
    how = f"is up after {time.monotonic() - started:.1f} s" if missing else "is up already"
    print(f"Podling {how}: node {settings.node_name} is Ready.")
    print(f"  export KUBECONFIG={settings.kubeconfig}")
    return 0


@contextlib.contextmanager
def _full_disk_named(settings: Settings) -> Iterator[None]:
    """A cluster that exists may start on a full disk, and is needed there to delete Pods. If it fails, that is why.

    The logs say nothing then, since there is no room to write them.
    """
    try:
        yield
    except (CommandError, OSError) as error:
        disk = checks.disk(settings.data_dir)
        if not disk.problem or not disk.required:
            raise
        raise CommandError(f"the disk {disk.problem}: {disk.remedy} ({one_line(error)})") from error


def _check_machine(settings: Settings, running: Mapping[str, int], *, new: bool) -> None:
    """Raises CommandError for the first thing that stands in the way."""
    for check in (*checks.privileges(), *checks.tools(settings.oci_runtime)):
        if check.problem and check.name == "root":
            raise CommandError(f"{check.problem}: try with sudo")
        if check.problem and check.required:
            raise CommandError(f"{check.name} {check.problem}: {check.remedy} (`podling doctor` checks everything)")
    disk = checks.disk(settings.data_dir)
    if new and disk.problem and disk.required:
        raise CommandError(f"the disk {disk.problem}: {disk.remedy}, or choose another --data-dir")
    if new and settings.data_dir.exists():
        foreign = next((entry.name for entry in settings.data_dir.iterdir() if entry.name != lock.FILE), "")
        if foreign:
            raise CommandError(
                f'--data-dir {settings.data_dir} holds "{foreign}" and no {CONFIG_FILE}: choose a directory of its own'
            )
    _check_run_dir(settings)
    for name, port in (("server", settings.port), ("agent", settings.agent_port)):
        # systemd may have started it again just now.
        if name not in running and not _is_free(port) and not process.find(settings, name):
            flag = "--port" if name == "server" else "--agent-port"
            raise CommandError(f"port {port} is in use: choose another {flag}")
    if "agent" not in running:
        _check_network(settings)


def _check_run_dir(settings: Settings) -> None:
    """It belongs to one cluster, which its `cluster` file names."""
    owner_file = settings.run_dir / cluster_settings.OWNER_FILE
    owner = owner_file.read_text() if owner_file.exists() else ""
    if owner not in ("", str(settings.data_dir)) and os.path.exists(os.path.join(owner, CONFIG_FILE)):
        raise CommandError(f"--run-dir {settings.run_dir} belongs to the cluster in {owner}: choose another")


def _is_free(port: int) -> bool:
    # As the servers do it: a port in TIME_WAIT is free, one that someone listens on is not, on whichever address.
    for family, address in ((socket.AF_INET6, "::"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET, "127.0.0.1")):
        try:
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind((address, port))
        except OSError as error:
            if family != socket.AF_INET6 or error.errno == errno.EADDRINUSE:
                return False
    return True


def _check_network(settings: Settings) -> None:
    from podling.network.ipam import PodRange
    from podling.network.links import Links

    links = Links(settings.bridge, str(settings.data_dir.resolve()), PodRange(settings.pod_cidr))
    try:
        links.check()
    finally:
        links.close()


def _start(settings: Settings, names: list[str], started: float) -> None:
    """Starts them side by side and waits until each says that it is ready; else none of them is left running."""
    try:
        if systemd.is_running():
            systemd.start(settings, names)
            return
        listener = Listener()
        try:
            children = {name: _spawn(settings, name, listener.environment) for name in names}
            _wait_for_children(settings, children, listener, started)
        finally:
            listener.close()
    except BaseException:
        down.stop(settings, names)
        raise


def _spawn(settings: Settings, name: str, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    path = settings.log(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as log:
        return subprocess.Popen(
            systemd.command_line(settings, name),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **systemd.ENVIRONMENT, **environment},
            start_new_session=True,
        )


def _wait_for_children(
    settings: Settings, children: Mapping[str, subprocess.Popen[bytes]], listener: Listener, started: float
) -> None:
    """Until each has said that it is ready. Raises CommandError when one ends, or when it takes too long."""
    poll = select.poll()
    poll.register(listener.socket, select.POLLIN)
    waiting: dict[int, str] = {}
    announced = False
    try:
        for name, child in children.items():
            fd = os.pidfd_open(child.pid)
            waiting[fd] = name
            poll.register(fd, select.POLLIN)
        while waiting:
            elapsed = time.monotonic() - started
            names = " and ".join(waiting.values())
            if elapsed > READY_SECONDS:
                logs = ", ".join(str(settings.log(name)) for name in waiting.values())
                raise CommandError(f"{names} not ready after {READY_SECONDS:.0f} s (log: {logs})")
            if elapsed > QUIET_SECONDS and not announced:
                announced = True
                print(f"waiting for {names} ...", flush=True)
            limit = READY_SECONDS if announced else QUIET_SECONDS
            for fd, _ in poll.poll(max(0.0, limit - elapsed) * 1000 + 1):
                if fd in waiting:
                    raise process.failure(settings, waiting[fd])
                message = listener.receive()
                if message.get("READY") == "1":
                    for ready in [fd for fd, name in waiting.items() if name == message.get(notify.NAME)]:
                        poll.unregister(ready)
                        os.close(ready)
                        del waiting[ready]
    finally:
        for fd in waiting:
            os.close(fd)


def _wait_until_ready(settings: Settings, started: float) -> None:
    """Raises CommandError with the node's own words if it does not become Ready."""
    from podling.cli import api_socket

    message = "it is not registered"
    while (left := READY_SECONDS - (time.monotonic() - started)) > 0:
        seconds = max(1, int(left))
        url = f"/api/v1/nodes?watch=1&fieldSelector=metadata.name%3D{settings.node_name}&timeoutSeconds={seconds}"
        try:
            for event in api_socket.watch(settings.api_socket, url, seconds):
                if event["type"] not in ("ADDED", "MODIFIED"):
                    continue
                condition = ready_condition(event["object"])
                if condition.get("status") == "True":
                    return
                message = condition.get("message", message)
        except TimeoutError:
            break
        except api_socket.NobodyListens:
            # A server that systemd has just started again, or a command that was killed: no event tells that it is ready.
            if not process.find(settings, "server"):
                raise
            time.sleep(0.02)
    raise CommandError(f"node {settings.node_name} is not Ready after {READY_SECONDS:.0f} s: {message}")


def ready_condition(node: Any) -> dict[str, str]:
    for condition in node.get("status", {}).get("conditions", []):
        if condition["type"] == "Ready":
            return dict(condition)
    return {}
