"""The bound of JSON documents: objects and arrays are counted, and nothing that looks like them within texts."""

from __future__ import annotations

import msgspec
import pytest

from podling.api import json_bounds

MOST = json_bounds.MAX_COLLECTIONS


@pytest.mark.parametrize("unit", ["[]", "{}", '{"a":1}', '["\\\\","\\""]'])
def test_the_bound_is_exact(unit: str) -> None:
    def document(collections: int) -> bytes:
        return ("[" + ",".join([unit] * (collections - 1)) + "]").encode()

    json_bounds.check(document(MOST))
    with pytest.raises(ValueError, match=f"more than {MOST} objects and arrays"):
        json_bounds.check(document(MOST + 1))


@pytest.mark.parametrize("text", ["[" * 2 * MOST, '{"a": [\\]}' * MOST, "\\[" * 2 * MOST, '"[\\"' * 2 * MOST])
def test_brackets_in_texts_do_not_count(text: str) -> None:
    json_bounds.check(msgspec.json.encode({"data": {"file": text, text: [text]}}))


@pytest.mark.parametrize("text", ['"' + '\\"[' * 1_000_000, '"' * 1_000_001 + "[" * 2 * MOST, "\\" * 1_000_000 + "["])
def test_what_is_not_json_costs_no_more(text: str) -> None:
    """A text without end is looked at once, and not again at each of the quotes in it."""
    json_bounds.check(text.encode())
