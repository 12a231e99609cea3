"""Names and values: good ones pass, bad ones are explained in upstream's words."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import names

LABEL = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with"
    " an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is"
    " '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
)
SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and"
    " end with an alphanumeric character (e.g. 'example.com', regex used for validation is"
    r" '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.mark.parametrize(
    ("check", "value"),
    [
        (names.dns1123_label, "a"),
        (names.dns1123_label, "0-a"),
        (names.dns1123_label, "a" * 63),
        (names.dns1123_subdomain, "a.b-c.0"),
        (names.dns1123_subdomain_with_underscore, "_srv.a_b"),
        (names.wildcard_dns1123_subdomain, "*.example.com"),
        (names.dns1035_label, "a-0"),
        (names.qualified_name, "example.com/My_Name.x"),
        (names.qualified_name, "x"),
        (names.label_value, ""),
        (names.label_value, "A_b.c-1"),
        (names.env_var_name, "_a.b-C1"),
        (names.relaxed_env_var_name, "1 a+b"),
        (names.c_identifier, "_a1"),
        (names.config_map_key, "a..b"),
        (names.http_header_name, "X-A1"),
        (names.percent, "15%"),
        (names.port_name, "http-2"),
    ],
)
def test_a_good_value_has_no_messages(check: Callable[[str], list[str]], value: str) -> None:
    assert check(value) == []


@pytest.mark.parametrize(
    ("check", "value", "messages"),
    [
        (names.dns1123_label, "A", [LABEL]),
        (names.dns1123_label, "a.b", ["must not contain dots"]),
        (names.dns1123_label, "a" * 64, ["must be no more than 63 characters"]),
        (names.dns1123_label, "", [LABEL]),
        (names.dns1123_label, "a\n", [LABEL]),
        (names.dns1123_subdomain, "a_b", [SUBDOMAIN]),
        (names.dns1123_subdomain, "a" * 254, ["must be no more than 253 characters"]),
        (names.config_map_key, "..", ["must not be '..'"]),
        (names.config_map_key, "..a", ["must not start with '..'"]),
        (names.relaxed_env_var_name, "", ["environment variable name must be non-empty"]),
        (
            names.relaxed_env_var_name,
            "a=b",
            ["a valid environment variable name must consist only of printable ASCII characters other than '='"],
        ),
        (names.port_name, "80", ["must contain at least one letter (a-z)"]),
        (names.port_name, "a--b", ["must not contain consecutive hyphens"]),
        (names.port_name, "-a", ["must not begin or end with a hyphen"]),
        (names.port_name, "a" * 16, ["must be no more than 15 characters"]),
        (
            names.port_name,
            "A",
            [
                "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)",
                "must contain at least one letter (a-z)",
            ],
        ),
    ],
)
def test_a_bad_value_is_explained(check: Callable[[str], list[str]], value: str, messages: list[str]) -> None:
    assert check(value) == messages


@pytest.mark.parametrize(
    ("value", "starts"),
    [
        ("", ["name part must be non-empty", "name part must consist of alphanumeric characters"]),
        ("a/b/c", ["a valid label key must consist of alphanumeric characters"]),
        ("/a", ["prefix part must be non-empty"]),
        ("A/a", ["prefix part a lowercase RFC 1123 subdomain must consist"]),
        ("x" * 64, ["name part must be no more than 63 bytes"]),
        ("a/-", ["name part must consist of alphanumeric characters"]),
    ],
)
def test_every_part_of_a_qualified_name_is_judged(value: str, starts: list[str]) -> None:
    messages = names.qualified_name(value)
    assert len(messages) == len(starts)
    assert all(message.startswith(start) for message, start in zip(messages, starts, strict=True))


def test_numbers_have_ranges() -> None:
    assert names.port_number(1) == names.port_number(65535) == []
    assert names.port_number(0) == names.port_number(65536) == ["must be between 1 and 65535, inclusive"]
    assert names.user_id(2**31 - 1) == []
    assert names.group_id(-1) == ["must be between 0 and 2147483647, inclusive"]


@given(st.text(max_size=70))
def test_every_label_is_a_subdomain_and_a_label_value(value: str) -> None:
    if not names.dns1123_label(value):
        assert names.dns1123_subdomain(value) == []
        assert names.label_value(value) == []
        assert names.qualified_name(value) == []
