"""Strict decoding: fields that no type has, and fields that stand twice.

Paths and messages are those of sigs.k8s.io/json (for YAML: of its YAML parser, which knows lines but no paths).
"""

from __future__ import annotations

import json
from typing import Any

from podling.api import shape
from podling.api.coerce import TOO_DEEP
from podling.api.go import quote
from podling.api.shape import Shape

# Upstream stops collecting there.
MAX_ERRORS = 100


def check(document: bytes | str | dict[str, Any], type_: Any) -> list[str]:
    """What strict decoding of `document` as `type_` objects to: `unknown field "spec.foo"`, `duplicate field "spec.x"`.

    `document` is JSON text, or a dict, which cannot hold duplicates. Text that is no JSON raises ValueError.
    """
    return _errors(document, shape.of(type_))


def check_duplicates(document: bytes | str) -> list[str]:
    """Duplicate fields of JSON that has no type, such as a patch. Text that is no JSON raises ValueError."""
    return _errors(document, _UNTYPED)


def _errors(document: bytes | str | dict[str, Any], target: Shape) -> list[str]:
    found: dict[str, None] = {}
    try:
        root: Any = document
        if isinstance(document, (bytes, str)):
            root = json.loads(document, object_pairs_hook=_Pairs, parse_int=_unread, parse_float=_unread)
        _check(root, target, "", found)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    return list(found)[:MAX_ERRORS]


def yaml_duplicates(lines: list[str]) -> list[str]:
    """The one objection that upstream makes of the keys that stand twice in a YAML document (yaml_document.load)."""
    return ["yaml: unmarshal errors:\n" + "\n".join(lines)] if lines else []


def message(errors: list[str]) -> str:
    """The text of a refusal: `strict decoding error: unknown field "spec.foo", duplicate field "spec.x"`."""
    return f"strict decoding error: {', '.join(errors)}"


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its duplicates."""


def _unread(number: str) -> None:
    """Return nothing: no value counts here. That this is Python lets other threads run, which json.loads does not."""


_UNTYPED = Shape(shape.ANY)


def _check(value: Any, target: Shape, path: str, found: dict[str, None]) -> None:
    if isinstance(value, (_Pairs, dict)):
        pairs = value if isinstance(value, _Pairs) else value.items()
        if target.kind == shape.STRUCT:
            assert target.struct is not None
            known = shape.fields(target.struct)
        elif target.kind in (shape.MAP, shape.ANY):
            known = {}
        else:
            return
        seen: set[str] = set()
        for name, item in pairs:
            at = f"{path}.{name}" if path else name
            if target.kind == shape.STRUCT:
                field = known.get(name)
                if field is None:
                    found[f"unknown field {quote(at)}"] = None
                    continue
                inner = field.shape
            else:
                inner = target.item or _UNTYPED
            if name in seen:
                found[f"duplicate field {quote(at)}"] = None
            seen.add(name)
            # Documents without a type are kept as they are, duplicates included.
            if inner.kind != shape.ANY or target.kind == shape.ANY:
                _check(item, inner, at, found)
    elif isinstance(value, list) and target.kind in (shape.LIST, shape.ANY):
        for i, item in enumerate(value):
            _check(item, target.item or _UNTYPED, f"{path}[{i}]", found)
