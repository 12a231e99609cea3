"""Events live for an hour after they were last seen."""

from __future__ import annotations

import asyncio
import logging
import time

from msgspec import Struct, field

from podling.api import codec, scheme
from podling.api.core.v1 import Event, EventSeries
from podling.api.meta.v1 import ListMeta, ObjectMeta
from podling.api.status import ApiError
from podling.api.time import to_seconds
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed

log = logging.getLogger(__name__)

TTL = 3600.0
_LOOK_EVERY = (60.0, 900.0)
"""Seconds between looks: at the latest and, if the oldest event expires in between, at the soonest."""
_PAGE = 500


class _Stamps(Struct, rename="camel"):
    """Of an Event no more than tells its age."""

    metadata: ObjectMeta
    event_time: str | None = ""
    last_timestamp: str | None = ""
    series: EventSeries | None = None

    def last_seen(self) -> float:
        observed = self.series.last_observed_time if self.series else ""
        stamps = (self.metadata.creation_timestamp, self.event_time, self.last_timestamp, observed)
        return max((to_seconds(stamp) for stamp in stamps if stamp), default=0.0)


class _Page(Struct):
    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[_Stamps] = field(default_factory=list)


class EventTTLController:
    """Lists the events now and then instead of watching them: nobody needs them in memory here."""

    def __init__(self, client: Client, *, ttl: float = TTL) -> None:
        self._client = client
        self._ttl = ttl
        self._path = scheme.by_type(Event).path()

    async def run(self) -> None:
        backoff = Backoff(initial=1.0, maximum=60.0)
        while True:
            try:
                delay = await self.expire()
                backoff.reset()
            except (ApiError, ConnectionFailed, codec.DecodeError) as error:
                if not isinstance(error, ConnectionFailed):
                    log.warning("cannot look for old events: %s", error)
                await self._client.recovered(backoff.next())
                continue
            await asyncio.sleep(delay)

    async def expire(self) -> float:
        """Deletes what is too old. Returns the seconds until the next look."""
        token = ""
        oldest = time.time()
        while True:
            query = f"?limit={_PAGE}" + (f"&continue={token}" if token else "")
            page = codec.decode(_Page, await self._client.request("GET", self._path + query))
            limit = time.time() - self._ttl
            # One by one: nobody waits for this, and others want the server.
            old = [event.metadata for event in page.items if event.last_seen() < limit]
            for meta in old:
                await self._delete(meta)
            oldest = min([oldest, *(t for event in page.items if (t := event.last_seen()) >= limit)])
            token = page.metadata.continue_
            if not token:
                break
        soonest, latest = _LOOK_EVERY
        return min(max(oldest + self._ttl - time.time(), soonest), latest)

    async def _delete(self, meta: ObjectMeta) -> None:
        try:
            # Only as it was seen: who repeats an event meanwhile saves it.
            await self._client.delete(
                Event, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resource_version
            )
        except ApiError as error:
            if error.code not in (404, 409):
                raise
