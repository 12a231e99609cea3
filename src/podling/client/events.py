"""Records Events about objects, with the correlation that client-go does.

The same event again raises the count of the one there is; many events that differ in nothing but their message become
one "(combined from similar events): "; and a source may speak 25 times about an object, then once in five minutes.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict, deque
from typing import Any, Generic, TypeVar

import msgspec

from podling.api import codec
from podling.api.core.v1 import Event, EventSource, ObjectReference
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.api.time import from_seconds
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed
from podling.client.objects import Object

log = logging.getLogger(__name__)

NORMAL = "Normal"
WARNING = "Warning"

_QUEUE = 1000
_HEAD_START = 0.1
"""Seconds that an event waits if none was waiting: what it tells of (a Pod's status) is not to queue up behind it."""
_CACHE = 4096
_SIMILAR_MAX = 10
"""So many messages within the interval are kept apart; more are combined."""
_SIMILAR_INTERVAL = 600.0
_SPAM_BURST = 25
_SPAM_REFILL = 1 / 300

K = TypeVar("K")
V = TypeVar("V")


def reference(obj: Object, field_path: str = "") -> ObjectReference:
    """What an Event's involvedObject says of this object."""
    meta = obj.metadata
    return ObjectReference(
        kind=obj.kind,
        api_version=obj.api_version,
        namespace=meta.namespace,
        name=meta.name,
        uid=meta.uid,
        resource_version=meta.resource_version,
        field_path=field_path,
    )


class EventRecorder:
    """Events of one component (source.component) on one host (source.host).

    `run()` must be going for events to be written. What is not yet written waits in a queue of 1000; when the server is
    away it is tried again until it is back, and what does not fit into the queue is lost."""

    def __init__(self, client: Client, component: str, host: str = "") -> None:
        self._client = client
        self._source = EventSource(component=component, host=host)
        self._queue: deque[Event] = deque()
        self._wake = asyncio.Event()
        self._written = asyncio.Event()
        self._written.set()
        self._correlator = Correlator()
        self._lost = 0

    def event(
        self, obj: Object | ObjectReference, type: str, reason: str, message: str, *, field_path: str = ""
    ) -> None:
        """Never blocks or raises. `type` is "Normal" or "Warning"; `field_path` names a part of the object, as
        "spec.containers{web}"."""
        if len(self._queue) >= _QUEUE:
            self._lost += 1
            return
        involved = obj if isinstance(obj, ObjectReference) else reference(obj, field_path)
        now = time.time_ns()
        stamp = from_seconds(now / 1e9)
        self._queue.append(
            Event(
                metadata=ObjectMeta(name=f"{involved.name}.{now:x}", namespace=involved.namespace or "default"),
                involved_object=involved,
                type=type,
                reason=reason,
                message=message,
                count=1,
                first_timestamp=stamp,
                last_timestamp=stamp,
                source=self._source,
                reporting_component=self._source.component,
                reporting_instance=self._source.host,
            )
        )
        self._written.clear()
        self._wake.set()

    async def run(self) -> None:
        """Writes events until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(_HEAD_START)
            while self._queue:
                try:
                    await self._write(self._queue[0])
                except Exception:
                    # Events are a courtesy: whatever is wrong with one must not end the process that tells of it.
                    log.exception("event not written: %s", self._queue[0])
                self._queue.popleft()
                if self._lost:
                    log.warning("%d events were lost: the queue was full", self._lost)
                    self._lost = 0
            self._wake.clear()
            self._written.set()

    async def flush(self) -> None:
        """Returns once everything recorded so far was written (or refused by the server)."""
        await self._written.wait()

    async def _write(self, event: Event) -> None:
        correlated = self._correlator.correlate(event)
        if correlated is None:
            return
        key, event, again = correlated
        backoff = Backoff(initial=0.2, maximum=10.0)
        while True:
            try:
                if again:
                    patch = {"count": event.count, "lastTimestamp": event.last_timestamp, "message": event.message}
                    meta = event.metadata
                    await self._client.patch(Event, meta.name, meta.namespace, patch, content_type="strategic")
                else:
                    await self._client.create(event)
                self._correlator.written(key, event)
                return
            except ConnectionFailed:
                await self._client.recovered(backoff.next())
            except ApiError as error:
                if again and error.code == 404:
                    # It has outlived its time: begin anew.
                    again = False
                    name = f"{event.involved_object.name}.{time.time_ns():x}"
                    event = msgspec.structs.replace(event, metadata=ObjectMeta(name=name, namespace=meta.namespace))
                    continue
                if error.code in (429, 500, 503, 504):
                    await self._client.recovered(backoff.next())
                    continue
                if not (error.code == 409 or error.status.reason in ("NotFound", "Forbidden")):
                    log.warning("event %s not written: %s", codec.encode(event).decode(), error)
                return


class _Seen(msgspec.Struct):
    name: str
    count: int
    first_timestamp: str | None


class _Similar(msgspec.Struct):
    messages: set[str]
    last: float


class _Bucket(msgspec.Struct):
    tokens: float
    last: float


class Correlator:
    """Decides for each event: new, the same as one there is, one of many alike, or too many."""

    def __init__(self) -> None:
        self._seen: _Recent[tuple[str, ...], _Seen] = _Recent(_CACHE)
        self._similar: _Recent[tuple[str, ...], _Similar] = _Recent(_CACHE)
        self._buckets: _Recent[tuple[str, ...], _Bucket] = _Recent(_CACHE)

    def correlate(self, event: Event, now: float | None = None) -> tuple[tuple[str, ...], Event, bool] | None:
        """The key to give to `written`, the event to write and whether it exists already (patch it); None: drop it.
        `now` is in seconds of the monotonic clock."""
        now = time.monotonic() if now is None else now
        event, key = self._combine(event, now)
        seen = self._seen.get(key)
        if seen is not None:
            meta = ObjectMeta(name=seen.name, namespace=event.metadata.namespace)
            count = seen.count + 1
            event = msgspec.structs.replace(event, metadata=meta, count=count, first_timestamp=seen.first_timestamp)
            seen.count = count
        if not self._accept(event, now):
            return None
        return key, event, seen is not None

    def written(self, key: tuple[str, ...], event: Event) -> None:
        """Remembers an event that is on the server now."""
        self._seen.put(key, _Seen(event.metadata.name, event.count or 1, event.first_timestamp))

    def _combine(self, event: Event, now: float) -> tuple[Event, tuple[str, ...]]:
        about = _about(event)
        key = (*about, event.type, event.reason)
        similar = self._similar.get(key)
        if similar is None or now - similar.last > _SIMILAR_INTERVAL:
            similar = _Similar(set(), now)
            self._similar.put(key, similar)
        similar.messages.add(event.message)
        similar.last = now
        if len(similar.messages) < _SIMILAR_MAX:
            return event, (*key, event.involved_object.field_path, event.message)
        similar.messages.pop()
        combined = msgspec.structs.replace(event, message=f"(combined from similar events): {event.message}")
        return combined, key

    def _accept(self, event: Event, now: float) -> bool:
        key = _about(event)
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = _Bucket(_SPAM_BURST, now)
            self._buckets.put(key, bucket)
        bucket.tokens = min(_SPAM_BURST, bucket.tokens + (now - bucket.last) * _SPAM_REFILL)
        bucket.last = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _about(event: Event) -> tuple[str, ...]:
    obj = event.involved_object
    return (obj.kind, obj.namespace, obj.name, obj.uid, obj.api_version)


class _Recent(Generic[K, V]):
    """A map that forgets what was not used for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: OrderedDict[K, V] = OrderedDict()

    def get(self, key: K) -> V | None:
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: K, value: Any) -> None:
        self._items[key] = value
        self._items.move_to_end(key)
        if len(self._items) > self._size:
            self._items.popitem(last=False)
