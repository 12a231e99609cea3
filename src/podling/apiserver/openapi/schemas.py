"""The schemas of the API types, from the file that tools/generate_openapi.py makes."""

from __future__ import annotations

import gzip
import importlib.resources
import re
from collections.abc import Iterable
from functools import cache

import msgspec

from podling.apiserver.document import digest

_REFERENCE = re.compile(rb'"#/definitions/([^"]+)"')


def _packed() -> bytes:
    return (importlib.resources.files(__package__) / "schemas.json.gz").read_bytes()


@cache
def version() -> bytes:
    """Changes with the schemas."""
    return digest(_packed()).encode()


def with_dependencies(names: Iterable[str]) -> dict[str, bytes]:
    """The named definitions and those that they refer to: OpenAPI v2 schemas as JSON, in the order of the names.

    Raises KeyError for a name that there is none of."""
    known = msgspec.json.decode(gzip.decompress(_packed()), type=dict[str, msgspec.Raw])
    found: dict[str, bytes] = {}
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schema = bytes(known[name])
            waiting += [reference.decode() for reference in _REFERENCE.findall(schema)]
    return dict(sorted(found.items()))
