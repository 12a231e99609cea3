"""oom_score_adj of a component, and of the programs that it starts."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable

import pytest
import uvloop
from tests.support.oom_scores import own_score, read

from podling.kit import oom_score, program
from podling.runtime.native import capability, spawn

SHOW = ("cat", "/proc/self/oom_score_adj")
__all__ = ["own_score"]


async def _by_program() -> bytes:
    return (await program.run(*SHOW)).stdout


async def _by_call() -> bytes:
    return (await asyncio.to_thread(program.call, *SHOW)).stdout


async def _by_spawn() -> bytes:
    return (await asyncio.to_thread(spawn.run, ["/bin/cat", SHOW[1]])).stdout


async def _by_async_spawn() -> bytes:
    workers = spawn.Workers(1)
    try:
        return (await spawn.run_async(workers, ["/bin/cat", SHOW[1]])).stdout
    finally:
        workers.close()


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("start", [_by_program, _by_call, _by_spawn, _by_async_spawn])
def test_a_program_does_not_inherit_the_score_of_a_component(
    own_score: int, start: Callable[[], Awaitable[bytes]], loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def check() -> None:
        assert [int(said) for said in await asyncio.gather(*(start() for _ in range(20)))] == [0] * 20

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(check())
    assert read() == own_score


def test_a_program_that_cannot_be_started_leaves_the_component_its_score(own_score: int) -> None:
    with pytest.raises(FileNotFoundError):
        asyncio.run(program.run("/no/such/program"))
    with pytest.raises(FileNotFoundError):
        program.call("/no/such/program")
    with pytest.raises(FileNotFoundError):
        spawn.run(["/no/such/program"])
    assert read() == own_score


def test_blocks_that_overlap_end_with_the_last_one(own_score: int) -> None:
    with oom_score.neutral():
        with oom_score.neutral():
            assert read() == 0
        assert read() == 0
    assert read() == own_score


def test_a_score_that_may_not_be_lowered_is_told_once(own_score: int, caplog: pytest.LogCaptureFixture) -> None:
    os.close(oom_score._fd)
    with caplog.at_level(logging.WARNING):
        oom_score.protect(-999)
    if "SYS_RESOURCE" in capability.available():
        assert read() == -999
        assert not caplog.records
    else:
        assert read() == own_score
        (record,) = caplog.records
        assert "oom_score_adj stays 500 and is not lowered to -999, which needs CAP_SYS_RESOURCE" in record.message
