"""YAML documents as values: the same as PyYAML's own constructors make, but for keys and dates."""

from __future__ import annotations

import msgspec
import pytest
import yaml

from podling.api import yaml_bounds, yaml_document

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


@pytest.mark.parametrize("text", ["1:30", "22:22:22", "1:30.5", "-1:0"])
def test_there_are_no_numbers_to_the_base_of_sixty(text: str) -> None:
    """As in go-yaml, which reads what clients send to Kubernetes."""
    assert yaml_document.load(f"a: {text}") == ({"a": text}, [])
    for tag in ("!!int", "!!float"):
        with pytest.raises(yaml.YAMLError, match="cannot decode"):
            yaml_document.load(f"a: {tag} {text}")


def _of_size(size: int) -> str:
    """A short document that has so many bytes as JSON."""
    many = ", ".join(["*x"] * 999)
    rest = "y" * (size - 1000 * 1003 - len('{"x":[],"y":""}'))
    return f"x: [&x {'x' * 1000}, {many}]\ny: {rest}\n"


def test_aliases_count_with_all_their_bytes() -> None:
    largest = yaml_bounds.MAX_BYTES - 10  # the brackets count a little more than they have
    value, _ = yaml_document.load(_of_size(largest))
    assert abs(len(msgspec.json.encode(value)) - largest) < 10
    with pytest.raises(ValueError, match="more than 3145728 bytes"):
        yaml_document.load(_of_size(yaml_bounds.MAX_BYTES + 10))


@pytest.mark.parametrize("scalar", ["'\"'", r'"\a"', "\u00e9"])
def test_characters_count_as_json_writes_them(scalar: str) -> None:
    """The document is refused where, and only where, its JSON is too long."""
    document = "- &x [" + ", ".join([scalar] * 1000) + "]\n"
    times = yaml_bounds.MAX_BYTES // len(msgspec.json.encode(yaml_document.load(document)[0][0]))
    value, _ = yaml_document.load(document + "- *x\n" * (times - 2))
    assert yaml_bounds.MAX_BYTES * 0.99 < len(msgspec.json.encode(value)) <= yaml_bounds.MAX_BYTES
    with pytest.raises(ValueError, match="more than 3145728 bytes"):
        yaml_document.load(document + "- *x\n" * times)
