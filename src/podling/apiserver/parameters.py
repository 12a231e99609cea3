"""The query of a request, as Go reads it: url.ParseQuery and the conversions of k8s.io/apimachinery/pkg/runtime.

Bytes that are not UTF-8 stay in the texts as surrogate escapes, so that messages can show them as Go does. Of a parameter
that is given more than once the first value counts, unless it is a list.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import parse_qsl

from multidict import MultiDict, MultiDictProxy

from podling.api import go, status
from podling.kit.short_cache import short_cache


@short_cache(64)  # strangers may send queries, too: a short one of blank parameters takes some 80 KB
def parse(query: str) -> MultiDictProxy[str]:
    """Return the parameters of a query that is still percent-encoded."""
    pairs = parse_qsl(query, keep_blank_values=True, errors="surrogateescape")
    return MultiDictProxy(MultiDict(pairs))


def flag(query: Mapping[str, str], name: str) -> bool:
    """Return whether the parameter is given, and neither "false" nor "0": `?watch` is true."""
    return name in query and query[name].lower() not in ("false", "0")


def optional_flag(query: Mapping[str, str], name: str) -> bool | None:
    """Return whether the flag is set, or None if it is not given."""
    return flag(query, name) if name in query else None


def integer(query: Mapping[str, str], name: str) -> int | None:
    """Return a number of 64 bits, or None where none is given. Raises ApiError (400), for an empty text, too."""
    try:
        return go.parse_int(query[name]) if name in query else None
    except ValueError as error:
        raise status.bad_request(str(error)) from None
