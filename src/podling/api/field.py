"""Errors about single fields of an object, and the paths that name the fields.

Texts are those of k8s.io/apimachinery/pkg/util/validation/field.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from podling.api import go_json
from podling.api.go import quote
from podling.api.quantity import Quantity

NOT_FOUND = "FieldValueNotFound"
REQUIRED = "FieldValueRequired"
DUPLICATE = "FieldValueDuplicate"
INVALID = "FieldValueInvalid"
NOT_SUPPORTED = "FieldValueNotSupported"
FORBIDDEN = "FieldValueForbidden"
TOO_LONG = "FieldValueTooLong"
TOO_MANY = "FieldValueTooMany"
INTERNAL = "InternalError"
TYPE_INVALID = "FieldValueTypeInvalid"

_TITLES = {
    NOT_FOUND: "Not found",
    REQUIRED: "Required value",
    DUPLICATE: "Duplicate value",
    INVALID: "Invalid value",
    NOT_SUPPORTED: "Unsupported value",
    FORBIDDEN: "Forbidden",
    TOO_LONG: "Too long",
    TOO_MANY: "Too many",
    INTERNAL: "Internal error",
    TYPE_INVALID: "Invalid value",
}
_WITHOUT_VALUE = frozenset({REQUIRED, FORBIDDEN, TOO_LONG, INTERNAL})


class Path(str):
    """The path of a field, `spec.containers[0].env[name]`. Immutable; a plain string to everybody else."""

    __slots__ = ()

    def child(self, *names: str) -> Path:
        return Path(".".join((self, *names) if self else names))

    def index(self, index: int) -> Path:  # type: ignore[override]
        """An element of a list."""
        return Path(f"{self}[{index}]")

    def key(self, key: str) -> Path:
        """An entry of a map."""
        return Path(f"{self}[{key}]")


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field. `type` is the reason of its status cause, for example FieldValueInvalid."""

    type: str
    field: str
    bad_value: Any = ""
    detail: str = ""

    @property
    def body(self) -> str:
        """The message without the field's path, as in a status cause."""
        text = _TITLES[self.type]
        if self.type not in _WITHOUT_VALUE and self.bad_value is not _OMIT:
            text += f": {_show(self.bad_value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field or '<nil>'}: {self.body}"


class _Omit:
    pass


_OMIT = _Omit()


def _show(value: object) -> str:
    if value is None:
        # A nil pointer becomes the text null, which is then shown like every text.
        return '"null"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, Quantity):
        return quote(str(value))
    return go_json.dump(value)


def not_found(path: str, value: object) -> FieldError:
    return FieldError(NOT_FOUND, path, value)


def required(path: str, detail: str = "") -> FieldError:
    return FieldError(REQUIRED, path, "", detail)


def duplicate(path: str, value: object) -> FieldError:
    return FieldError(DUPLICATE, path, value)


def invalid(path: str, value: object, detail: str) -> FieldError:
    return FieldError(INVALID, path, value, detail)


def type_invalid(path: str, value: object, detail: str) -> FieldError:
    return FieldError(TYPE_INVALID, path, value, detail)


def not_supported(path: str, value: object, supported: Iterable[str]) -> FieldError:
    """`supported` is shown in the order given."""
    values = ", ".join(map(quote, supported))
    return FieldError(NOT_SUPPORTED, path, value, f"supported values: {values}" if values else "")


def forbidden(path: str, detail: str) -> FieldError:
    return FieldError(FORBIDDEN, path, "", detail)


def too_long(path: str, maximum: int) -> FieldError:
    """More than `maximum` bytes; negative when the limit is not told."""
    if maximum < 0:
        return FieldError(TOO_LONG, path, "<value omitted>", "value is too long")
    unit = "byte" if maximum == 1 else "bytes"
    return FieldError(TOO_LONG, path, "<value omitted>", f"may not be more than {maximum} {unit}")


def too_many(path: str, actual: int, maximum: int) -> FieldError:
    """`actual` items (negative when unknown) where at most `maximum` may be (negative when the limit is not told)."""
    unit = "item" if maximum == 1 else "items"
    detail = f"must have at most {maximum} {unit}" if maximum >= 0 else "has too many items"
    return FieldError(TOO_MANY, path, actual if actual >= 0 else _OMIT, detail)


def internal(path: str, detail: str) -> FieldError:
    return FieldError(INTERNAL, path, None, detail)


def messages(errors: Iterable[FieldError]) -> str:
    """All errors as one text: alone as it is, several in brackets, none twice."""
    texts = list(dict.fromkeys(map(str, errors)))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
