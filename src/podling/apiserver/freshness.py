"""Waiting until the store has reached the revision that a client has already seen."""

from __future__ import annotations

import asyncio

from podling.api import status
from podling.store.protocol import Store

_PATIENCE = 3.0
"""Seconds, as upstream's watch cache."""


async def wait(store: Store, revision: int | None) -> None:
    """Raises ApiError (504, "Too large resource version") if the revision is not reached soon."""
    if revision is None or revision <= store.revision:
        return
    try:
        async with asyncio.timeout(_PATIENCE):
            await store.wait(revision)
    except TimeoutError:
        raise status.too_large_resource_version(revision, store.revision) from None
