"""oom_score_adj of what the runtime starts while the agent has a score of its own."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.native import Node, Run, both
from tests.support.oom_scores import own_score, read

from podling.runtime.native import capability
from podling.runtime.protocol import ContainerSecurity, NamespaceMode, NamespaceOption

__all__ = ["own_score"]


def _in_namespace_of(pid: int, program: bytes) -> int:
    """Return the process that runs `program` in the PID namespace of `pid`."""
    wanted = os.readlink(f"/proc/{pid}/ns/pid")
    for entry in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if (
                Path(f"/proc/{entry}/cmdline").read_bytes().startswith(program)
                and os.readlink(f"/proc/{entry}/ns/pid") == wanted
            ):
                return int(entry)
        except OSError:
            continue
    raise AssertionError(f"no {program!r} runs")


@both
def test_nothing_that_the_runtime_starts_keeps_the_score_of_the_agent(
    run: Run, oci_runtime: str, own_score: int
) -> None:
    async def test(node: Node) -> None:
        shared = NamespaceOption(pid=NamespaceMode.POD)
        pod = await node.pod(namespaces=shared)
        container = await node.start(pod, "sleep 4711", security=ContainerSecurity(namespaces=shared))
        pid = (await node.runtime.container_status(container)).pid
        assert read(pid) == 0
        assert read(_in_namespace_of(pid, b"/catatonit")) == 0
        done = await node.runtime.exec_sync(container, ["cat", "/proc/self/oom_score_adj"], 0)
        assert int(done.stdout) == 0
        conmon = int((node.run_dir / "containers" / container / "conmon.pid").read_text())
        # It asks the kernel itself never to be ended so, where that is permitted.
        assert read(conmon) == (-1000 if "SYS_RESOURCE" in capability.available() else 0)
        assert read() == own_score

    run(test, oci_runtime)
