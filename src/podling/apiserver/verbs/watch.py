"""Watches: a stream of JSON events, one a line. The bytes of an object are those stored; nothing is encoded again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator
from typing import cast

from aiohttp.web import StreamResponse
from multidict import CIMultiDict

from podling.api import codec, status
from podling.apiserver import freshness, list_options, output, responses
from podling.apiserver.call import Call
from podling.apiserver.list_options import Options
from podling.apiserver.negotiation import JSON
from podling.apiserver.selection import Predicate
from podling.apiserver.status_event import error_event
from podling.apiserver.verbs.list import predicate
from podling.kit.http_connection import cancelled_with_connection
from podling.kit.time_slice import TimeSlice
from podling.store.protocol import Compacted, Event, EventType, StoreUnavailable

log = logging.getLogger(__name__)

_MINIMUM_TIMEOUT = 1800.0
"""Seconds; a watch without a timeout ends between this and twice this, so that clients spread (as upstream)."""

INITIAL_EVENTS_END = "k8s.io/initial-events-end"


async def handle(call: Call) -> StreamResponse:
    options = list_options.parse(call.query, watch=True)
    wanted = predicate(call, options)
    render = output.event_renderer(call, call.accepted())
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": JSON, "Cache-Control": "no-cache, private"})
    responses.warn(headers, call.warnings)
    response = StreamResponse(headers=headers)
    response.enable_chunked_encoding()
    await response.prepare(call.request)
    seconds = options.timeout or random.uniform(_MINIMUM_TIMEOUT, 2 * _MINIMUM_TIMEOUT)
    events = _events(call, options, wanted)
    with contextlib.suppress(TimeoutError), cancelled_with_connection(call.request):
        async with asyncio.timeout(seconds) as timeout, contextlib.aclosing(events):
            call.state.streams.add(timeout)
            try:
                if call.state.stopping:
                    return response
                async for type_, value in events:
                    await response.write(render(type_, value))
            except status.ApiError as error:
                await response.write(error_event(error.status))
            except StoreUnavailable as error:
                await response.write(error_event(status.service_unavailable(str(error)).status))
            except ConnectionError:
                raise
            except Exception:
                # The answer has begun, so that only an event can tell of it.
                log.exception("watch of %s failed", call.request.path)
                failure = status.internal("an unexpected error, see the server's log")
                await response.write(error_event(failure.status))
            finally:
                call.state.streams.discard(timeout)
    await response.write_eof()
    return response


async def _events(call: Call, options: Options, wanted: Predicate | None) -> AsyncGenerator[tuple[str, bytes], None]:
    """Type and object of every event that the client asked for. Raises ApiError (410, 504)."""
    store, registry = call.state.store, call.registry
    prefix = registry.prefix(call.namespace)
    await freshness.wait(store, options.revision)
    since = options.revision or 0
    initial = options.initial_events if options.initial_events is not None else not since
    if initial:
        page = await store.list(prefix)
        since = page.revision
        time_slice = TimeSlice()
        for entry in page.entries:
            if wanted is None or wanted(entry.value):
                yield EventType.ADDED, entry.value
            if time_slice.over:
                await time_slice.next()
        if options.initial_events and options.bookmarks:
            yield EventType.BOOKMARK, _bookmark(call, since, {INITIAL_EVENTS_END: "true"})
    elif not since:
        since = store.revision
    stream = cast(AsyncGenerator[Event, None], store.watch(prefix, since=since, bookmarks=options.bookmarks))
    try:
        async with contextlib.aclosing(stream):
            async for event in stream:
                if event.type is EventType.BOOKMARK:
                    yield EventType.BOOKMARK, _bookmark(call, event.revision, {})
                elif (shown := _selected(call, event, wanted)) is not None:
                    yield shown
    except Compacted as error:
        raise status.too_old_resource_version(error.requested, error.oldest) from None


def _selected(call: Call, event: Event, wanted: Predicate | None) -> tuple[str, bytes] | None:
    """The event as the selection sees it: a change may bring an object into it or take it out."""
    if wanted is None:
        return event.type, event.value
    if event.type is EventType.ADDED:
        return (EventType.ADDED, event.value) if wanted(event.value) else None
    was = event.previous is not None and wanted(event.previous)
    if event.type is EventType.DELETED:
        return (EventType.DELETED, event.value) if was else None
    if wanted(event.value):
        return (EventType.MODIFIED if was else EventType.ADDED), event.value
    if not was or event.previous is None:
        return None
    # The object as it last was in the selection, at the revision that took it out.
    last = call.registry.decode(event.previous)
    last.metadata.resource_version = str(event.revision)
    return EventType.DELETED, codec.encode(last)


def _bookmark(call: Call, revision: int, annotations: dict[str, str]) -> bytes:
    metadata: dict[str, object] = {"resourceVersion": str(revision), "creationTimestamp": None}
    if annotations:
        metadata["annotations"] = annotations
    resource = call.resource
    return codec.encode({"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata})
