"""Errors of documents (JSON, TOML) in words, for people: which field, or which line, and what is expected there.

The libraries name Python's types, classes and codecs, which mean nothing to the author of a document. Whoever shows such an
error puts the name of the file or the request before it.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Final

import msgspec

_TYPES: Final = {
    "str": "a string",
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "an object",
    "null": "null",
    "bytes": "base64 text",
}

# The sentences of msgspec, each with an optional place: "Expected `str`, got `int` - at `$.a[0]`".
_PLACE: Final = " - at `"
_WRONG_TYPE: Final = re.compile(
    r"Expected `(?P<wanted>[^`]*)`(?P<limit>[^,]*)(?:, got `(?P<found>[^`]*)`)?.*", re.DOTALL
)
_MISSING: Final = re.compile(r"Object missing required field `(?P<name>.*)`", re.DOTALL)
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(?P<name>.*)`", re.DOTALL)
_WRONG_VALUE: Final = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)
_SYNTAX: Final = re.compile(r"JSON is malformed: (?P<what>.*) \(byte (?P<position>\d+)\)", re.DOTALL)


def reason(error: BaseException) -> str:
    """Return what is wrong with the document that could not be read; the text of any other error."""
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8 text: it holds the byte 0x{error.object[error.start]:02x}"
    if isinstance(error, UnicodeEncodeError):
        return f"it holds the character {error.object[error.start]!a}, which cannot be written as {error.encoding}"
    if isinstance(error, msgspec.ValidationError):
        return _unfit(str(error))
    if isinstance(error, msgspec.DecodeError):
        found = _SYNTAX.fullmatch(str(error))
        return f"it is not valid JSON: {found['what']} at byte {found['position']}" if found else _CUT_SHORT
    if isinstance(error, json.JSONDecodeError):
        if not error.doc[error.pos :].strip():
            return _CUT_SHORT
        return f"it is not valid JSON: {in_sentence(error.msg)} at line {error.lineno}, column {error.colno}"
    if isinstance(error, tomllib.TOMLDecodeError):
        return f"it is not valid TOML: {in_sentence(str(error))}"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    return " ".join(str(error).split()) or type(error).__name__


_CUT_SHORT: Final = "it is not valid JSON: it ends too early"


def _unfit(message: str) -> str:
    # By parts, not by a pattern: a value in the message, which may be megabytes, may look like many places.
    text, separator, place = message.rpartition(_PLACE)
    text, place = (text, place.removesuffix("`")) if separator else (message, "")
    place = place.removeprefix("key in ").removeprefix("$")
    path = place.removeprefix(".")
    subject = f"the field {path}" if path else "the document"
    if place.endswith("[...]"):
        parent = path.removesuffix("[...]")
        subject = f"a value in the field {parent}" if parent else "a value in the document"
    if found := _WRONG_TYPE.fullmatch(text):
        wanted = " or ".join(_TYPES.get(part, f"of type {part}") for part in found["wanted"].split(" | "))
        got = f", and is {_TYPES.get(found['found'], found['found'])}" if found["found"] else ""
        return f"{subject} must be {wanted}{found['limit']}{got}"
    if found := _MISSING.fullmatch(text):
        return f"the field {f'{path}.' if path else ''}{found['name']} is missing"
    if found := _UNKNOWN.fullmatch(text):
        return f"the field {f'{path}.' if path else ''}{found['name']} is unknown"
    if found := _WRONG_VALUE.fullmatch(text):
        return f"{subject} has the value {found['value']}, which is not one of those that it can have"
    return f"{subject}: {in_sentence(text)}" if path else in_sentence(text)


def in_sentence(text: str) -> str:
    """Return the text as a part of a sentence."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]
