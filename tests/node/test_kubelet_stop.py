"""The node agent ends promptly when it is told to, whatever it waits for."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from podling.kubelet.cgroups import qos_parents
from podling.kubelet.kubelet import Kubelet, KubeletConfig
from podling.network.bridge import Bridge, BridgeConfig
from podling.runtime.native.cgroup import Cgroups
from podling.runtime.native.runtime import reset_machine

BRIDGE = "pdstop0"
CIDR = "10.231.9.0/24"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_an_agent_that_still_waits_for_the_api_server_stops_at_once(tmp_path: Path) -> None:
    config = KubeletConfig(
        node_name="stop",
        data_dir=tmp_path / "data",
        run_dir=tmp_path / "run",
        api_socket=tmp_path / "apiserver.sock",
        bridge=BRIDGE,
        pod_cidr=CIDR,
    )

    async def scenario() -> None:
        asked, stop = asyncio.Event(), asyncio.Event()

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            asked.set()
            await reader.read()
            writer.close()

        async with await asyncio.start_unix_server(never_answer, config.api_socket):
            agent = asyncio.create_task(Kubelet(config).run(stop))
            async with asyncio.timeout(30):
                await asked.wait()
            stop.set()
            async with asyncio.timeout(5):
                await agent

    try:
        asyncio.run(scenario())
    finally:
        asyncio.run(Bridge(BridgeConfig(BRIDGE, CIDR, config.data_dir)).reset())
        groups = Cgroups()
        for path in reversed(qos_parents(config.cgroup_root)):
            groups.remove(path)
        reset_machine(config.data_dir, config.run_dir)
