"""Label and field selectors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import fields, labels
from podling.api.meta.v1 import LabelSelector, LabelSelectorRequirement

LABELS = {"app": "web", "tier": "front", "version": "7", "empty": ""}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier != back", True),
        ("app!=web", False),
        ("absent!=web", True),
        ("absent=web", False),
        ("app in (web,db)", True),
        ("app in (db)", False),
        ("app notin (db)", True),
        ("absent notin (db)", True),
        ("app", True),
        ("!app", False),
        ("! absent", True),
        ("empty=", True),
        ("app=", False),
        ("empty in (,x)", True),
        ("version>6", True),
        ("version<7", False),
        ("app>1", False),
        ("absent<9", False),
        ("app,!absent,tier in (front)", True),
    ],
)
def test_a_selector_selects_as_its_grammar_says(text: str, selected: bool) -> None:
    assert labels.parse(text).matches(LABELS) is selected


def test_words_of_the_grammar_are_labels_too() -> None:
    selector = labels.parse("in in (in,notin),notin")
    assert selector.matches({"in": "notin", "notin": "x"})
    assert str(selector) == "in in (in,notin),notin"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a=,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b c)", "unable to parse requirement: found 'c', expected: ',' or ')'"),
        ("a=(", "unable to parse requirement: found '(', expected: identifier"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a>x",
            'unable to parse requirement: values[0]: Invalid value: "x":'
            " for 'Gt', 'Lt' operators, the value must be an integer",
        ),
    ],
)
def test_a_broken_selector_is_refused_with_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        labels.parse(text)
    assert str(caught.value) == message


def test_keys_and_values_have_to_be_labels() -> None:
    with pytest.raises(ValueError, match=r'^unable to parse requirement: <nil>: Invalid value: "-a": name part must'):
        labels.parse("-a")
    with pytest.raises(ValueError, match=r'values\[0\]\[a\]: Invalid value: "b@c": a valid label must'):
        labels.parse("a=b@c")


KEYS = st.from_regex(r"[a-z]([a-z0-9]{0,4}[a-z0-9])?", fullmatch=True)
VALUES = st.from_regex(r"([a-z0-9]([-a-z0-9]{0,3}[a-z0-9])?)?", fullmatch=True)
REQUIREMENTS = st.one_of(
    st.builds(
        lambda key, operator, values: labels.requirement(key, operator, sorted(values)),
        KEYS,
        st.sampled_from([labels.IN, labels.NOT_IN]),
        st.sets(VALUES, min_size=1, max_size=3),
    ),
    st.builds(
        lambda key, operator, value: labels.requirement(key, operator, [value]),
        KEYS,
        st.sampled_from([labels.EQUALS, labels.DOUBLE_EQUALS, labels.NOT_EQUALS]),
        VALUES,
    ),
    st.builds(
        lambda key, operator, value: labels.requirement(key, operator, [str(value)]),
        KEYS,
        st.sampled_from([labels.GREATER_THAN, labels.LESS_THAN]),
        st.integers(0, 99),
    ),
    st.builds(
        lambda key, operator: labels.requirement(key, operator, []),
        KEYS,
        st.sampled_from([labels.EXISTS, labels.DOES_NOT_EXIST]),
    ),
)


@given(st.lists(REQUIREMENTS, max_size=4))
def test_a_selector_reads_back_from_its_text(requirements: list[labels.Requirement]) -> None:
    selector = labels.Selector(tuple(sorted(requirements, key=lambda item: item.key)))
    assert labels.parse(str(selector)) == selector


@given(st.text("ab=!(),<> in", max_size=12))
def test_any_text_is_a_selector_or_a_value_error(text: str) -> None:
    try:
        selector = labels.parse(text)
    except ValueError:
        return
    assert labels.parse(str(selector)) == selector


def test_the_struct_selects_like_the_text() -> None:
    struct = LabelSelector(
        match_labels={"app": "web"},
        match_expressions=[
            LabelSelectorRequirement(key="tier", operator="In", values=["front", "back"]),
            LabelSelectorRequirement(key="absent", operator="DoesNotExist"),
        ],
    )
    selector = labels.from_struct(struct)
    assert selector.matches(LABELS)
    assert not selector.matches({**LABELS, "absent": ""})
    assert str(selector) == "!absent,app=web,tier in (back,front)"


def test_no_struct_selects_nothing_and_an_empty_one_everything() -> None:
    assert not labels.from_struct(None).matches(LABELS)
    assert labels.from_struct(LabelSelector()).matches({})
    assert labels.from_set({}).empty
    with pytest.raises(ValueError, match=r'^"Near" is not a valid label selector operator$'):
        labels.from_struct(LabelSelector(match_expressions=[LabelSelectorRequirement(key="a", operator="Near")]))


def test_field_selectors_compare_for_equality() -> None:
    selector = fields.parse("metadata.name=x,spec.nodeName!=n1,status.phase==Running")
    assert selector.matches({"metadata.name": "x", "status.phase": "Running"})
    assert not selector.matches({"metadata.name": "x", "spec.nodeName": "n1", "status.phase": "Running"})
    assert selector.exact("metadata.name") == "x"
    assert selector.exact("spec.nodeName") is None
    assert fields.parse("").empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a", "invalid selector: 'a'; can't understand 'a'"),
        ("a=1,b", "invalid selector: 'a=1,b'; can't understand 'b'"),
        ("a=b=c", 'invalid field selector: unescaped character in value: "="'),
        ("a=\\b", 'invalid field selector: invalid escape sequence: "\\\\b"'),
        ("a=b\\", 'invalid field selector: invalid escape sequence: "\\\\"'),
    ],
)
def test_a_broken_field_selector_is_refused_with_upstreams_words(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        fields.parse(text)
    assert str(caught.value) == message


@given(st.dictionaries(st.from_regex(r"[a-z]{1,3}(\.[a-z]{1,3})?", fullmatch=True), st.text("ab,=\\!", max_size=6)))
def test_every_set_of_fields_can_be_written_as_a_selector(values: dict[str, str]) -> None:
    selector = fields.from_set(values)
    assert set(fields.parse(str(selector)).requirements) == set(selector.requirements)
    assert selector.matches(values)
