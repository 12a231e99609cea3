"""Controllers' work queues: each key once, never twice at a time, again after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from podling.api import status
from podling.client.client import ConnectionFailed
from podling.controllers.work_queue import WorkQueue


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(5):
            await scenario()

    asyncio.run(bounded())


async def during(queue: WorkQueue[str], until: asyncio.Event) -> None:
    task = asyncio.create_task(queue.run())
    try:
        await until.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def test_a_key_added_many_times_is_processed_once() -> None:
    async def scenario() -> None:
        seen: list[str] = []
        done = asyncio.Event()

        async def process(key: str) -> None:
            seen.append(key)
            if key == "end":
                done.set()

        queue: WorkQueue[str] = WorkQueue("test", process)
        for key in ("a", "b", "a", "a", "end"):
            queue.add(key)
        await during(queue, done)
        assert seen == ["a", "b", "end"]

    run(scenario)


def test_a_key_added_while_it_is_processed_is_processed_again_afterwards() -> None:
    async def scenario() -> None:
        running = most = count = 0
        done = asyncio.Event()

        async def process(key: str) -> None:
            nonlocal running, most, count
            running, count = running + 1, count + 1
            most = max(most, running)
            if count == 1:
                queue.add(key)
            await asyncio.sleep(0)
            running -= 1
            if count == 2:
                done.set()

        queue: WorkQueue[str] = WorkQueue("test", process, workers=3)
        queue.add("a")
        await during(queue, done)
        assert (count, most) == (2, 1)

    run(scenario)


def test_failures_come_back_and_do_not_stop_the_others() -> None:
    async def scenario() -> None:
        failures = [ConnectionFailed("away"), status.conflict("pods", "a"), ValueError("bug")]
        seen: list[str] = []
        done = asyncio.Event()

        async def process(key: str) -> None:
            seen.append(key)
            if key == "a":
                if failures:
                    raise failures.pop(0)
                done.set()

        queue: WorkQueue[str] = WorkQueue("test", process)
        queue.add("a")
        queue.add("b")
        await during(queue, done)
        assert seen == ["a", "b", "a", "a", "a"]

    run(scenario)


def test_of_several_delays_the_soonest_counts_and_cancel_takes_it_back() -> None:
    async def scenario() -> None:
        seen: list[str] = []
        done = asyncio.Event()

        async def process(key: str) -> None:
            seen.append(key)
            done.set()

        queue: WorkQueue[str] = WorkQueue("test", process)
        queue.add_after("never", 0.01)
        queue.cancel("never")
        queue.add_after("a", 60)
        queue.add_after("a", 0.02)
        queue.add_after("a", 60)
        await during(queue, done)
        assert seen == ["a"]

    run(scenario)
