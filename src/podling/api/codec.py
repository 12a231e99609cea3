"""JSON and plain documents to API types and back.

What fits its type is decoded by msgspec at full speed. Only what does not (nulls, zones other than UTC, line breaks in
base64, or a mistake) goes through podling.api.coerce, which either mends it or finds upstream's words for the mistake.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any, TypeVar

import msgspec

from podling.api import coerce, utf8
from podling.api.coerce import DecodeError
from podling.api.quantity import Quantity
from podling.kit import document_error

__all__ = [
    "DecodeError",
    "convert",
    "decode",
    "decode_exact",
    "decode_json",
    "encode",
    "encode_any_text",
    "to_builtins",
]

T = TypeVar("T")


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
    """Compact JSON; fields with their default are omitted, required ones never."""
    return _encoder.encode(value)


def decode(type_: type[T], data: bytes | bytearray | memoryview | str) -> T:
    """JSON to `type_`; nulls stand for absent fields, unknown fields are ignored. Raises DecodeError."""
    key: Any = type_
    try:
        value: T = _decoder(key).decode(data)
    except msgspec.ValidationError:
        return convert(decode_json(data), type_)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _syntax_error(data, error) from None
    except RecursionError:
        raise DecodeError(coerce.TOO_DEEP) from None
    return value


def decode_exact(type_: type[T], data: bytes) -> T:
    """JSON to `type_`, without what `decode` forgives. Raises DecodeError."""
    key: Any = type_
    try:
        value: T = _decoder(key).decode(data)
    except msgspec.ValidationError as error:
        convert(decode_json(data), type_)  # finds better words for most mistakes
        raise DecodeError(document_error.reason(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _syntax_error(data, error) from None
    except RecursionError:
        raise DecodeError(coerce.TOO_DEEP) from None
    return value


def decode_json(data: bytes | bytearray | memoryview | str) -> Any:
    """JSON to plain dicts and lists. Raises DecodeError."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _syntax_error(data, error) from None
    except RecursionError:
        raise DecodeError(coerce.TOO_DEEP) from None


def _syntax_error(data: bytes | bytearray | memoryview | str, error: Exception) -> DecodeError:
    return DecodeError(
        coerce.syntax_error(data if isinstance(data, str) else bytes(data)) or document_error.reason(error)
    )


def encode_any_text(value: object) -> bytes:
    """Return the JSON of a value whose texts may hold bytes that are not UTF-8 (surrogate escapes): they become U+FFFD."""
    try:
        return encode(value)
    except UnicodeEncodeError:
        text = json.dumps(to_builtins(value), ensure_ascii=False, separators=(",", ":"))
        return utf8.repaired(utf8.encoded(text))


def to_builtins(value: object) -> Any:
    """The plain dicts and lists that `encode` would write."""
    return msgspec.to_builtins(value, enc_hook=_enc_hook)


def convert(document: object, type_: type[T]) -> T:
    """A plain document to `type_`; nulls stand for absent fields, unknown fields are ignored. Raises DecodeError."""
    try:
        return msgspec.convert(document, type_, dec_hook=_dec_hook)
    except msgspec.ValidationError:
        mended = coerce.coerce(document, type_)
    try:
        return msgspec.convert(mended, type_, dec_hook=_dec_hook)
    except msgspec.ValidationError as error:
        raise DecodeError(document_error.reason(error)) from error
