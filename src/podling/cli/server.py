"""`podling server`: the process of API server, scheduler and controllers; `podling up` starts it."""

from __future__ import annotations

import argparse
import asyncio

from podling.cli import daemon
from podling.cli import settings as cluster_settings
from podling.cli.settings import Settings


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("server", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    return daemon.run(args, "server", main)


async def main(settings: Settings, stop: asyncio.Event, ready: asyncio.Event) -> None:
    """The API server first; the others are its clients, and end before it does."""
    from podling.apiserver.server import ServerConfig, serve

    config = ServerConfig(
        data_dir=settings.data_dir,
        run_dir=settings.run_dir,
        node_name=settings.node_name,
        port=settings.port,
        service_cidr=settings.service_cidr,
    )
    serving, finished = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(serve(config, ready=serving, stop=finished), name="API server")
        await serving.wait()
        await asyncio.to_thread(_write_kubeconfig, settings, config.url)
        await _run_clients(config.pki_dir.joinpath("ca.crt").read_bytes(), str(config.socket), stop, ready)
        finished.set()


async def _run_clients(root_ca: bytes, socket: str, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from podling.client.client import Client, ClientConfig
    from podling.client.informer import InformerSet
    from podling.controllers.manager import Manager
    from podling.scheduler.scheduler import Scheduler

    async with Client(ClientConfig(socket=socket, user_agent="podling-server")) as client, asyncio.TaskGroup() as tasks:
        informers = InformerSet(client)
        running = [
            tasks.create_task(Scheduler(client, informers).run(), name="scheduler"),
            tasks.create_task(Manager(client, root_ca=root_ca, informers=informers).run(), name="controllers"),
            tasks.create_task(informers.run(), name="informers"),
        ]
        ready.set()
        await stop.wait()
        for task in running:
            task.cancel()


def _write_kubeconfig(settings: Settings, url: str) -> None:
    from podling.apiserver import kubeconfig
    from podling.apiserver.pki import PKI

    text = kubeconfig.render(PKI(settings.data_dir / "pki"), server=url)
    if (
        not settings.kubeconfig.exists() or settings.kubeconfig.read_text() != text
    ):  # a start on a full disk writes nothing
        kubeconfig.write(settings.kubeconfig, text)
