"""Numbers at the limits of int32 and int64: what is computed from them stays within what can be stored and read."""

from __future__ import annotations

import pytest

from podling.api import codec, go, time
from podling.api.core.v1 import ContainerStatus, Pod, PodSpec, PodStatus, ServicePort
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.api.scheme import by_type
from podling.apiserver.deletion import begin_deletion
from podling.apiserver.registry import Encoder
from podling.apiserver.strategies.pod import PodStrategy
from podling.kubelet.pod_actions import Records
from podling.kubelet.pod_status import restart_floor

MAX64, MIN64 = 2**63 - 1, -(2**63)
LAST = "9999-12-31T23:59:59Z"
FIRST = "0001-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (-0.5, "1969-12-31T23:59:59Z"),
        (253402300799, LAST),
        (253402300799.9, LAST),
        (253402300800, LAST),
        (MAX64, LAST),
        (1e300, LAST),
        (MIN64, FIRST),
        (-62135596801, FIRST),
        (-30000000000, "1019-05-04T18:40:00Z"),
        (-50000000000, "0385-07-25T07:06:40Z"),
    ],
)
def test_a_computed_time_stays_between_the_first_and_the_last_that_can_be_written(seconds: float, text: str) -> None:
    assert time.from_seconds(seconds) == text
    assert codec.decode_exact(Pod, codec.encode(Pod(metadata=ObjectMeta(creation_timestamp=text))))


@pytest.mark.parametrize("text", ["0000-01-01T00:00:00Z", "0000-12-31T23:59:59.999999Z", FIRST, LAST])
def test_every_time_that_the_api_takes_can_be_computed_with(text: str) -> None:
    assert time.EARLIEST <= time.to_seconds(text) <= time.LATEST


@pytest.mark.parametrize("period", [300_000_000_000, 999_999_999_999, MAX64, -1, MIN64, 0, 1])
@pytest.mark.parametrize("asked", [True, False], ids=["DeleteOptions", "spec"])
def test_a_deletion_with_any_grace_period_can_be_stored_and_made_shorter(period: int, asked: bool) -> None:
    strategy = PodStrategy(by_type(Pod))
    pod = Pod(metadata=ObjectMeta(name="a"), spec=PodSpec(node_name="n", termination_grace_period_seconds=period))
    begin_deletion(strategy, pod, DeleteOptions(grace_period_seconds=period if asked else None))
    Encoder(pod)(1)
    assert FIRST < pod.metadata.deletion_timestamp <= LAST
    assert not pod.metadata.deletion_timestamp.startswith("0")
    if (pod.metadata.deletion_grace_period_seconds or 0) > 30:
        before = time.now()
        assert begin_deletion(strategy, pod, DeleteOptions(grace_period_seconds=30)).keep
        assert before <= pod.metadata.deletion_timestamp
        assert time.to_seconds(pod.metadata.deletion_timestamp) <= time.to_seconds(time.now()) + 30
        Encoder(pod)(2)


def test_a_restart_count_at_the_end_of_its_numbers_stays_there() -> None:
    status = ContainerStatus(name="main", container_id="podling://1", restart_count=2**31 - 1)
    pod = Pod(status=PodStatus(container_statuses=[status]))
    assert restart_floor(pod, Records(None, {})) == {"main": 2**31 - 1}


@pytest.mark.parametrize("text", ["0", "-0", "+7", "9223372036854775807", "-9223372036854775808", "0" * 5000 + "1"])
def test_numbers_of_options_are_read_as_go_reads_them(text: str) -> None:
    assert go.parse_int(text) == int(text.lstrip("0") or "0")


@pytest.mark.parametrize("text", ["9223372036854775808", "-9223372036854775809", "9" * 5000, "-" + "9" * 5000])
def test_numbers_of_options_out_of_range_are_refused_as_go_refuses_them(text: str) -> None:
    with pytest.raises(ValueError, match=f"^strconv.ParseInt: parsing {text!r}: value out of range$".replace("'", '"')):
        go.parse_int(text)


@pytest.mark.parametrize("text", ["", " 1", "1_000", "\u0661", "1.0", "0x10", "1e3", "--1", "+"])
def test_what_only_python_takes_for_a_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid syntax"):
        go.parse_int(text)


@pytest.mark.parametrize("port", [2**31, -(2**31) - 1, MAX64, 10**30])
def test_a_number_or_name_is_a_number_of_32_bits(port: int) -> None:
    with pytest.raises(codec.DecodeError, match=f"cannot unmarshal number {port} into .* of type int32"):
        codec.decode(ServicePort, b'{"port":80,"targetPort":%d}' % port)
