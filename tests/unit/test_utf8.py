"""Broken UTF-8 and lone surrogates in JSON become U+FFFD, as in Go."""

from __future__ import annotations

import json

import pytest

from podling.api.utf8 import repaired


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b'"a\xffb"', "a\ufffdb"),
        (b'"\xe4\xb8"', "\ufffd\ufffd"),  # Go replaces each byte of a character that was cut
        (b'"\\ud800"', "\ufffd"),
        (b'"\\udc00\\ud800x"', "\ufffd\ufffdx"),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\ud83d\\ud83d\\ude00"', "\ufffd\U0001f600"),
        (b'"\\\\ud800"', "\\ud800"),
        ('"ä"'.encode(), "ä"),
    ],
)
def test_what_is_no_character_becomes_the_replacement_character(data: bytes, text: str) -> None:
    assert json.loads(repaired(data)) == text
