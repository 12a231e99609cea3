"""GET of a collection: pages at one revision, joined from the stored bytes."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from aiohttp.web import StreamResponse

from podling.api import status
from podling.api.meta.v1 import ListMeta
from podling.apiserver import freshness, list_options, output, selection, unreadable
from podling.apiserver.call import Call
from podling.apiserver.list_options import Options
from podling.apiserver.selection import Predicate
from podling.kit.time_slice import TimeSlice
from podling.store.protocol import Compacted, Entry, FutureRevision

_LOOK = 500


class Selected(msgspec.Struct):
    """A page of the selected objects."""

    entries: list[Entry]
    metadata: ListMeta


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted()
    page = await select(call, list_options.parse(call.query, watch=False))
    call.warnings += unreadable.warnings(call.state.store, call.registry.prefix(call.namespace))
    return await output.send_list(call, [entry.value for entry in page.entries], page.metadata, accepted)


async def select(call: Call, options: Options) -> Selected:
    """The objects that the options ask for. Raises ApiError."""
    wanted = predicate(call, options)
    if options.continue_:
        revision, start = list_options.decode_token(options.continue_)
        if options.revision:
            raise status.bad_request("specifying resource version is not allowed when using continue")
        revision = max(revision, 0)
    else:
        await freshness.wait(call.state.store, options.revision)
        revision, start = (options.revision or 0) if options.exact else 0, ""
    try:
        return await _pages(call, options, wanted, start, revision)
    except Compacted:
        if not options.continue_:
            raise status.expired(list_options.TOO_OLD) from None
        error = status.expired(list_options.TOKEN_TOO_OLD)
        error.status.metadata.continue_ = list_options.encode_token(-1, start)
        raise error from None
    except FutureRevision:
        raise status.too_large_resource_version(revision, call.state.store.revision) from None


def predicate(call: Call, options: Options) -> Predicate | None:
    """Whether an object is asked for, by its stored bytes. Raises ApiError (400)."""
    fields = options.field_selector
    if call.info.name:  # only the deprecated /watch/ paths have a name here
        fields = f"{fields},metadata.name={call.info.name}".lstrip(",")
    resource = call.resource
    return selection.predicate(resource.group, resource.plural, options.label_selector, fields)


async def _pages(call: Call, options: Options, wanted: Predicate | None, start: str, revision: int) -> Selected:
    """Reads on until the limit is full of selected objects."""
    registry, limit = call.registry, options.limit
    base = registry.resource.key_prefix
    prefix = registry.prefix(call.namespace)
    next_key = base + start if start else ""
    entries: list[Entry] = []
    while True:
        # What is selected may be rare: one look at the store is then to find more than the few that are still wanted.
        size = limit if not limit or wanted is None else max(limit - len(entries), _LOOK)
        page = await call.state.store.list(prefix, start=next_key, limit=size, revision=revision)
        revision, next_key = page.revision, page.next_key
        if wanted is None:
            entries += page.entries
            break
        rest = await _select(page.entries, wanted, entries, limit)
        if rest:
            next_key = rest
        if not next_key or (limit and len(entries) >= limit):
            break
    metadata = ListMeta(resource_version=str(revision))
    if next_key:
        metadata.continue_ = list_options.encode_token(revision, next_key.removeprefix(base))
        # Upstream leaves the count out where a selector makes it unknown.
        metadata.remaining_item_count = page.remaining if wanted is None else None
    return Selected(entries, metadata)


async def _select(page: Sequence[Entry], wanted: Predicate, into: list[Entry], limit: int) -> str:
    """Add the selected entries up to the limit, in turns with all other work. Return the key of the rest, or ""."""
    time_slice = TimeSlice()
    for entry in page:
        if limit and len(into) == limit:
            return entry.key
        if wanted(entry.value):
            into.append(entry)
        if time_slice.over:
            await time_slice.next()
    return ""
