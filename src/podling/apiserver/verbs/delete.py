"""DELETE of one object or of a collection."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from aiohttp.web import StreamResponse
from multidict import MultiMapping

from podling.api import codec, status
from podling.api.meta.v1 import DeleteOptions, ListMeta, Preconditions
from podling.apiserver import (
    decoding,
    list_options,
    negotiation,
    offload,
    output,
    parameters,
    responses,
    unreadable,
    write_options,
)
from podling.apiserver.call import Call
from podling.apiserver.partial import metadata_of
from podling.apiserver.verbs.list import select
from podling.kit.time_slice import TimeSlice

_PARALLEL = 64
"""Deletions of a collection on their way at once: they share commits."""


async def handle(call: Call) -> StreamResponse:
    accepted = call.accepted(transform=False)
    options = await read_options(call)
    caller = call.caller(dry_run=bool(options.dry_run))
    result = await call.registry.delete(call.namespace, call.info.name, options, caller)
    if call.registry.strategy.returns_deleted or not result.deleted:
        return await output.send_object(call, result.value, accepted)
    metadata = metadata_of(result.value)
    answer = codec.encode(status.success(call.resource, metadata.name, metadata.uid))
    return await responses.send(call, answer, media_type=accepted.media_type)


async def handle_collection(call: Call) -> StreamResponse:
    accepted = call.accepted(transform=False)
    list_of = list_options.parse(call.query, watch=False)
    options = await read_options(call)
    caller = call.caller(dry_run=bool(options.dry_run))
    page = await select(call, list_of)
    parallel = asyncio.Semaphore(_PARALLEL)
    results: list[bytes] = []

    async def delete(namespace: str, name: str, options: DeleteOptions) -> None:
        async with parallel:
            try:
                result = await call.registry.delete(namespace, name, options, caller)
            except status.ApiError as error:
                if error.code != 404:
                    raise
            else:
                results.append(result.value)

    failed: Sequence[BaseException] = ()
    try:
        async with asyncio.TaskGroup() as group:
            time_slice = TimeSlice()
            for entry in page.entries:
                one = metadata_of(entry.value)
                group.create_task(delete(one.namespace, one.name, options))
                if time_slice.over:
                    await time_slice.next()
            if not list_of.label_selector and not list_of.field_selector:
                # Who empties a namespace cannot be asked to name what no list shows.
                forced = msgspec.structs.replace(options, grace_period_seconds=0)
                for _, namespace, name, _ in unreadable.all_of(call.state.store, call.registry.prefix(call.namespace)):
                    group.create_task(delete(namespace, name, forced))
    except* status.ApiError as errors:
        failed = errors.exceptions
    if failed:  # Python 3.11.2 wraps in a group what is raised within except*
        raise failed[0]
    metadata = ListMeta(resource_version=str(call.state.store.revision))
    return await output.send_list(call, results, metadata, accepted)


async def read_options(call: Call) -> DeleteOptions:
    """DeleteOptions of the body, else of the query. Raises ApiError (400, 413, 415, 422)."""
    body = await call.body()
    if body.strip():
        supported = (*negotiation.SUPPORTED, negotiation.PROTOBUF)
        media_type = negotiation.content_type(call.request.headers.get("Content-Type", ""), supported)
        options = await offload.run(negotiation.is_large(body, media_type), _decode, body, media_type)
    else:
        options = _from_query(call.query)
    write_options.check_delete(options)
    return options


def _decode(body: bytes, media_type: str) -> DeleteOptions:
    document = _document(body, media_type)
    try:
        options = codec.convert(document, DeleteOptions)
    except codec.DecodeError as error:
        raise status.bad_request(
            f'DeleteOptions in version "v1" cannot be handled as a DeleteOptions: {error}'
        ) from error
    # Its apiVersion is that of the client's API group as often as "v1" or "meta.k8s.io/v1".
    said = decoding.TypeMeta(api_version=options.api_version, kind=options.kind)
    decoding.check_type_meta(said, options.api_version, "DeleteOptions")
    return options


def _document(body: bytes, media_type: str) -> Any:
    if media_type == negotiation.PROTOBUF:
        return decoding.from_protobuf(body, DeleteOptions)[0]
    problem = ""
    try:
        body, _ = negotiation.to_json(body, media_type)
        problem = "couldn't get version/kind; json parse error: "
        return codec.decode_json(body)
    except codec.DecodeError as error:
        raise status.bad_request(f"{problem}{error}") from error


def _from_query(query: MultiMapping[str]) -> DeleteOptions:
    uid, version = query.get("uid") or None, query.get("resourceVersion") or None
    return DeleteOptions(
        grace_period_seconds=parameters.integer(query, "gracePeriodSeconds"),
        preconditions=Preconditions(uid=uid, resource_version=version) if uid or version else None,
        orphan_dependents=parameters.optional_flag(query, "orphanDependents"),
        propagation_policy=query.get("propagationPolicy"),
        dry_run=query.getall("dryRun", []),
    )
