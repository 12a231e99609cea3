"""Protobuf bodies become the documents that JSON bodies would be."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api import codec
from podling.api.authorization.v1 import SubjectAccessReview
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Pod, Secret, Service
from podling.api.meta.v1 import DeleteOptions
from podling.apiserver import protobuf
from podling.apiserver.protobuf import ProtobufError


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def content(field: int, value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(data)) + data


def body(api_version: str, kind: str, message: bytes) -> bytes:
    type_meta = content(1, api_version) + content(2, kind)
    return protobuf.MAGIC + content(1, type_meta) + content(2, message) + content(3, "") + content(4, "")


def test_a_pod_becomes_its_document() -> None:
    quantity = content(1, "cpu") + content(2, content(1, "100m"))
    probe = content(1, content(2, content(2, number(1, 0) + number(2, 8080)))) + number(3, 0) + number(4, 5)
    container = content(1, "main") + content(2, "nginx") + content(3, "a") + content(3, "b")
    container += content(7, content(1, "X") + content(2, "")) + content(8, content(1, quantity)) + content(10, probe)
    container += number(16, 0)
    volume = content(1, "data") + content(2, content(2, content(1, "Memory")))
    security = number(2, 0) + number(4, 1000) + number(4, 2000)
    spec = content(1, volume) + content(2, container) + number(4, 0) + content(14, security) + number(11, 0)
    created = content(8, number(1, 1_700_000_000))
    metadata = content(1, "web") + content(3, "default") + created + content(11, content(1, "app") + content(2, "x"))
    document, unknown = protobuf.decode(
        body("v1", "Pod", content(1, metadata) + content(2, spec) + content(3, b"")), Pod
    )
    assert unknown == []
    assert document == {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": "web",
            "namespace": "default",
            "creationTimestamp": "2023-11-14T22:13:20Z",
            "labels": {"app": "x"},
        },
        "spec": {
            "volumes": [{"name": "data", "emptyDir": {"medium": "Memory"}}],
            "containers": [
                {
                    "name": "main",
                    "image": "nginx",
                    "command": ["a", "b"],
                    "env": [{"name": "X"}],
                    "resources": {"limits": {"cpu": "100m"}},
                    "livenessProbe": {"httpGet": {"port": 8080}, "periodSeconds": 5},
                }
            ],
            "terminationGracePeriodSeconds": 0,
            "securityContext": {"runAsUser": 0, "supplementalGroups": [1000, 2000]},
        },
        "status": {},
    }
    assert codec.convert(document, Pod).spec.containers[0].resources.limits["cpu"].milli_value() == 100


def test_bytes_negative_numbers_and_packed_lists_are_read() -> None:
    secret, _ = protobuf.decode(body("v1", "Secret", content(2, content(1, "k") + content(2, b"\x00\xff"))), Secret)
    assert codec.convert(secret, Secret).data == {"k": b"\x00\xff"}
    options, _ = protobuf.decode(body("v1", "DeleteOptions", number(1, -1) + content(4, "Orphan")), DeleteOptions)
    assert (options["gracePeriodSeconds"], options["propagationPolicy"]) == (-1, "Orphan")
    packed = content(2, content(14, content(4, varint(7) + varint(300))))
    pod, _ = protobuf.decode(body("v1", "Pod", packed), Pod)
    assert pod["spec"]["securityContext"]["supplementalGroups"] == [7, 300]


def test_a_target_port_of_zero_is_none() -> None:
    port = number(3, 80) + content(4, number(1, 0) + number(2, 0)) + number(5, 0)
    service, _ = protobuf.decode(body("v1", "Service", content(2, content(1, port))), Service)
    assert service["spec"]["ports"] == [{"port": 80}]
    named = number(3, 80) + content(4, number(1, 1) + content(3, "http"))
    service, _ = protobuf.decode(body("v1", "Service", content(2, content(1, named))), Service)
    assert service["spec"]["ports"] == [{"port": 80, "targetPort": "http"}]


def test_maps_of_lists_are_unwrapped() -> None:
    extra = content(5, content(1, "scopes") + content(2, content(1, "a") + content(1, "b")))
    review, _ = protobuf.decode(
        body("authorization.k8s.io/v1", "SubjectAccessReview", content(2, extra)), SubjectAccessReview
    )
    assert review["spec"]["extra"] == {"scopes": ["a", "b"]}


def test_unknown_fields_are_reported_and_skipped() -> None:
    message = (
        number(90, 1) + content(91, "x") + varint(92 << 3 | 1) + struct.pack("<d", 1.5) + content(2, content(16, "h"))
    )
    document, unknown = protobuf.decode(body("v1", "Pod", message), Pod)
    assert document["spec"] == {"hostname": "h"}
    assert unknown == [f"unknown field {field} of core.v1.Pod" for field in (90, 91, 92)]


@pytest.mark.parametrize(
    "broken",
    [
        b"",
        b"k8s",
        b'{"kind":"Pod"}',
        protobuf.MAGIC + b"\x12\x05abc",
        protobuf.MAGIC + b"\x07",
        protobuf.MAGIC + b"\xff" * 11,
        body("v1", "Pod", number(1, 5)),
        body("v1", "Pod", content(1, content(1, b"\xff"))),
    ],
)
def test_what_is_no_message_is_an_error(broken: bytes) -> None:
    with pytest.raises(ProtobufError):
        protobuf.decode(broken, Pod)


@given(st.binary(max_size=200))
def test_no_message_breaks_the_decoder(data: bytes) -> None:
    try:
        document, _ = protobuf.decode(body("v1", "Pod", data), Pod)
    except ProtobufError:
        return
    assert document["kind"] == "Pod"


def test_raw_json_that_is_none_is_an_error() -> None:
    managed = content(7, content(1, "{no JSON"))
    metadata = content(1, "web") + content(17, managed)
    with pytest.raises(ProtobufError):
        protobuf.decode(body("v1", "Pod", content(1, metadata)), Pod)


def test_the_zero_of_a_pointer_counts_and_that_of_a_number_does_not() -> None:
    affinity = content(14, content(1, number(1, 0)))
    port = content(1, content(1, "http") + number(3, 80) + number(5, 0))
    document, _ = protobuf.decode(body("v1", "Service", content(2, port + affinity)), Service)
    assert document["spec"]["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 0}}
    assert "nodePort" not in document["spec"]["ports"][0]


@pytest.mark.parametrize("seconds", [253402300800, 2**63 - 1, -62135596801, -(2**63)])
def test_a_time_that_cannot_be_written_is_refused(seconds: int) -> None:
    created = content(8, number(1, seconds))
    with pytest.raises(ProtobufError, match=f"a time out of range: {seconds}"):
        protobuf.decode(body("v1", "Pod", content(1, created)), Pod)


def test_a_time_of_the_first_thousand_years_has_four_digits() -> None:
    document, _ = protobuf.decode(body("v1", "Pod", content(1, content(8, number(1, -50_000_000_000)))), Pod)
    assert document["metadata"]["creationTimestamp"] == "0385-07-25T07:06:40Z"
    assert codec.convert(document, Pod)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-62_135_596_800, "0001-01-01T00:00:00.000000Z"),
        (-30_641_760_000, "0999-01-01T00:00:00.000000Z"),
        (1_700_000_000, "2023-11-14T22:13:20.000000Z"),
    ],
)
def test_a_year_has_four_digits_whoever_writes_it(seconds: int, text: str) -> None:
    message = content(2, content(4, number(1, seconds) + number(2, 0)))
    document, _ = protobuf.decode(body("coordination.k8s.io/v1", "Lease", message), Lease)
    assert document["spec"] == {"renewTime": text}
    from_protobuf = codec.convert(document, Lease)
    from_json = codec.decode(Lease, b'{"spec":{"renewTime":"' + text.encode() + b'"}}')
    assert from_protobuf.spec.renew_time == from_json.spec.renew_time == text
