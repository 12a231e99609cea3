"""The API server as a whole: what it needs is opened, it listens, and everything is closed in the reverse order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from podling.api.scheme import RESOURCES
from podling.apiserver import addresses, bootstrap, pki, storage_report, unreadable
from podling.apiserver.admission.chain import Chain
from podling.apiserver.admission.default_toleration_seconds import DefaultTolerationSeconds
from podling.apiserver.admission.namespace_lifecycle import NamespaceLifecycle
from podling.apiserver.admission.node_restriction import NodeRestriction
from podling.apiserver.admission.node_taint import NodeTaint
from podling.apiserver.admission.priority import Priority
from podling.apiserver.admission.service_account import ServiceAccountPlugin
from podling.apiserver.authentication import Authenticator, ensure_admin_token, load_static_tokens
from podling.apiserver.authorization import Authorizer
from podling.apiserver.call import MAX_BODY
from podling.apiserver.cluster_ip import ClusterIPs
from podling.apiserver.handler import RequestHandler
from podling.apiserver.kubelet_client import KubeletClient
from podling.apiserver.metrics import Metrics
from podling.apiserver.node_authorizer import NodeAuthorizer
from podling.apiserver.node_graph import NodeGraph
from podling.apiserver.node_port import NodePorts
from podling.apiserver.pki import PKI
from podling.apiserver.registry import Registry
from podling.apiserver.state import State
from podling.apiserver.strategies.table import strategy_for
from podling.apiserver.tokens import TokenIssuer
from podling.kit import tls_listener
from podling.kit.http_connection import IDLE, ConnectionServer
from podling.store.protocol import Store
from podling.store.sqlite import SQLiteStore

log = logging.getLogger(__name__)

SOCKET = "apiserver.sock"
KUBELET_SOCKET = "kubelet.sock"
_BACKLOG = 1024


class ServerConfig(Struct, frozen=True, kw_only=True):
    data_dir: Path
    """Holds pki/, state.db and tokens.csv."""
    run_dir: Path
    """Holds the unix sockets."""
    node_name: str
    """Of this machine's kubelet: in its certificate and the server's; who connects to its socket acts as that node."""
    port: int = 6443
    bind_address: str = "0.0.0.0"
    advertise_address: str = ""
    """Where Pods and other machines reach the server (default: the address of the default route)."""
    service_cidr: str = "10.96.0.0/16"
    cluster_domain: str = "cluster.local"
    shutdown_seconds: float = 5.0
    """How long requests under way may take once the server is to stop."""

    @property
    def pki_dir(self) -> Path:
        return self.data_dir / "pki"

    @property
    def socket(self) -> Path:
        """Of the administrator."""
        return self.run_dir / SOCKET

    @property
    def kubelet_socket(self) -> Path:
        """Of this machine's kubelet."""
        return self.run_dir / KUBELET_SOCKET

    @property
    def url(self) -> str:
        """Where this machine's clients reach the TLS port."""
        host = self.bind_address if self.bind_address not in ("", "0.0.0.0", "::") else "127.0.0.1"
        return f"https://[{host}]:{self.port}" if ":" in host else f"https://{host}:{self.port}"


async def serve(config: ServerConfig, *, ready: asyncio.Event | None = None, stop: asyncio.Event) -> None:
    """Serves until `stop` is set; `ready` is set once requests are answered.

    Raises OSError (a port in use, a directory that cannot be written), PKIError, StoreError, ValueError (configuration).
    """
    cluster_ips = ClusterIPs(config.service_cidr)
    advertised = config.advertise_address or addresses.advertised_address()
    certificates = await asyncio.to_thread(_prepare, config, advertised, cluster_ips.kubernetes)
    store = await SQLiteStore.open(config.data_dir / "state.db", check=unreadable.check)
    kubelets = KubeletClient(certificates)
    try:
        graph = NodeGraph(store)
        state = _state(config, store, certificates, kubelets, cluster_ips, graph)
        await bootstrap.prepare(state)
        await bootstrap.ensure(state, cluster_ips, address=advertised, port=config.port)
        await storage_report.publish(state)
        await graph.load()
        async with _listening(config, state, certificates), asyncio.TaskGroup() as tasks:
            following = tasks.create_task(graph.run(), name="node graph")
            keeper = tasks.create_task(
                bootstrap.keep(state, cluster_ips, address=advertised, port=config.port), name="bootstrap"
            )
            presence = tasks.create_task(_end_with(store), name="store's presence")
            state.ready = True
            log.info("API server listens on %s and %s", config.url, config.socket)
            if ready is not None:
                ready.set()
            await stop.wait()
            state.stopping = True
            following.cancel()
            keeper.cancel()
            presence.cancel()
    finally:
        await kubelets.close()
        await store.close()


async def _end_with(store: Store) -> None:
    """Raises StoreError once the store is gone. Whoever deleted it by hand does not expect a server to go on."""
    raise await store.gone()


def _prepare(config: ServerConfig, advertised: str, service_address: str) -> PKI:
    """Directories, certificates and the token file."""
    for directory in (config.data_dir, config.run_dir):
        directory.mkdir(parents=True, exist_ok=True)
    known = [advertised, *addresses.machine_addresses()]
    if config.bind_address not in ("", "0.0.0.0", "::"):
        known.append(config.bind_address)
    made = pki.ensure(
        config.pki_dir,
        node_name=config.node_name,
        addresses=known,
        service_address=service_address,
        cluster_domain=config.cluster_domain,
    )
    ensure_admin_token(_token_file(config))
    return made


def _state(
    config: ServerConfig,
    store: Store,
    certificates: PKI,
    kubelets: KubeletClient,
    cluster_ips: ClusterIPs,
    graph: NodeGraph,
) -> State:
    issuer = TokenIssuer(certificates.service_account_key, f"https://kubernetes.default.svc.{config.cluster_domain}")
    node_ports = NodePorts()
    state: State

    def find(kind: type[Any], namespace: str, name: str) -> Any:
        return state.find(kind, namespace, name)

    async def find_soon(kind: type[Any], namespace: str, name: str, seconds: float) -> Any:
        return await state.find_soon(kind, namespace, name, seconds)

    async def list_all(kind: type[Any]) -> list[Any]:
        return await state.list_all(kind)

    admission = Chain(
        [
            NamespaceLifecycle(find),
            NodeTaint(),
            ServiceAccountPlugin(find_soon),
            NodeRestriction(find, api_audience=issuer.issuer),
            Priority(find, list_all),
            DefaultTolerationSeconds(),
        ]
    )
    state = State(
        store=store,
        registries={
            resource: Registry(strategy_for(resource, cluster_ips, node_ports), store, admission)
            for resource in RESOURCES
        },
        authenticator=Authenticator(tokens=issuer, static=load_static_tokens(_token_file(config)), lookup=find),
        authorizer=Authorizer([NodeAuthorizer(graph)]),
        tokens=issuer,
        kubelets=kubelets,
        metrics=Metrics(),
    )
    return state


def _token_file(config: ServerConfig) -> Path:
    return config.data_dir / "tokens.csv"


@asynccontextmanager
async def _listening(config: ServerConfig, state: State, certificates: PKI) -> AsyncIterator[None]:
    """All listeners. On leaving, streams end, requests under way finish or are cut off after a while."""
    handler = RequestHandler(state, config.node_name)
    local = ConnectionServer(handler.local, max_body=MAX_BODY)
    kubelet = ConnectionServer(handler.kubelet, max_body=MAX_BODY)
    remote = ConnectionServer(handler.remote, max_body=MAX_BODY, keepalive_timeout=IDLE)
    pair, ca = certificates.apiserver, certificates.ca.cert
    context = await asyncio.to_thread(tls_listener.server_context, pair.cert, pair.key, ca, anonymous=True)
    try:
        with contextlib.ExitStack() as listeners:
            for path, server in ((config.socket, local), (config.kubelet_socket, kubelet)):
                unix = _unix_socket(path)
                listeners.callback(path.unlink, missing_ok=True)
                unix_server = await asyncio.get_running_loop().create_unix_server(server, sock=unix, backlog=_BACKLOG)
                listeners.callback(unix_server.close)
            async with tls_listener.listening(remote, config.bind_address, config.port, context):
                yield
    finally:
        state.stopping = True
        state.end_streams()
        servers = (local, kubelet, remote)
        for server in servers:
            server.pre_shutdown()
        await asyncio.gather(*(server.shutdown(config.shutdown_seconds) for server in servers))


def _unix_socket(path: Path) -> socket.socket:
    """A bound unix socket that only its owner can connect to."""
    path.unlink(missing_ok=True)
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        # Bound under another name, so that nobody connects before the mode is set.
        hidden = path.with_name(f".{path.name}.{os.getpid()}")
        hidden.unlink(missing_ok=True)
        unix.bind(str(hidden))
        hidden.chmod(0o600)
        hidden.rename(path)
        unix.listen(_BACKLOG)
    except BaseException:
        unix.close()
        raise
    return unix
