"""What the agent does beside its Pods."""

from __future__ import annotations

import asyncio

import pytest

from podling.kubelet import kubelet


def test_housekeeping_that_fails_is_begun_again_and_ends_with_its_owner(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kubelet, "_HOUSEKEEPING_PAUSE", 0)
    begun = 0

    async def test() -> None:
        again = asyncio.Event()

        async def run() -> None:
            nonlocal begun
            begun += 1
            if begun == 1:
                raise ZeroDivisionError
            again.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(kubelet.housekeeping("sweeping", run))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(test())
    assert begun == 2
    assert "sweeping failed" in caplog.text
