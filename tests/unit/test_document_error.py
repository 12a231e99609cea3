"""What is wrong with a document, in words for its author."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import pytest
from msgspec import Struct

from podling.kit import document_error, file_error


class _Part(Struct):
    number: int


class _Document(Struct, forbid_unknown_fields=True):
    text: str = ""
    parts: list[_Part] = []
    sizes: dict[str, int] = {}
    optional: int | None = None
    choice: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (b'{"text": 1}', "the field text must be a string, and is an integer"),
        (b'{"parts": [{"number": "x"}]}', "the field parts[0].number must be an integer, and is a string"),
        (b'{"parts": [{}]}', "the field parts[0].number is missing"),
        (b'{"sizes": {"a": "x"}}', "a value in the field sizes must be an integer, and is a string"),
        (b'{"optional": []}', "the field optional must be an integer or null, and is a list"),
        (b'{"choice": "c"}', "the field choice has the value 'c', which is not one of those that it can have"),
        (b'{"other": 1}', "the field other is unknown"),
        (b"[]", "the document must be an object, and is a list"),
        (b"null", "the document must be an object, and is null"),
        (b"", "it is not valid JSON: it ends too early"),
        (b'{"text": "a', "it is not valid JSON: it ends too early"),
        (b'{"text": }', "it is not valid JSON: invalid character at byte 9"),
        (b'{"text": "\xff"}', "it is not UTF-8 text: it holds the byte 0xff"),
        (b"[" * 100_000, "it is nested too deeply"),
    ],
)
def test_a_json_document_is_told_by_its_field_or_place(document: bytes, text: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        msgspec.json.decode(document, type=list[Any] if text.startswith("it is nested") else _Document)
    assert document_error.reason(caught.value) == text
    assert file_error.reason(caught.value) == text


def test_a_value_that_looks_like_many_places_costs_nothing() -> None:
    """Looked for with a pattern, it took time by the square of its length."""
    value = " - at `$" * 300_000
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(msgspec.json.encode(value), type=Literal["a", "b"])
    assert "has the value" in document_error.reason(caught.value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (lambda: json.loads('{"a" 1}'), "it is not valid JSON: expecting ':' delimiter at line 1, column 6"),
        (lambda: json.loads("{"), "it is not valid JSON: it ends too early"),
        (lambda: tomllib.loads("a = 1\na = 2"), "it is not valid TOML: cannot overwrite a value (at end of document)"),
        (lambda: b"\xff".decode(), "it is not UTF-8 text: it holds the byte 0xff"),
        (lambda: "\ud800".encode(), "it holds the character '\\ud800', which cannot be written as utf-8"),
    ],
)  # fmt: skip
def test_other_readers_are_told_alike(read: Callable[[], object], text: str) -> None:
    with pytest.raises((ValueError, RecursionError)) as caught:
        read()
    assert document_error.reason(caught.value) == text


def test_the_text_of_another_error_is_kept_in_one_line() -> None:
    assert document_error.reason(ValueError("a\n  text")) == "a text"
    assert document_error.reason(ValueError()) == "ValueError"
