"""`podling status`: processes, memory, node and Pods."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Iterator

from podling.cli import api_socket, checks, process
from podling.cli import settings as cluster_settings
from podling.cli.errors import CommandError
from podling.cli.settings import Settings
from podling.cli.up import ready_condition


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser("status", help="show how the cluster is", description=__doc__)
    cluster_settings.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Fails unless the server, the agent and the node are as they should be."""
    settings = cluster_settings.existing(args.data_dir)
    down: list[str] = []
    for name in process.NAMES:
        pid = process.find(settings, name)
        if not pid:
            down.append(name)
            print(f"{name:8} down")
            continue
        memory = process.resident_bytes(pid) / 2**20
        print(
            f"{name:8} up {_duration(process.age_seconds(pid))}, pid {pid}, {memory:.0f} MB, log {settings.log(name)}"
        )
    if gone := cluster_settings.deleted(settings):
        raise CommandError(gone)
    if "server" in down:
        raise CommandError(f"{' and '.join(down)} not running: `{settings.command('up')}` starts what is missing")
    version = api_socket.get(settings.api_socket, "/version")
    print(f"version  Kubernetes {version['gitVersion']} at https://127.0.0.1:{settings.port}")
    ready = True
    for node in api_socket.get(settings.api_socket, "/api/v1/nodes")["items"]:
        condition = ready_condition(node)
        ready = ready and condition.get("status") == "True"
        state = "Ready" if condition.get("status") == "True" else f"not Ready: {condition.get('message', 'unknown')}"
        pressure = [
            f"{condition['type']}: {condition.get('message', '')}"
            for condition in node.get("status", {}).get("conditions", [])
            if condition["type"] != "Ready" and condition["status"] == "True"
        ]
        print("; ".join([f"node     {node['metadata']['name']} {state}", *pressure]))
    pods = api_socket.get(settings.api_socket, "/api/v1/pods")["items"]
    phases = Counter(pod.get("status", {}).get("phase", "Unknown") for pod in pods)
    print(f"pods     {len(pods)}" + "".join(f", {count} {phase}" for phase, count in sorted(phases.items())))
    for line in _store(api_socket.check(settings.api_socket, "/metrics")):
        print(f"store    {line}")
    failed = [f"{'store' if name == 'etcd' else name}: {problem}" for name, problem in _failed_checks(settings)]
    if (disk := checks.disk(settings.data_dir)).problem:
        print(f"disk     {disk.problem}: {disk.remedy}")
    if failed:
        raise CommandError("; ".join(failed))
    if down:
        raise CommandError(f"agent not running: `{settings.command('up')}` starts it")
    if not ready:
        raise CommandError("the node is not Ready")
    return 0


def _store(metrics: str) -> Iterator[str]:
    """What the API server found in its store when it started."""
    if lost := re.search(r'^podling_store_lost_revisions{opened="(\d+)",acknowledged="(\d+)"}', metrics, re.MULTILINE):
        yield (
            f"opened at revision {lost[1]}, though revision {lost[2]} had been acknowledged: its files were damaged or "
            "replaced by an older copy, and what was written in between is lost"
        )
    if (found := re.search(r"^podling_store_unreadable_objects (\d+)$", metrics, re.MULTILINE)) and found[1] != "0":
        yield f"{found[1]} objects cannot be read: `kubectl get events -A --field-selector reason=Unreadable` names them"


def _failed_checks(settings: Settings) -> Iterator[tuple[str, str]]:
    """Name and reason of each check of the API server that fails."""
    for line in api_socket.check(settings.api_socket, "/readyz?verbose").splitlines():
        if line.startswith("[-]"):
            name = line.removeprefix("[-]").split()[0]
            yield name, api_socket.check(settings.api_socket, f"/readyz/{name}").strip().partition(": ")[2]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "m"), (rest, "s"))
    shown = [f"{value}{unit}" for value, unit in parts if value][:2]
    return "".join(shown) or "0s"
