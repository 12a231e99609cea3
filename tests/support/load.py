"""An API server with much in its store, and whether it serves others meanwhile."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.api import Api, pod
from tests.support.pulse import Pulse, pulse_of

from podling.api import codec, scheme
from podling.api.core.v1 import ConfigMap, Pod
from podling.api.meta.v1 import ObjectMeta
from podling.store.sqlite import SQLiteStore

STALL = 0.5
"""Seconds. It is to be a tenth of a second; a machine that runs other tests beside this one adds to that."""
LARGE_BYTES = 1_000_000
UID = "6a1d6ae5-6b0e-4d3c-9d53-{:012}"
LARGE_MAPS = "/api/v1/namespaces/large/configmaps"
PODS = "/api/v1/namespaces/small/pods"


async def seed(directory: Path, *, large: int, small: int) -> None:
    """Write ConfigMaps of 1 MB and Pods into the database, for which a server would need minutes."""
    async with await SQLiteStore.open(directory / "state.db") as store:

        async def create(obj: Any, number: int) -> None:
            metadata = obj.metadata
            metadata.uid, metadata.creation_timestamp = UID.format(number), "2026-01-01T00:00:00Z"

            def encode(revision: int) -> bytes:
                metadata.resource_version = str(revision)
                return codec.encode(obj)

            await store.create(scheme.by_type(type(obj)).key(metadata.namespace, metadata.name), encode)

        for number in range(large):
            metadata = ObjectMeta(name=f"m{number:03}", namespace="large")
            data = {"data": "x" * LARGE_BYTES}
            await create(ConfigMap(api_version="v1", kind="ConfigMap", metadata=metadata, data=data), number)
        template = pod()
        for begin in range(0, small, 1000):
            async with asyncio.TaskGroup() as group:
                for number in range(begin, begin + 1000):
                    one = codec.convert(template, Pod)
                    name = f"p{number:05}"
                    labels = {"number": str(number)}
                    one.metadata = ObjectMeta(name=name, namespace="small", labels=labels)
                    group.create_task(create(one, large + number))


@contextmanager
def pulse(api: Api) -> Iterator[Pulse]:
    """Fail if the server did not answer small requests while the block ran."""

    def asking() -> Generator[None, None, None]:
        with closing(api.open()) as connection:
            yield
            while True:
                connection.request("GET", "/version")
                connection.getresponse().read()
                yield

    with pulse_of(asking) as pulse:
        yield pulse
    assert pulse.longest < STALL


def memory(api: Api) -> int:
    return int(Path(f"/proc/{api.server.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")
