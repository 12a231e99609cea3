"""Unknown and duplicate fields."""

from __future__ import annotations

import json
from typing import Any

import pytest

from podling.api import codec, strict, yaml_document
from podling.api.core.v1 import ConfigMap, Pod
from podling.api.patch import merge, strategic
from podling.api.status import ApiError


@pytest.mark.parametrize(
    ("document", "errors"),
    [
        ('{"spec":{"containers":[{"name":"a"}]}}', []),
        ('{"foo":1,"foo":2}', ['unknown field "foo"']),
        ('{"spec":{"containers":[{},{"foo":{"a":1}}]}}', ['unknown field "spec.containers[1].foo"']),
        ('{"spec":{"nodeName":"a","nodeName":"b"}}', ['duplicate field "spec.nodeName"']),
        ('{"metadata":{"labels":{"a/b":"1","a/b":"2"}}}', ['duplicate field "metadata.labels.a/b"']),
        ('{"metadata":{"labels":{"any":"1"}}}', []),
        ('{"Spec":{}}', ['unknown field "Spec"']),
        (
            '{"spec":{"x":1,"containers":[{"name":"a","name":"b","y":1}]}}',
            [
                'unknown field "spec.x"',
                'duplicate field "spec.containers[0].name"',
                'unknown field "spec.containers[0].y"',
            ],
        ),
        ('{"metadata":{"managedFields":[{"fieldsV1":{"f:a":{},"f:a":{}}}]}}', []),
        (
            '{"spec":{"containers":[{"resources":{"limits":{"cpu":"1","cpu":"2"}}}]}}',
            ['duplicate field "spec.containers[0].resources.limits.cpu"'],
        ),
        ('{"spec":null,"status":5,"metadata":[]}', []),
    ],
)
def test_json_is_checked_in_the_order_of_the_document(document: str, errors: list[str]) -> None:
    assert strict.check(document, Pod) == errors


def test_plain_documents_are_checked_for_unknown_fields() -> None:
    document: dict[str, Any] = {"data": {"any": "x"}, "dataa": {}}
    assert strict.check(document, ConfigMap) == ['unknown field "dataa"']


def test_no_more_than_a_hundred_errors_are_reported() -> None:
    document = json.dumps({f"f{i}": 1 for i in range(500)})
    assert len(strict.check(document, Pod)) == 100


def test_duplicates_in_yaml_are_reported_with_their_lines() -> None:
    document = "spec:\n  nodeName: a\n  nodeName: b\n  list:\n  - x: 1\n    x: 2\nkind: Pod\n"
    assert strict.yaml_duplicates(yaml_document.load(document)[1]) == [
        'yaml: unmarshal errors:\n  line 3: key "nodeName" already set in map\n  line 6: key "x" already set in map'
    ]
    assert yaml_document.load("a: &x {b: 1}\nc: *x\nd: *x\n")[1] == []
    assert yaml_document.load("") == (None, [])
    assert strict.yaml_duplicates([]) == []


def test_duplicates_in_a_patch_are_found_without_a_type() -> None:
    assert strict.check_duplicates('[{"op":"add","op":"remove","value":{"a":1,"a":2}}]') == [
        'duplicate field "[0].op"',
        'duplicate field "[0].value.a"',
    ]


def test_the_refusal_joins_all_errors() -> None:
    assert strict.message(['unknown field "a"', 'duplicate field "b"']) == (
        'strict decoding error: unknown field "a", duplicate field "b"'
    )


DEEP = 100_000


@pytest.mark.parametrize(
    "document",
    [
        "[" * DEEP + "]" * DEEP,
        "{a: " * DEEP + "1" + "}" * DEEP,
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
        ),
        "a: &a [*a]",
    ],
    ids=["lists", "maps", "aliases", "itself"],
)
def test_yaml_that_would_exhaust_the_parser_is_refused(document: str) -> None:
    with pytest.raises(ValueError, match=r"^yaml: (exceeded max depth|document contains excessive|anchor 'a')"):
        yaml_document.load(document)


@pytest.mark.parametrize(
    "document",
    ['{"x":' + "[" * DEEP + "]" * DEEP + "}", '{"metadata":{"managedFields":[{"fieldsV1":' + '{"a":' * DEEP],
    ids=["unknown", "untyped"],
)
def test_json_that_is_nested_too_deep_is_refused_everywhere(document: str) -> None:
    with pytest.raises(ValueError, match=r"^exceeded max depth$"):
        strict.check(document, Pod)
    with pytest.raises(ValueError, match=r"^exceeded max depth$"):
        strict.check_duplicates(document)
    with pytest.raises(codec.DecodeError, match=r"^exceeded max depth$"):
        codec.decode(Pod, document)
    with pytest.raises(codec.DecodeError, match=r"^exceeded max depth$"):
        codec.decode_json(document)


def test_patches_that_are_nested_too_deep_are_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(5000):
        deep = {"a": deep}
    with pytest.raises(ApiError) as caught:
        merge.apply({}, deep)
    assert caught.value.code == 400
    with pytest.raises(ApiError) as caught:
        strategic.apply({"a": {}}, deep, Pod)
    assert caught.value.code == 400
