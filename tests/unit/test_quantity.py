"""Quantities: expected texts are those that upstream's own code prints."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import codec
from podling.api.core.v1 import ResourceRequirements
from podling.api.quantity import Format, Quantity

SUFFIXES = {
    "": Fraction(1),
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "k": Fraction(1000),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "e3": Fraction(1000),
    "E-2": Fraction(1, 100),
}
numbers = st.one_of(
    st.integers(-(10**12), 10**12).map(str),
    st.decimals(-(10**6), 10**6, places=4).map(lambda value: f"{value:f}"),
)
texts = st.tuples(numbers, st.sampled_from(sorted(SUFFIXES))).map("".join)


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0", "0"),
        ("0.5", "500m"),
        ("1500m", "1500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("1000Mi", "1000Mi"),
        ("1.5Gi", "1536Mi"),
        ("0.1Mi", "104857600m"),
        ("0.5Ki", "512"),
        ("1025Ki", "1025Ki"),
        ("1000k", "1M"),
        ("1000", "1k"),
        ("1048576", "1048576"),
        ("0.0000000001", "1n"),
        ("1.23456789012", "1234567891n"),
        ("-0.5", "-500m"),
        ("-1Gi", "-1Gi"),
        ("12e6", "12e6"),
        ("100e2", "10e3"),
        ("1e-3", "1e-3"),
        ("5e-10", "1e-9"),
        ("1.5e3", "1500"),
        ("1e21", "1e21"),
        ("16Ei", "9223372036854775807"),
        ("5000P", "5E"),
        ("1.1Ei", "1268213655067531673600m"),
        (".5", "500m"),
        ("-0.00Mi", "0"),
    ],
)
def test_the_canonical_form_is_upstreams(text: str, canonical: str) -> None:
    assert str(Quantity(text)) == canonical


@pytest.mark.parametrize(
    "text", ["", "-", ".", "1.1.M", "1+1.0M", "0.1am", "aoeu", "1 ", " 1", "1KB", "1 Gi", "٣", "1\n"]
)
def test_what_is_no_quantity_is_refused_with_the_grammar(text: str) -> None:
    with pytest.raises(ValueError, match=r"^quantities must match the regular expression"):
        Quantity(text)


@pytest.mark.parametrize("text", ["0.1mi", "1i", "1K", "1ki", "1e", "1mm", "-3.01e-", "1e999999999"])
def test_an_unknown_suffix_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^unable to parse quantity's suffix$"):
        Quantity(text)


@pytest.mark.parametrize(
    "text", ["1" * 5000, "0." + "0" * 5000 + "1", "1e" + "0" * 5000 + "1"], ids=["long", "fine", "far"]
)
def test_numbers_longer_than_python_reads_are_refused_in_words(text: str) -> None:
    with pytest.raises(ValueError, match=r"^quantities have at most 4000 digits$"):
        Quantity(text)


@given(texts)
def test_the_canonical_form_reads_back_as_the_same_quantity(text: str) -> None:
    quantity = Quantity(text)
    again = Quantity(str(quantity))
    assert again == quantity
    assert str(again) == str(quantity)


@given(texts)
def test_the_number_is_exact_to_a_billionth_and_rounded_away_from_zero(text: str) -> None:
    suffix = max((item for item in SUFFIXES if text.endswith(item)), key=len)
    exact = Fraction(text.removesuffix(suffix)) * SUFFIXES[suffix]
    if suffix.endswith("i"):
        # Upstream caps these at the largest 64-bit integer, and these alone.
        exact = max(Fraction(1 - 2**63), min(exact, Fraction(2**63 - 1)))
    number = Fraction(Quantity(text)._nanos, 10**9)
    assert abs(exact) <= abs(number) < abs(exact) + Fraction(1, 10**9)
    assert number * exact >= 0


@given(texts, texts)
def test_arithmetic_and_order_are_those_of_the_numbers(a: str, b: str) -> None:
    x, y = Quantity(a), Quantity(b)
    assert (x + y) - y == x
    assert x + y == y + x
    assert (x < y) == ((x - y).sign() < 0)
    assert (x == y) == (x - y).is_zero()
    assert x + -x == Quantity()
    if x == y:
        assert hash(x) == hash(y)


@given(texts)
def test_whole_and_milli_values_round_away_from_zero(text: str) -> None:
    quantity = Quantity(text)
    nanos = quantity._nanos
    assert abs(quantity.value()) == -(-abs(nanos) // 10**9)
    assert abs(quantity.milli_value()) == -(-abs(nanos) // 10**6)


def test_a_sum_prints_in_the_suffixes_of_its_first_part() -> None:
    assert str(Quantity("1Gi") + Quantity("1024M")) == str(Quantity(str(2**30 + 1024 * 10**6), Format.BINARY_SI))
    assert str(Quantity() + Quantity("1Gi")) == "1Gi"
    assert str(Quantity.from_value(1536 * 2**20)) == "1536Mi"
    assert str(Quantity.from_milli(1500)) == "1500m"


def test_numbers_in_documents_are_quantities_too() -> None:
    requirements = codec.decode(ResourceRequirements, b'{"limits":{"cpu":2,"memory":0.5,"x":"1024Ki"}}')
    assert codec.encode(requirements) == b'{"limits":{"cpu":"2","memory":"500m","x":"1Mi"}}'


def test_a_quantity_cannot_change_and_survives_copies() -> None:
    quantity = Quantity("2e3")
    with pytest.raises(AttributeError):
        quantity.format = Format.BINARY_SI
    for other in (copy.copy(quantity), copy.deepcopy(quantity), pickle.loads(pickle.dumps(quantity))):
        assert (other, str(other)) == (quantity, "2e3")
