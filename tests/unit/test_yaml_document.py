"""YAML documents as values: the same as PyYAML's own constructors make, but for keys and dates."""

from __future__ import annotations

import pytest
import yaml

from podling.api import yaml_document

DOCUMENT = """
text: plain
quoted: "8080"
numbers: [1, -2, 0x1f, 0o17, 1_000, 1.5, .inf, 1e3, 012]
booleans: [true, no, on, Off]
nothing: [~, null, ]
block: |
  a
  b
folded: >-
  a
  b
base: &base {a: 1, b: [x, y]}
merged:
  <<: *base
  b: 2
again: *base
binary: !!binary aGVsbG8=
tagged: !!str 8080
number: !!int "3"
empty: {}
"""


def test_values_are_those_of_the_library() -> None:
    value, duplicates = yaml_document.load(DOCUMENT)
    assert value == yaml.safe_load(DOCUMENT)
    assert not duplicates


def test_keys_are_text_and_dates_are_too() -> None:
    value, _ = yaml_document.load("8080: a\non: b\n1.5: c\nwhen: 2026-01-01\nin: [{1: {true: x}}]\n")
    assert value == {"8080": "a", "true": "b", "1.5": "c", "when": "2026-01-01", "in": [{"1": {"true": "x"}}]}


@pytest.mark.parametrize("document", ["? [a, b]\n: c", "~: a", "{{a: b}: c}"])
def test_keys_that_json_cannot_have_are_refused(document: str) -> None:
    with pytest.raises((ValueError, yaml.YAMLError)):
        yaml_document.load(document)


@pytest.mark.parametrize(
    "document", ["a: [", "a: !!python/object:os.system x", "a: *b", "--- a\n--- b", "!x a", "!!set {a}", "<<: 1"]
)
def test_what_is_no_plain_document_is_refused(document: str) -> None:
    with pytest.raises(yaml.YAMLError):
        yaml_document.load(document)
