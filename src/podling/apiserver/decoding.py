"""From the body of a request to an API object with its defaults."""

from __future__ import annotations

from typing import Any

import msgspec

from podling.api import codec, defaults, json_bounds, status, strict
from podling.api.scheme import Resource
from podling.api.types import Object
from podling.apiserver import negotiation, offload, protobuf
from podling.apiserver.call import Call
from podling.apiserver.write_options import IGNORE, STRICT


class TypeMeta(Object, kw_only=True):
    """What an object says that it is. Not private: clients see the name in errors."""

    api_version: str = ""
    kind: str = ""


_SHOWN = 30
"""Bytes of a body that is no object at all that its refusal quotes."""


async def read(call: Call, kind: type[Any], api_version: str, kind_name: str) -> Any:
    """The object in the body, which must be of the kind named (or name none), with its defaults.

    Raises ApiError (400, 413, 415, 422)."""
    level = call.options.field_validation
    supported = (*negotiation.SUPPORTED, negotiation.PROTOBUF)
    media_type = negotiation.content_type(call.request.headers.get("Content-Type", ""), supported)
    raw = await call.body()
    call.large = negotiation.is_large(raw, media_type)
    return await offload.run(call.large, _decode, call, raw, media_type, kind, api_version, kind_name, level)


def _decode(
    call: Call, raw: bytes, media_type: str, kind: type[Any], api_version: str, kind_name: str, level: str
) -> Any:
    if media_type == negotiation.PROTOBUF:
        document, problems = from_protobuf(raw, kind)
        return _convert(call, document, kind, level, problems, api_version, kind_name)
    try:
        body, duplicates = negotiation.to_json(raw, media_type)
    except codec.DecodeError as error:
        raise _unrecognized(kind_name, raw, str(error)) from error
    try:
        found = codec.decode(TypeMeta, body)
    except codec.DecodeError as error:
        raise _unrecognized(kind_name, raw, f"couldn't get version/kind; json parse error: {error}") from error
    check_type_meta(found, api_version, kind_name)
    try:
        problems = [] if level == IGNORE else [*strict.yaml_duplicates(duplicates), *strict.check(body, kind)]
        obj = codec.decode(kind, body)
    except (codec.DecodeError, msgspec.DecodeError, ValueError) as error:
        raise _cannot_be_handled(api_version, kind_name, str(error)) from error
    return _finish(call, obj, level, problems, api_version, kind_name)


async def read_object(call: Call, resource: Resource) -> Any:
    """An object of the resource, with its defaults. Raises ApiError."""
    return await read(call, resource.type, resource.api_version, resource.kind)


def from_document(call: Call, document: dict[str, Any], resource: Resource, level: str) -> Any:
    """An object of the resource from a plain document, with its defaults. Raises ApiError (400, 422)."""
    problems = [] if level == IGNORE else strict.check(document, resource.type)
    return _convert(call, document, resource.type, level, problems, resource.api_version, resource.kind)


def from_protobuf(body: bytes, kind: type[Any]) -> tuple[dict[str, Any], list[str]]:
    """The document of a protobuf body and what was not understood in it. Raises ApiError (400, 415)."""
    if not protobuf.decodes(kind):
        raise status.unsupported_media_type(negotiation.SUPPORTED)
    try:
        document, problems = protobuf.decode(body, kind)
        json_bounds.check(codec.encode(document))
        return document, problems
    except ValueError as error:
        raise status.bad_request(f"error decoding protobuf: {error}") from error


def _convert(
    call: Call,
    document: dict[str, Any],
    kind: type[Any],
    level: str,
    problems: list[str],
    api_version: str,
    kind_name: str,
) -> Any:
    found = TypeMeta(api_version=str(document.get("apiVersion", "")), kind=str(document.get("kind", "")))
    check_type_meta(found, api_version, kind_name)
    try:
        obj = codec.convert(document, kind)
    except codec.DecodeError as error:
        raise _cannot_be_handled(api_version, kind_name, str(error)) from error
    return _finish(call, obj, level, problems, api_version, kind_name)


def _finish(call: Call, obj: Any, level: str, problems: list[str], api_version: str, kind_name: str) -> Any:
    """Refuses (400) or warns of unknown and duplicate fields, as the client asked; sets defaults."""
    if level == IGNORE:
        problems = []
    if problems and level == STRICT:
        raise _cannot_be_handled(api_version, kind_name, strict.message(problems))
    call.warnings += problems
    obj.api_version, obj.kind = api_version, kind_name
    defaults.apply(obj)
    return obj


def check_type_meta(found: TypeMeta, api_version: str, kind_name: str) -> None:
    """Raises ApiError (400) for what says to be of another kind or version; it may say nothing."""
    if found.kind and found.kind != kind_name:
        group_version = found.api_version or api_version
        text = f'{found.kind} in version "{group_version}" cannot be handled as a {kind_name}: unknown conversion'
        raise status.bad_request(text)
    if found.api_version and found.api_version != api_version:
        text = (
            f"the API version in the data ({found.api_version}) does not match the expected API version ({api_version})"
        )
        raise status.bad_request(text)


def _cannot_be_handled(api_version: str, kind_name: str, reason: str) -> status.ApiError:
    version = api_version.rpartition("/")[2]
    return status.bad_request(f'{kind_name} in version "{version}" cannot be handled as a {kind_name}: {reason}')


def _unrecognized(kind_name: str, body: bytes, reason: str) -> status.ApiError:
    """The body says not even of what kind it is: no JSON or YAML, or no object."""
    shown = body[:_SHOWN].decode(errors="replace") if body.startswith(b"{") else body[:_SHOWN].hex()
    summary = shown + (" ..." if len(body) > _SHOWN else "") if body else "<empty>"
    return status.bad_request(
        f"the object provided is unrecognized (must be of type {kind_name}): {reason} ({summary})"
    )
