"""What a pull tells of its waiting for other pulls: the kubelet's events say how long the transfer itself took."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.proxy import Proxy
from tools.registry import Registry

from podling.runtime.native.image import ImageStore

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_the_start_of_a_transfer_is_told_when_others_are_done(registry: Registry, tmp_path: Path) -> None:
    async def run() -> None:
        started: list[str] = []
        async with Proxy(registry.address) as proxy:
            conf = tmp_path / "through-proxy.conf"
            location = f'location = "{proxy.address}/docker.io"'
            conf.write_text(f'[[registry]]\nprefix = "docker.io"\n{location}\ninsecure = true\n')
            images_store = ImageStore(tmp_path / "images", tmp_path / "run", conf, parallel_pulls=1)
            await images_store.open()
            try:
                proxy.gate.clear()
                begun = asyncio.Event()

                def first() -> None:
                    started.append("first")
                    begun.set()

                def pull(name: str, who: str) -> asyncio.Task[str]:
                    return asyncio.create_task(images_store.pull_image(name, on_start=lambda: started.append(who)))

                pulls = [asyncio.create_task(images_store.pull_image("busybox", on_start=first))]
                await begun.wait()
                pulls.append(pull("nginx", "waits"))
                shares = asyncio.Event()
                pulls.append(asyncio.create_task(images_store.pull_image("busybox", on_start=shares.set)))
                await shares.wait()
                assert started == ["first"]
                proxy.gate.set()
                await asyncio.gather(*pulls)
                assert started == ["first", "waits"]
                # Nothing is transferred when nothing has changed.
                await pull("busybox", "unchanged")
                assert started == ["first", "waits"]
            finally:
                await images_store.close()

    asyncio.run(run())
