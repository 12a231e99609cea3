"""What every generated API type is made of: the base struct, scalar aliases and merge metadata."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from msgspec import Meta, Struct

Int32: TypeAlias = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
IntOrString: TypeAlias = Int32 | str
_MONTH_AND_DAY = (
    "(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|[12][0-9])"
)
_DATE = f"[0-9]{{4}}-(?:{_MONTH_AND_DAY})"
_SECONDS = _DATE + "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
Time: TypeAlias = Annotated[str, Meta(pattern=rf"\A{_SECONDS}Z\Z")]
"""RFC 3339 in UTC with seconds, "2026-01-02T03:04:05Z"; unset fields hold "" or None. The codec brings other zones to UTC."""
MicroTime: TypeAlias = Annotated[str, Meta(pattern=rf"\A{_SECONDS}\.[0-9]{{6}}Z\Z")]
"""RFC 3339 in UTC with microseconds, "2026-01-02T03:04:05.000000Z"; unset fields hold "" or None."""


class Object(Struct, kw_only=True, omit_defaults=True, rename="camel", gc=False):
    """Base of every API struct. API objects are trees, so the cyclic collector need not track them."""


class Merge(Struct, frozen=True, kw_only=True, gc=False):
    """How a list or map field merges.

    `strategies` and `key` are those of strategic merge patches ("merge", "replace", "retainKeys"); `list_type`
    ("atomic", "set", "map"), `list_map_keys` (wire names) and `map_type` ("granular", "atomic") those of server-side
    apply.
    """

    strategies: tuple[str, ...] = ()
    key: str = ""
    list_type: str = "atomic"
    list_map_keys: tuple[str, ...] = ()
    map_type: str = "granular"


def null() -> None:
    """Default of times that are encoded as null when they are unset. msgspec would omit None."""


def empty_list() -> list[Any]:
    """Default of required lists: unlike `list` it is no default that msgspec omits, so that `items: []` is encoded."""
    return []


def empty_dict() -> dict[str, Any]:
    """Default of required maps, see empty_list."""
    return {}
