"""`podling server`: the process of API server, scheduler and controllers; `podling up` starts it."""

from __future__ import annotations

import argparse
import asyncio
from typing import TYPE_CHECKING

from podling.cli import daemon
from podling.cli import settings as cluster_settings
from podling.cli.settings import Settings

if TYPE_CHECKING:
    from podling.apiserver.server import ServerConfig


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
        await _run_clients(config, stop, ready)
        finished.set()


async def _run_clients(config: ServerConfig, stop: asyncio.Event, ready: asyncio.Event) -> None:
    from podling.apiserver.pki import PKI
    from podling.apiserver.tokens import TokenIssuer
    from podling.client.client import Client, ClientConfig
    from podling.client.informer import InformerSet
    from podling.controllers.manager import Manager
    from podling.scheduler.scheduler import Scheduler

    pki = PKI(config.pki_dir)
    root_ca = await asyncio.to_thread(pki.ca.cert.read_bytes)
    sign_token = TokenIssuer(pki.service_account_key).issue_for_secret
    client_config = ClientConfig(socket=str(config.socket), user_agent="podling-server")
    async with Client(client_config) as client, asyncio.TaskGroup() as tasks:
        informers = InformerSet(client)
        manager = Manager(client, root_ca=root_ca, sign_token=sign_token, informers=informers)
        running = [
            tasks.create_task(Scheduler(client, informers).run(), name="scheduler"),
            tasks.create_task(manager.run(), name="controllers"),
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
