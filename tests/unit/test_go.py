"""Durations, printed and read as Go does."""

from __future__ import annotations

import pytest

from podling.api.go import duration, parse_duration, quote, quote_time


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.0004, "0s"),
        (0.85, "850ms"),
        (1, "1s"),
        (1.2345, "1.234s"),
        (60, "1m0s"),
        (119.9999, "1m59.999s"),
        (3600, "1h0m0s"),
        (3723.5, "1h2m3.5s"),
    ],
)
def test_durations_are_printed_as_go_does(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("12h", 43200), ("1m30s", 90), ("1.5h", 5400), (".5s", 0.5), ("100ms", 0.1), ("-5s", -5), ("+1s", 1), ("0", 0)],
)
def test_durations_are_read_as_go_does(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "1", "s", "1d", "1 s", "--1s", "1s2", "."])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^time: (invalid duration|missing unit in duration|unknown unit .* in duration) "
    ):
        parse_duration(text)


def test_bytes_that_are_not_utf8_are_quoted_as_bytes() -> None:
    text = b"a\xff\xc3\xa4".decode(errors="surrogateescape")
    assert quote(text) == '"a\\xffä"'
    assert quote_time(text) == '"a\\xff\\xc3\\xa4"'
