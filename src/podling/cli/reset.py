"""`podling reset`: removes the cluster from this machine: Pods, network, mounts, cgroups, files."""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

from podling.cli import down, lock, run_dir, systemd
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError
from podling.cli.settings import Settings
from podling.kit import file_error
from podling.runtime import tree

DEATH_SECONDS = 10.0
_MNT_DETACH, _UMOUNT_NOFOLLOW = 2, 8


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("reset", help="remove the cluster with all its Pods and data", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with lock.held(args.data_dir):
        return _reset(args)


def _reset(args: argparse.Namespace) -> int:
    """Goes through all steps even if one fails, so that calling it again is never worse."""
    settings = _settings(args.data_dir)
    if settings is None:
        print(f"Nothing to remove: no cluster in {args.data_dir}.")
        return 0
    if os.geteuid() != 0:
        raise CommandError("only root can remove the cluster: try with sudo")
    steps: dict[str, Callable[[Settings], object]] = {
        "server and agent": down.stop,
        "containers": _kill_containers,
        "units": _remove_units,
        "mounts": _unmount,
        "network": _remove_network,
        "cgroups": _remove_cgroups,
        "machine settings": _restore_machine,
        "files": _remove_files,
    }
    failures: list[str] = []
    for what, step in steps.items():
        if what == "files" and failures:
            break  # they say what else there is to remove
        started = time.monotonic()
        try:
            step(settings)
        except Exception as error:
            failures.append(f"{what}: {file_error.reason(error)}")
        if (seconds := time.monotonic() - started) > 2:
            print(f"removed {what} ({seconds:.0f} s)")
    if failures:
        raise CommandError("; ".join(failures))
    print(f"Podling is gone from {settings.data_dir}.")
    return 0


def _settings(data_dir: Path) -> Settings | None:
    """None if there is nothing. Of a cluster whose settings cannot be read, what belongs to that directory by default.

    Raises CommandError for a directory that may be someone else's.
    """
    try:
        settings = cluster_settings.find(data_dir)
    except CommandError as error:
        print(f"podling reset: {error}; going by the default settings", file=sys.stderr)
        settings = cluster_settings.defaults(data_dir)
    if settings is None and data_dir.is_dir() and set(os.listdir(data_dir)) - {lock.FILE}:
        raise CommandError(f"{data_dir} holds files and no {cluster_settings.CONFIG_FILE}: not a cluster's directory")
    return settings


def _kill_containers(settings: Settings) -> None:
    """Everything in the cluster's cgroups, and what watches over it (conmon), known by the directories it works in."""
    deadline = time.monotonic() + DEATH_SECONDS
    while pids := _processes(settings):
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        # A frozen process dies when it thaws only; what was forked meanwhile is found in the next round.
        for directory in _cgroups(settings):
            for name, thawed in (("freezer.state", "THAWED"), ("cgroup.freeze", "0")):
                if (directory / name).exists():
                    (directory / name).write_text(thawed)
        if time.monotonic() > deadline:
            raise CommandError(f"processes {', '.join(map(str, sorted(pids)))} do not die")
        time.sleep(0.01)  # no event tells when a cgroup of v1 is empty


def _processes(settings: Settings) -> set[int]:
    pids: set[int] = set()
    for directory in _cgroups(settings):
        try:
            pids.update(int(line) for line in (directory / "cgroup.procs").read_text().split())
        except OSError:
            continue
    directories = [bytes(path) + b"/" for path in (settings.data_dir, settings.run_dir)]
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal() or int(entry.name) == os.getpid():
            continue
        try:
            words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        ours = any(word.startswith(directory) for word in words[1:] for directory in directories)
        if ours and os.path.basename(words[0]) in (b"conmon", b"crun", b"runc", b"catatonit", b"skopeo"):
            pids.add(int(entry.name))
    return {pid for pid in pids if pid and not _is_zombie(pid)}


def _remove_units(settings: Settings) -> None:
    """Once conmon has left them: systemd forgets a unit without a file, and then keeps its cgroup for ever."""
    if systemd.is_running():
        systemd.remove(settings)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


def _cgroups(settings: Settings) -> Iterator[Path]:
    """The cluster's cgroups in every hierarchy, innermost first. They are named after the bridge: if another cluster
    has taken that name since, they are that one's."""
    if _bridge_is_taken(settings):
        return
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, directory, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            root = Path(directory, f"podling-{settings.bridge}")
            for path, _, _ in os.walk(root, topdown=False):
                yield Path(path)


@cache
def _bridge_is_taken(settings: Settings) -> bool:
    from podling.network.ipam import PodRange
    from podling.network.links import Links

    links = Links(settings.bridge, str(settings.data_dir.resolve()), PodRange(settings.pod_cidr))
    try:
        return links.is_taken()
    finally:
        links.close()


def _remove_cgroups(settings: Settings) -> None:
    deadline = time.monotonic() + DEATH_SECONDS
    while True:
        busy = ""
        for directory in _cgroups(settings):
            try:
                directory.rmdir()
            except FileNotFoundError:
                continue
            except OSError as error:
                busy = f"{directory}: {error.strerror}"
        if not busy:
            return
        if time.monotonic() > deadline:
            raise CommandError(busy)
        time.sleep(0.01)  # a cgroup stays busy for a moment after its last process


def _mounts(settings: Settings) -> list[str]:
    """Mount points in the cluster's directories, the last mounted first."""
    roots = [str(path.resolve()) + "/" for path in (settings.data_dir, settings.run_dir)]
    found = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        path = line.split()[4].encode().decode("unicode_escape").encode("latin-1").decode(errors="surrogateescape")
        if any(path.startswith(root) for root in roots):
            found.append(path)
    return found[::-1]


def _unmount(settings: Settings) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    for _ in range(3):  # what was mounted over is seen in the next round
        for path in _mounts(settings):
            libc.umount2(os.fsencode(path), _MNT_DETACH | _UMOUNT_NOFOLLOW)
    if left := _mounts(settings):
        raise CommandError(f"{left[0]} cannot be unmounted: {os.strerror(ctypes.get_errno())}")


def _remove_network(settings: Settings) -> None:
    from podling.network.bridge import Bridge, BridgeConfig

    stays = asyncio.run(Bridge(BridgeConfig(settings.bridge, settings.pod_cidr, settings.data_dir)).reset())
    if stays:
        print(stays)


def _restore_machine(settings: Settings) -> None:
    from podling.runtime.native.runtime import reset_machine

    reset_machine(settings.data_dir, settings.run_dir)


def _remove_files(settings: Settings) -> None:
    if left := _mounts(settings):
        raise CommandError(f"{left[0]} is still mounted")  # never delete what is seen through a mount
    run_dir.remove(settings)
    if not settings.data_dir.exists():  # deleted by hand
        return
    for entry in sorted(settings.data_dir.iterdir(), key=lambda entry: entry.name == cluster_settings.CONFIG_FILE):
        # config.json last: without it a second call would find nothing.
        if entry.is_dir() and not entry.is_symlink():
            tree.remove(entry)
        else:
            entry.unlink()
    try:
        settings.data_dir.rmdir()
    except OSError as error:
        print(f"podling reset: {settings.data_dir} is empty, but stays: {error.strerror}", file=sys.stderr)
