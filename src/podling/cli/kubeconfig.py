"""`podling kubeconfig`: prints the administrator's kubeconfig."""

from __future__ import annotations

import argparse
import sys

from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("kubeconfig", help="print the administrator's kubeconfig", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    settings = cluster_settings.existing(args.data_dir)
    try:
        sys.stdout.write(settings.kubeconfig.read_text())
    except FileNotFoundError:
        raise CommandError(
            f"the cluster in {settings.data_dir} has never been up: `{settings.command('up')}` first"
        ) from None
    except PermissionError:
        raise CommandError(f"{settings.kubeconfig} can be read by root only: try with sudo") from None
    return 0
