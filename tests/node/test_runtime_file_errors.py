"""Files of the runtime that cannot be made or started: the message names them, in words."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.native import Node, Run

from podling.runtime.protocol import ContainerSecurity, CRIError, Seccomp


def test_a_container_whose_directory_cannot_be_made_names_it(run: Run) -> None:
    async def test(node: Node) -> None:
        pod = await node.pod()
        containers = node.run_dir / "containers"
        kept = containers.rename(containers.with_name("kept"))
        try:
            with pytest.raises(CRIError) as caught:
                await node.create(pod, "true")
        finally:
            kept.rename(containers)
        text = f"cannot make the container: {containers}/"
        assert caught.value.message.startswith(text)
        assert caught.value.message.endswith(": No such file or directory")

    run(test)


def test_a_seccomp_profile_that_is_a_directory_is_told(run: Run, tmp_path: Path) -> None:
    async def test(node: Node) -> None:
        profile = Seccomp(profile="Localhost", path=str(tmp_path))
        with pytest.raises(CRIError) as caught:
            await node.start(await node.pod(), "true", security=ContainerSecurity(seccomp=profile))
        assert caught.value.message.endswith(f"cannot load seccomp profile {tmp_path}: Is a directory")

    run(test)
