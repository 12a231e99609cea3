"""A cache for short texts: long ones are answered as well, and forgotten."""

from __future__ import annotations

from podling.kit.short_cache import LONGEST, short_cache


def test_short_texts_are_kept_and_long_ones_are_not() -> None:
    calls: list[int] = []

    @short_cache(2)
    def length(text: str) -> int:
        calls.append(len(text))
        return len(text)

    for text in ("a" * LONGEST, "a" * LONGEST, "a" * (LONGEST + 1), "a" * (LONGEST + 1)):
        assert length(text) == len(text)
    assert calls == [LONGEST, LONGEST + 1, LONGEST + 1]
    for text in ("b", "c", "a" * LONGEST):
        length(text)
    assert calls[3:] == [1, 1, LONGEST]
