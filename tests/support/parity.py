"""Parity with Kubernetes: recorded requests, sent to an API server of this repository, and how many answers are the same.

The recordings are not part of the project. They lie in a folder `corpus` beside it (or where PODLING_CORPUS says), with
the program `replay.py` that sends and compares them. The counts that were reached are kept in parity.json beside this
file: they may only grow. `make parity FLAGS=--raise` notes higher ones.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.support.api_server import ApiServer

from podling.api.core.v1 import ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.apiserver import kubeconfig
from podling.apiserver.pki import PKI

_PROJECT = Path(__file__).parents[2]
_FLOOR = Path(__file__).with_name("parity.json")
_COUNTED_CODES = (0, 1)
"""Exit statuses of replay.py: all answers are the same, or some differ."""


class Count(NamedTuple):
    """Of one file: how many answers have the same status code, and how many the same content, managedFields apart."""

    code: int
    answer: int


def corpus() -> Path | None:
    """Return the folder of the recordings, or None where there is none."""
    named = os.environ.get("PODLING_CORPUS")
    candidates = [Path(named)] if named else [_PROJECT.parent / "shared" / "corpus", _PROJECT.parent / "corpus"]
    return next((folder for folder in candidates if (folder / "replay.py").exists()), None)


def floor() -> dict[str, Count]:
    """Return the counts below which no file may fall."""
    return {name: Count(*counts) for name, counts in json.loads(_FLOOR.read_text()).items()}


def write_floor(counts: dict[str, Count]) -> None:
    lines = [f'  "{name}": [{count.code}, {count.answer}]' for name, count in sorted(counts.items())]
    _FLOOR.write_text("{\n" + ",\n".join(lines) + "\n}\n")


def replay(folder: Path, server: ApiServer, *arguments: str) -> str:
    """Return the report of replay.py. Raises RuntimeError if it could not compare.

    arguments: those of replay.py after the kubeconfig."""
    asyncio.run(_prepare(server))
    config = server.directory / "admin.kubeconfig"
    kubeconfig.write(config, kubeconfig.render(PKI(server.directory / "data" / "pki"), server=server.url))
    command = [sys.executable, str(folder / "replay.py"), str(config), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode not in _COUNTED_CODES or "requests, same code" not in done.stdout:
        raise RuntimeError(done.stderr)
    return done.stdout


async def _prepare(server: ApiServer) -> None:
    """Create the service account that a controller makes, but that was there when the answers were recorded."""
    async with server.client() as client:
        try:
            await client.create(ServiceAccount(metadata=ObjectMeta(name="default", namespace="default")))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise


def count(folder: Path, server: ApiServer, *files: str) -> dict[str, Count]:
    """Return the counts of the files (default: all)."""
    report = replay(folder, server, *files, "--json")
    found: dict[str, list[int]] = json.loads(report.splitlines()[0])
    return {name: Count(same_code, same) for name, (_, same_code, same, _) in found.items()}
