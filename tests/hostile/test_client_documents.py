"""A client whose short documents stand for large ones, or whose long ones hold nothing but brackets.

They are read in a thread or refused; what they stand for is never made. The doors are open to every authenticated client.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.api import JSON_PATCH, MERGE, STRATEGIC, Answer, Api, new_namespace, pod
from tests.support.load import memory, pulse

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
TOKEN_REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
YAML = "application/yaml"
MEGABYTE = 1 << 20


@pytest.fixture
def namespace(api: Api) -> str:
    return new_namespace(api)


def aliases(text: str) -> str:
    """A document of a few kilobytes that names a text 90,000 times."""
    many, more = ", ".join(["*x"] * 100), ", ".join(["*y"] * 900)
    return f"x: &x {text}\ny: &y [{many}]\nz: [{more}]\n"


TEXTS = {"letters": "n" * 5000, "escapes": '"' + r"\a" * 1000 + '"'}


@pytest.mark.parametrize("text", TEXTS)
def test_aliases_are_not_written_out_to_more_than_a_body_may_have(api: Api, config_maps: str, text: str) -> None:
    document = aliases(TEXTS[text])
    assert len(document) < 12_000
    before = memory(api)
    for answer in _through_all_yaml_doors(api, config_maps, document):
        assert answer.code == 400
        assert "more than 3145728 bytes" in answer.message
    assert memory(api) - before < 64 * MEGABYTE


def _through_all_yaml_doors(api: Api, config_maps: str, document: str) -> list[Answer]:
    with pulse(api):
        return [
            api.post(REVIEWS, document, content_type=YAML),
            api.delete(f"{config_maps}/none", document, content_type=YAML),
            api.delete(config_maps, document, content_type=YAML),
        ]


def test_numbers_to_the_base_of_sixty_cost_nothing(api: Api, config_maps: str) -> None:
    """PyYAML multiplies them out, which takes minutes for a megabyte. To Kubernetes, they are text."""
    document = "x: " + "1:" * MEGABYTE + "1\n"
    for answer in _through_all_yaml_doors(api, config_maps, document):
        assert answer.code in (200, 404, 422), answer.raw


def test_yaml_options_of_a_deletion_are_read_while_others_are_served(api: Api, config_maps: str) -> None:
    api.create(config_maps, {"metadata": {"name": "one"}})
    document = "".join(f"key-{number}: v\n" for number in range(150_000))
    with pulse(api):
        assert api.delete(f"{config_maps}/one", document, content_type=YAML).code == 200
    with pulse(api):
        assert api.delete(config_maps, document, content_type=YAML).code == 200


def brackets(unit: str, size: int) -> str:
    return "[" + ",".join([unit] * (size // (len(unit) + 1))) + "]"


@pytest.mark.parametrize("unit", ["[]", "{}", '{"a":{}}'])
def test_a_body_of_nothing_but_brackets_is_refused(api: Api, config_maps: str, unit: str) -> None:
    api.create(config_maps, {"metadata": {"name": "one"}})
    body = f'{{"x":{brackets(unit, 3_000_000)}}}'
    one = f"{config_maps}/one"
    with pulse(api):
        answers = [
            api.post(REVIEWS, body),
            api.delete(one, body),
            api.delete(config_maps, body),
            api.patch(one, body, MERGE),
            api.patch(one, body, STRATEGIC),
            api.patch(one, brackets(unit, 3_000_000), JSON_PATCH),
        ]
    for answer in answers:
        assert answer.code == 400
        assert "more than 50000 objects and arrays" in answer.message
    assert api.get(one).code == 200


def test_objects_without_content_take_no_gigabytes(api: Api, pods: str) -> None:
    """A container takes two bytes in the body, and a thousand times as many once it has its fields."""
    body = '{"metadata":{"name":"web"},"spec":{"containers":' + brackets("{}", MEGABYTE) + "}}"
    before = memory(api)
    with pulse(api):
        assert api.post(pods, body).code == 400
    assert memory(api) - before < 64 * MEGABYTE


def test_a_body_that_becomes_a_large_object_stalls_nobody(api: Api, pods: str) -> None:
    body = '{"metadata":{"name":"web"},"spec":{"containers":' + brackets("{}", 60_000) + "}}"
    with pulse(api):
        assert api.post(pods, body).code == 422
    message = b"\x0a\x05\x0a\x03web\x12" + _length(40_000) + b"\x12\x00" * 20_000  # metadata.name, spec.containers
    with pulse(api):
        answer = api.post(
            pods, b"k8s\x00\x12" + _length(len(message)) + message, content_type="application/vnd.kubernetes.protobuf"
        )
    assert answer.code == 422, answer.raw


def _length(number: int) -> bytes:
    return bytes([number & 0x7F | 0x80, number >> 7 & 0x7F | 0x80, number >> 14])


def test_protobuf_of_nothing_but_messages_is_refused(api: Api, pods: str) -> None:
    spec = b"\x12\x00" * 120_000
    message = b"\x12" + _length(len(spec)) + spec
    answer = api.post(
        pods, b"k8s\x00\x12" + _length(len(message)) + message, content_type="application/vnd.kubernetes.protobuf"
    )
    assert answer.code == 400
    assert "more than 50000 objects and arrays" in answer.message


def test_a_patch_that_copies_stalls_nobody(api: Api, pods: str) -> None:
    """However the client writes the name of the operation."""
    large: dict[str, Any] = pod()
    large["spec"]["containers"][0]["env"] = [{"name": f"V{number}", "value": "v"} for number in range(1000)]
    api.create(pods, large)
    operations = [{"op": "copy", "from": "/spec/containers/0", "path": "/spec/containers/-"}] * 90
    patch = json.dumps(operations).replace('"copy"', r'"\u0063opy"')
    with pulse(api):
        assert api.patch(f"{pods}/web", patch, JSON_PATCH).code == 422


def _review(selector: str) -> dict[str, Any]:
    attributes = {"verb": "list", "resource": "pods", "fieldSelector": {"rawSelector": selector}}
    return {"spec": {"resourceAttributes": attributes}}


def test_a_selector_of_megabytes_stalls_nobody(api: Api) -> None:
    with pulse(api):
        assert api.post(REVIEWS, _review("a=b," * 700_000 + "a=b")).code == 201


def test_long_selectors_are_not_remembered(api: Api) -> None:
    def ask(number: int) -> None:
        assert api.post(REVIEWS, _review("a=b," * 100_000 + f"a={number}")).code == 201

    ask(0)
    before = memory(api)
    for number in range(1, 20):
        ask(number)
    assert memory(api) - before < 64 * MEGABYTE


@pytest.mark.parametrize("token", ["a.b.c", ""])
def test_a_token_is_judged_once_for_all_audiences(api: Api, namespace: str, token: str) -> None:
    accounts = f"/api/v1/namespaces/{namespace}/serviceaccounts/default/token"
    token = token or api.create(accounts, {"spec": {"audiences": ["here", "there"]}})["status"]["token"]
    wanted = [f"somewhere-{number}" for number in range(100_000)]
    with pulse(api):
        answer = api.post(TOKEN_REVIEWS, {"spec": {"token": token, "audiences": [*wanted, "there", "here"]}})
    assert answer.json["status"].get("audiences", []) == ([] if token == "a.b.c" else ["there", "here"])


def test_what_is_refused_is_forgotten_at_once(api: Api, pods: str) -> None:
    """Not when the collector of garbage comes: a refusal and what it is about hold each other in no circle."""
    body = '{"metadata":{"name":"web"},"spec":{"containers":' + brackets("{}", 60_000) + "}}"

    def refuse() -> int:
        assert api.post(pods, body).code == 422
        return memory(api)

    first = refuse()
    assert max(refuse() for _ in range(8)) - first < 64 * MEGABYTE
