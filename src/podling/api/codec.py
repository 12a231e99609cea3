"""JSON and plain dicts to API types and back."""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import msgspec

from podling.api.quantity import Quantity

T = TypeVar("T")


class DecodeError(ValueError):
    """The document does not fit its type. The text is what upstream's decoder says."""


def _enc_hook(value: object) -> object:
    if isinstance(value, Quantity):
        return str(value)
    raise NotImplementedError(f"no encoding for {type(value).__name__}")


def _dec_hook(type_: type[Any], value: object) -> object:
    if type_ is Quantity and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return Quantity(value)
    raise ValueError(f"cannot decode {type(value).__name__} as {type_.__name__}")


_encoder = msgspec.json.Encoder(enc_hook=_enc_hook)


@cache
def _decoder(type_: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(type_, dec_hook=_dec_hook)


def encode(value: object) -> bytes:
    """Compact JSON; fields with their default are omitted."""
    return _encoder.encode(value)


def decode(type_: type[T], data: bytes | bytearray | memoryview | str) -> T:
    """Trusted JSON to `type_`; nulls stand for absent fields. Raises DecodeError."""
    key: Any = type_
    try:
        value: T = _decoder(key).decode(data)
        return value
    except msgspec.ValidationError:
        return convert(msgspec.json.decode(data), type_)
    except msgspec.DecodeError as error:
        raise DecodeError(str(error)) from error


def to_builtins(value: object) -> Any:
    """The plain dicts and lists that `encode` would write."""
    return msgspec.to_builtins(value, enc_hook=_enc_hook)


def convert(document: object, type_: type[T]) -> T:
    """A plain document to `type_`; nulls stand for absent fields. Raises DecodeError."""
    try:
        return msgspec.convert(_without_nulls(document), type_, dec_hook=_dec_hook)
    except msgspec.ValidationError as error:
        raise DecodeError(str(error)) from error


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
