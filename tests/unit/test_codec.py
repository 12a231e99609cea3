"""Decoding: what is mended, what is refused, and in whose words. The messages are those of kubectl for the same input."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import codec, coerce, shape, strict
from podling.api.core.v1 import Container, Event, Pod, PodSpec, Secret
from podling.api.shape import Shape


def pod(**container: Any) -> dict[str, Any]:
    return {"metadata": {"name": "x"}, "spec": {"containers": [container]}}


def text(struct: type, document: Any) -> str:
    with pytest.raises(codec.DecodeError) as caught:
        codec.convert(document, struct)
    with pytest.raises(codec.DecodeError) as decoded:
        codec.decode(struct, json.dumps(document))
    assert str(decoded.value) == str(caught.value)
    return str(caught.value)


QUANTITY = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
TIME = '"2006-01-02T15:04:05Z07:00"'


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            pod(ports=[{"containerPort": "80"}]),
            "json: cannot unmarshal string into Go struct field"
            " ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(ports=[{"containerPort": 99999999999}]),
            "json: cannot unmarshal number 99999999999 into Go struct field"
            " ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod(startupProbe={"periodSeconds": 1.5}),
            "json: cannot unmarshal number 1.5 into Go struct field"
            " Probe.spec.containers.startupProbe.periodSeconds of type int32",
        ),
        (
            pod(ports=[80]),
            "json: cannot unmarshal number into Go struct field"
            " Container.spec.containers.ports of type v1.ContainerPort",
        ),
        (
            pod(env=[{"name": "x", "value": 1}]),
            "json: cannot unmarshal number into Go struct field EnvVar.spec.containers.env.value of type string",
        ),
        (
            pod(resources={"limits": []}),
            "json: cannot unmarshal array into Go struct field"
            " ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            {"spec": {"restartPolicy": 1}},
            "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy",
        ),
        (
            {"spec": {"hostNetwork": "yes", "containers": [{"image": 5}]}},
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type bool",
        ),
        (
            {"metadata": {"labels": {"a": 1}}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        ({"metadata": "x"}, "json: cannot unmarshal string into Go struct field Pod.metadata of type v1.ObjectMeta"),
        (
            pod(livenessProbe={"httpGet": {"port": True}}),
            "json: cannot unmarshal bool into Go struct field"
            " HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (pod(resources={"limits": {"cpu": "abc"}}), QUANTITY),
        (pod(resources={"limits": {"cpu": True}}), QUANTITY),
        ({"metadata": {"creationTimestamp": "x"}}, f'parsing time "x" as {TIME}: cannot parse "x" as "2006"'),
        (
            {"metadata": {"creationTimestamp": "2026-12-30T03:04:05"}},
            f'parsing time "2026-12-30T03:04:05" as {TIME}: cannot parse "" as "Z07:00"',
        ),
        (
            {"metadata": {"creationTimestamp": "2026-12-30T03:04:05Zx"}},
            'parsing time "2026-12-30T03:04:05Zx": extra text: "x"',
        ),
        (
            {"metadata": {"creationTimestamp": "2026-13-30T03:04:05Z"}},
            'parsing time "2026-13-30T03:04:05Z": month out of range',
        ),
        (
            {"metadata": {"creationTimestamp": "2026-02-30T03:04:05+01:00"}},
            'parsing time "2026-02-30T03:04:05+01:00": day out of range',
        ),
        (
            {"metadata": {"creationTimestamp": 5}},
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.creationTimestamp of type string",
        ),
        ([], "json: cannot unmarshal array into Go value of type v1.Pod"),
    ],
)
def test_a_mistake_is_named_as_upstreams_decoder_names_it(document: Any, message: str) -> None:
    assert text(Pod, document) == message


def test_a_bad_quantity_is_reported_before_an_earlier_wrong_type() -> None:
    assert text(Pod, {"metadata": {"labels": 1}, **pod(resources={"limits": {"cpu": "x"}})}) == QUANTITY


@pytest.mark.parametrize(
    ("value", "position"), [("x", 0), ("aGVsbG8", 4), ("a$", 1), ("aa=a", 2), ("aaaa=", 4), ("a===", 1), ("aa==aa", 4)]
)
def test_broken_base64_is_reported_with_its_position(value: str, position: int) -> None:
    assert text(Secret, {"data": {"a": value}}) == f"illegal base64 data at input byte {position}"


@given(st.binary(max_size=40), st.integers(1, 8))
def test_base64_may_have_line_breaks(data: bytes, width: int) -> None:
    encoded = base64.b64encode(data).decode()
    lines = "\r\n".join(encoded[i : i + width] for i in range(0, len(encoded), width))
    assert codec.convert({"data": {"a": lines}}, Secret).data == {"a": data}


def test_nulls_are_absent_fields_and_zero_items() -> None:
    document = {
        "metadata": {"creationTimestamp": None, "labels": {"a": None, "b": "c"}, "annotations": None},
        "spec": {"containers": [None, {"name": "x", "args": [None, "y"]}], "nodeName": None},
        "status": None,
    }
    found = codec.decode(Pod, json.dumps(document))
    assert found.metadata.labels == {"a": "", "b": "c"}
    assert found.metadata.annotations == {}
    assert [container.name for container in found.spec.containers] == ["", "x"]
    assert found.spec.containers[1].args == ["", "y"]
    assert found.status == Pod().status


def test_a_zero_is_left_out_where_go_has_a_number_and_kept_where_it_has_a_pointer() -> None:
    container = {
        "name": "c",
        "ports": [{"hostPort": 0, "containerPort": 80}],
        "livenessProbe": {"initialDelaySeconds": 0, "terminationGracePeriodSeconds": 0},
        "securityContext": {"runAsUser": 0},
    }
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0, "priority": 0}
    status = {"observedGeneration": 0, "containerStatuses": [{"name": "c", "restartCount": 0}]}
    document = {"metadata": {"name": "x", "generation": 0}, "spec": spec, "status": status}
    written = json.loads(codec.encode(codec.convert(document, Pod)))
    assert "generation" not in written["metadata"]
    assert "observedGeneration" not in written["status"]
    assert written["status"]["containerStatuses"][0]["restartCount"] == 0
    assert (written["spec"]["terminationGracePeriodSeconds"], written["spec"]["priority"]) == (0, 0)
    [container] = written["spec"]["containers"]
    assert container["ports"] == [{"containerPort": 80}]
    assert container["livenessProbe"] == {"terminationGracePeriodSeconds": 0}
    assert container["securityContext"] == {"runAsUser": 0}


def test_times_come_out_in_utc() -> None:
    document = {"metadata": {"creationTimestamp": "2026-01-01T01:02:03.5+02:00"}}
    assert codec.convert(document, Pod).metadata.creation_timestamp == "2025-12-31T23:02:03Z"
    event = codec.convert({"eventTime": "2026-01-01T01:02:03.000004-01:00"}, Event)
    assert event.event_time == "2026-01-01T02:02:03.000004Z"
    assert "cannot parse" in text(Event, {"eventTime": "2026-01-01T01:02:03Z"})


def test_unknown_fields_are_ignored() -> None:
    assert codec.convert({"spec": {"foo": {"bar": 1}}, "x": None}, Pod) == Pod()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("", "unexpected end of JSON input"),
        ('{"a":1', "unexpected end of JSON input"),
        ('{"a":"x', "unexpected end of JSON input"),
        ("hello", "invalid character 'h' looking for beginning of value"),
        ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
        ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        ("[1 2]", "invalid character '2' after array element"),
        ('{"a" 1}', "invalid character '1' after object key"),
        ('{"a":1} x', "invalid character 'x' after top-level value"),
    ],
)
def test_broken_json_is_described_as_go_describes_it(document: str, message: str) -> None:
    with pytest.raises(codec.DecodeError) as caught:
        codec.decode(Pod, document)
    assert str(caught.value) == message


NAMES = st.text("abcdefgh", min_size=1, max_size=6)
SCALARS: dict[str, st.SearchStrategy[Any]] = {
    shape.STRING: st.text(max_size=5),
    shape.BYTES: st.binary(max_size=5).map(lambda value: base64.b64encode(value).decode()),
    shape.BOOLEAN: st.booleans(),
    shape.INT32: st.integers(-(2**31), 2**31 - 1),
    shape.INT64: st.integers(-(2**63), 2**63 - 1),
    shape.FLOAT: st.floats(allow_nan=False, allow_infinity=False),
    shape.QUANTITY: st.sampled_from(["1", "500m", "1Gi", "2e3", "0"]),
    shape.TIME: st.sampled_from(["2026-01-02T03:04:05Z", "1999-12-31T23:59:59Z"]),
    shape.MICRO_TIME: st.just("2026-01-02T03:04:05.000006Z"),
    shape.INT_OR_STRING: st.one_of(st.integers(0, 2**31 - 1), NAMES),
    shape.ANY: st.dictionaries(NAMES, st.integers(0, 9), max_size=2),
}


def documents(target: Shape, depth: int) -> st.SearchStrategy[Any]:
    """Documents that fit a shape."""
    if target.kind == shape.STRUCT:
        assert target.struct is not None
        fields = shape.fields(target.struct)
        if depth == 0:
            fields = {name: field for name, field in fields.items() if field.shape.kind in SCALARS}
        if not fields:
            return st.just({})
        return st.lists(st.sampled_from(sorted(fields)), max_size=5, unique=True).flatmap(
            lambda names: st.fixed_dictionaries(
                {name: documents(fields[name].shape, max(depth - 1, 0)) for name in names}
            )
        )
    if target.item is None:
        return SCALARS[target.kind]
    inner = documents(target.item, max(depth - 1, 0))
    if target.kind == shape.LIST:
        return st.lists(inner, max_size=2)
    return st.dictionaries(NAMES, inner, max_size=2)


@given(documents(shape.of(PodSpec), 5))
def test_every_fitting_document_decodes_and_comes_back(document: dict[str, Any]) -> None:
    spec = codec.convert(document, PodSpec)
    assert codec.decode(PodSpec, codec.encode(spec)) == spec
    assert codec.to_builtins(spec) == json.loads(codec.encode(spec))
    assert coerce.coerce(document, PodSpec) == document
    assert strict.check(json.dumps(document), PodSpec) == []


@given(documents(shape.of(Container), 4), st.data())
def test_a_null_anywhere_among_the_fields_changes_nothing(document: dict[str, Any], data: st.DataObject) -> None:
    free = sorted(set(shape.fields(Container)) - set(document))
    padded = {**document, **dict.fromkeys(data.draw(st.lists(st.sampled_from(free), unique=True, max_size=4)))}
    assert codec.decode(Container, json.dumps(padded)) == codec.decode(Container, json.dumps(document))
