"""Work on large objects: in a thread, and without the collector of cyclic garbage, which is there again afterwards."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from podling.apiserver import offload


def test_large_is_what_has_many_bytes_or_many_parts() -> None:
    assert not offload.is_large(b'{"a":"' + b"x" * 60_000 + b'"}')
    assert offload.is_large(b'{"a":"' + b"x" * 70_000 + b'"}')
    assert not offload.is_large(b"[" + b",".join([b"{}"] * 900) + b"]")
    assert offload.is_large(b"[" + b",".join([b"{}"] * 1000) + b"]")


def test_small_work_is_done_at_once() -> None:
    async def ask() -> tuple[threading.Thread, bool]:
        return await offload.run(False, threading.current_thread), await offload.run(False, gc.isenabled)

    assert asyncio.run(ask()) == (threading.current_thread(), True)


def test_the_collector_rests_while_large_work_is_done() -> None:
    async def ask() -> tuple[threading.Thread, bool]:
        return await offload.run(True, threading.current_thread), await offload.run(True, gc.isenabled)

    thread, collects = asyncio.run(ask())
    assert thread is not threading.current_thread()
    assert not collects
    assert gc.isenabled()


def test_the_collector_works_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError):
        asyncio.run(offload.run(True, divmod, 1, 0))
    assert gc.isenabled()


def test_the_collector_works_again_when_the_first_of_several_is_done() -> None:
    """So that one after another does not keep it away for ever."""
    begun, over = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert over.wait(10)

    async def work() -> None:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(offload.run(True, first))
            assert await asyncio.to_thread(begun.wait, 10)
            assert not await offload.run(True, gc.isenabled)
            assert not gc.isenabled()
            over.set()
            await task
            assert gc.isenabled()

    asyncio.run(work())
