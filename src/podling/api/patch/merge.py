"""JSON merge patch, RFC 7386."""

from __future__ import annotations

from typing import Any

from podling.api import status
from podling.api.coerce import TOO_DEEP


def apply(document: dict[str, Any], patch: object) -> dict[str, Any]:
    """A patched document that shares what did not change with `document`. Raises ApiError for what is no object."""
    if not isinstance(patch, dict):
        raise status.bad_request("Invalid JSON Patch")
    try:
        return _merge(document, patch)
    except RecursionError:
        raise status.bad_request(TOO_DEEP) from None


def _merge(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    result = dict(target)
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        elif isinstance(value, dict):
            current = result.get(name)
            result[name] = _merge(current if isinstance(current, dict) else {}, value)
        else:
            result[name] = value
    return result
