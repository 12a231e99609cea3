"""`podling down`: stops the server and the agent. Containers go on running."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from podling.cli import lock, process, systemd
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError
from podling.cli.settings import Settings

GRACE_SECONDS = 15.0


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("down", help="stop the cluster; containers go on running", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    with lock.held(args.data_dir):
        settings = cluster_settings.existing(args.data_dir)
        if not stop(settings):
            print("Podling is not up.")
            return 0
    up, reset = settings.command("up"), settings.command("reset")
    print(f"Podling is down. Containers go on running: `{up}` takes them up again, `{reset}` removes everything.")
    return 0


def stop(settings: Settings, names: Sequence[str] = process.NAMES) -> bool:
    """Whether any of them was running. Raises CommandError if one cannot be stopped."""
    pids = [pid for name in names if (pid := process.find(settings, name))]
    if systemd.is_running():
        systemd.stop(settings, names)
    if not pids:
        return False
    try:
        process.stop(pids, grace_seconds=GRACE_SECONDS)
    except PermissionError:
        raise CommandError("only root can stop the cluster: try with sudo") from None
    left = [name for name in names if process.find(settings, name)]
    if left:
        raise CommandError(f"{' and '.join(left)} cannot be stopped")
    return True
