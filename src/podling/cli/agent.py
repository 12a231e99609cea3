"""`podling agent`: the process of the node agent; `podling up` starts it."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from podling.cli import daemon
from podling.cli import settings as cluster_settings
from podling.cli.settings import Settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("agent", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return daemon.run(args, "agent", main)


async def main(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from podling.kubelet.kubelet import Kubelet, KubeletConfig

    config = KubeletConfig(
        node_name=settings.node_name,
        data_dir=settings.data_dir,
        run_dir=settings.run_dir,
        api_socket=settings.api_socket,
        port=settings.agent_port,
        bridge=settings.bridge,
        pod_cidr=settings.pod_cidr,
        registries_conf=Path(settings.registries_conf) if settings.registries_conf else None,
        oci_runtime=settings.oci_runtime,
    )
    await Kubelet(config).run(stop, ready)
