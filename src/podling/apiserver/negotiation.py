"""Media types: what a client sends and what it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any

import msgspec
import yaml
from msgspec import Struct

from podling.api import codec, json_bounds, status, utf8, yaml_document
from podling.apiserver import offload
from podling.kit import document_error

JSON = "application/json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
SUPPORTED = (JSON, YAML)

_LARGE_PROTOBUF = 4 << 10

_JSON_NAMES = frozenset({JSON, "*/*", "application/*"})
_TRUE = frozenset({"1", "t", "T", "true", "True", "TRUE"})
_READ_BY_PEOPLE = ("curl", "Wget", "Mozilla/5.0")
"""How browsers and tools of the command line call themselves, as upstream."""


class Shape(StrEnum):
    """In what form a client wants objects."""

    OBJECT = ""
    TABLE = "Table"
    PARTIAL = "PartialObjectMetadata"
    PARTIAL_LIST = "PartialObjectMetadataList"


class Accepted(Struct, frozen=True):
    media_type: str = JSON
    shape: Shape = Shape.OBJECT
    version: str = "v1"
    """Of meta.k8s.io, for the shapes that are its kinds."""

    @property
    def api_version(self) -> str:
        return f"meta.k8s.io/{self.version}"


_DEFAULT = Accepted()
_SHAPE_VERSIONS = ("v1", "v1beta1")


def for_people(query: Mapping[str, str], user_agent: str) -> bool:
    """Whether JSON is to be indented: `pretty` says so, or else the kind of client."""
    asked = query.get("pretty", "")
    return asked in _TRUE if asked else user_agent.startswith(_READ_BY_PEOPLE)


def indented(value: bytes) -> bytes:
    """Return a JSON document with a line for each field, and a newline at the end."""
    return msgspec.json.format(value, indent=2) + b"\n"


@lru_cache(256)
def accept(header: str, *, transform: bool = True) -> Accepted:
    """The first of the accepted media types that is served. transform: whether as=Table and the like are.

    Raises ApiError (406)."""
    if not header:
        return _DEFAULT
    for clause in by_quality(header):
        name, parameters = clause
        if name in _JSON_NAMES:
            media_type = JSON
        elif name in (YAML, "application/yml", "text/yaml"):
            media_type = YAML
        else:
            continue
        wanted = parameters.get("as", "")
        if not wanted:
            return Accepted(media_type)
        version = parameters.get("v", "")
        known = parameters.get("g") == "meta.k8s.io" and version in _SHAPE_VERSIONS and wanted in tuple(Shape)
        if transform and known:
            return Accepted(media_type, Shape(wanted), version)
    raise status.not_acceptable(SUPPORTED)


def content_type(header: str, supported: tuple[str, ...] = SUPPORTED) -> str:
    """The media type of a request's body, without parameters. Raises ApiError (415)."""
    name = header.partition(";")[0].strip().lower() or JSON
    if name not in supported:
        raise status.unsupported_media_type(supported)
    return name


def is_large(body: bytes, media_type: str) -> bool:
    """Return whether to read a body in a thread. YAML and protobuf take Python a microsecond for each byte."""
    if media_type == YAML:
        return True  # however short: its aliases may stand for a large document
    return len(body) > _LARGE_PROTOBUF if media_type == PROTOBUF else offload.is_large(body)


def to_json(body: bytes, media_type: str) -> tuple[bytes, list[str]]:
    """Return a JSON or YAML body as JSON, and a line for each duplicate key of YAML.

    Raise DecodeError for broken YAML, and beyond the limits of yaml_bounds and json_bounds."""
    document, duplicates = from_yaml(body) if media_type == YAML else (utf8.repaired(body), [])
    try:
        json_bounds.check(document)
    except ValueError as error:
        raise codec.DecodeError(str(error)) from error
    return document, duplicates


def from_yaml(body: bytes) -> tuple[bytes, list[str]]:
    """A YAML body as JSON, and a line for each of its duplicate keys. Raises DecodeError."""
    try:
        value, duplicates = yaml_document.load(body)
        return msgspec.json.encode(value), duplicates
    except (yaml.YAMLError, TypeError, ValueError) as error:
        raise codec.DecodeError(f"error converting YAML to JSON: {document_error.reason(error)}") from error


def to_yaml(value: bytes) -> bytes:
    """JSON as YAML."""
    return yaml.dump(msgspec.json.decode(value), Dumper=_Dumper, default_flow_style=False, encoding="utf-8")


def by_quality(header: str) -> list[tuple[str, dict[str, str]]]:
    """The media types of an Accept header with their parameters, the most wanted first."""
    clauses = []
    for part in header.split(","):
        name, *rest = (piece.strip() for piece in part.split(";"))
        parameters = {key.strip(): value.strip().strip('"') for key, _, value in (item.partition("=") for item in rest)}
        try:
            quality = float(parameters.pop("q", "1"))
        except ValueError:
            quality = 0.0
        if quality > 0:
            clauses.append((quality, name.lower(), parameters))
    clauses.sort(key=lambda clause: -clause[0])
    return [(name, parameters) for _, name, parameters in clauses]


_Dumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
