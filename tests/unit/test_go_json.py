"""Structs in error texts read as Go's encoding/json prints upstream's internal types."""

from __future__ import annotations

from typing import Any

import pytest

from podling.api import go_json
from podling.api.core.v1 import EnvVar, SecurityContext, SELinuxOptions, Taint
from podling.api.go import quote_time
from podling.api.meta.v1 import LabelSelector


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (
            Taint(key="a", effect="NoSchedule"),
            '{"Key":"a","Value":"","Effect":"NoSchedule","TimeAdded":null}',
        ),
        (EnvVar(name="a", value="<&>"), '{"Name":"a","Value":"\\u003c\\u0026\\u003e","ValueFrom":null}'),
        (SELinuxOptions(level="s0"), '{"User":"","Role":"","Type":"","Level":"s0"}'),
        (LabelSelector(match_labels={"a": "b"}), '{"matchLabels":{"a":"b"}}'),
        (["a", "b"], '["a","b"]'),
        ([], "null"),
    ],
)
def test_a_value_prints_as_in_go(value: Any, text: str) -> None:
    assert go_json.dump(value) == text


def test_fields_stand_in_the_order_of_go() -> None:
    shown = go_json.dump(SecurityContext(privileged=True, se_linux_options=SELinuxOptions()))
    assert shown.startswith('{"Capabilities":null,"Privileged":true,"SELinuxOptions":{"User":""')


@pytest.mark.parametrize(
    ("text", "quoted"),
    [("a", '"a"'), ("a\nb", '"a\\x0ab"'), ('"\\', '"\\"\\\\"'), ("é", '"\\xc3\\xa9"')],
)
def test_the_package_time_quotes_bytes(text: str, quoted: str) -> None:
    assert quote_time(text) == quoted
