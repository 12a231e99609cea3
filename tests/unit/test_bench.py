"""What `make bench` computes and shows; the measuring itself is not tested."""

from __future__ import annotations

import os
import statistics
import time

import pytest
from bench import podman, pods, report, usage
from bench.report import Row, Samples, Section, Target
from hypothesis import given
from hypothesis import strategies as st

SECONDS = st.lists(st.floats(min_value=1e-6, max_value=1e4), min_size=1, max_size=50).map(tuple)


@given(SECONDS)
def test_the_median_is_the_middle_percentile(values: tuple[float, ...]) -> None:
    samples = Samples(values)
    assert samples.percentile(0.5) == pytest.approx(samples.median)
    assert samples.median == statistics.median(values)


@given(SECONDS, st.floats(min_value=0, max_value=1))
def test_percentiles_are_within_the_samples_and_ordered(values: tuple[float, ...], share: float) -> None:
    samples = Samples(values)
    low, middle, high = samples.percentile(0), samples.percentile(share), samples.percentile(1)
    assert low == min(values)
    assert high == max(values)
    assert low <= middle * (1 + 1e-12)
    assert middle <= high * (1 + 1e-12)


def test_percentiles_between_two_samples_are_interpolated() -> None:
    assert Samples((10.0, 20.0, 30.0, 40.0, 50.0)).percentile(0.9) == pytest.approx(46.0)


def test_ratios_are_taken_round_by_round_so_that_slow_rounds_count_no_more_than_others() -> None:
    slow_round = report.ratios(Samples((2.0, 20.0, 2.0)), Samples((1.0, 10.0, 1.0)))
    assert slow_round.values == (2.0, 2.0, 2.0)


def test_candidates_with_different_numbers_of_rounds_are_not_compared() -> None:
    with pytest.raises(ValueError, match="longer"):
        report.ratios(Samples((1.0,)), Samples((1.0, 2.0)))


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target(2.5, "<= 2.5"), 2.5, True),
        (Target(2.5, "<= 2.5"), 2.51, False),
        (Target(0.4, ">= 40 %", at_least=True), 0.4, True),
        (Target(0.4, ">= 40 %", at_least=True), 0.39, False),
    ],
)
def test_targets_include_their_limit(target: Target, value: float, met: bool) -> None:
    assert target.met(value) is met


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.00123, "1.2 ms"),
        (0.0473, "47.3 ms"),
        (0.34, "340 ms"),
        (0.999, "999 ms"),
        (1.0, "1.00 s"),
        (12.345, "12.35 s"),
    ],
)
def test_durations_have_three_digits_or_so(seconds: float, text: str) -> None:
    assert report.duration(seconds) == text


def test_memory_and_shares_have_their_units() -> None:
    assert report.megabytes(123_456_789) == "123.5 MB"
    assert report.percent(0.0042) == "0.42 %"
    assert report.percent(0.5) == "50 %"


def test_one_sample_has_no_spread() -> None:
    assert report.spread(Samples((1.0,))) == ""
    assert report.spread(Samples((0.01, 0.02))) == "11.0 ms - 19.0 ms"


SECTIONS = [
    Section(
        "start",
        [
            Row("raw limit", "20.0 ms", "19.0 ms - 22.0 ms"),
            Row("Podling", "40.0 ms", "38.0 ms - 41.0 ms", "2.00 x raw", Target(2.5, "<= 2.5 x raw"), 2.0),
        ],
    ),
    Section("memory", [Row("both", "170.0 MB", "", "PSS 90.0 MB", Target(160e6, "<= 160 MB RSS"), 170e6)]),
]


def test_the_table_shows_each_target_beside_what_was_measured() -> None:
    assert report.table(SECTIONS) == (
        "               median          p10 - p90  compared     target\n"
        "\n"
        "start\n"
        "  raw limit   20.0 ms  19.0 ms - 22.0 ms\n"
        "  Podling     40.0 ms  38.0 ms - 41.0 ms  2.00 x raw   <= 2.5 x raw   met\n"
        "\n"
        "memory\n"
        "  both       170.0 MB                     PSS 90.0 MB  <= 160 MB RSS  MISSED"
    )


def test_what_is_missed_is_named() -> None:
    assert report.missed(SECTIONS) == ["memory: both"]


def test_json_holds_what_the_table_shows_and_the_number_behind_each_target() -> None:
    rows = report.plain(SECTIONS)
    assert [(row["section"], row["name"], row["met"]) for row in rows] == [
        ("start", "raw limit", None),
        ("start", "Podling", True),
        ("memory", "both", False),
    ]
    assert rows[2]["measured"] == 170e6


def test_processor_time_of_a_process_grows_as_it_works() -> None:
    before = usage.cpu_seconds(os.getpid())
    begin = time.process_time()
    while time.process_time() - begin < 0.02:
        pass
    assert usage.cpu_seconds(os.getpid()) - before >= 0.02


def test_memory_of_a_process_is_shared_out_to_no_more_than_it_holds() -> None:
    used = usage.memory(os.getpid())
    assert 1e6 < used.proportional <= used.resident


def test_podman_gets_no_limit_above_the_one_it_has() -> None:
    assert podman.limit(20000, 32768) == "20000:20000"
    assert podman.limit(96365, 32768) == "32768:32768"
    assert podman.limit(-1, 32768) == "32768:32768"


def test_all_candidates_run_the_same_command_of_the_same_image() -> None:
    container = pods.manifest("a")["spec"]["containers"][0]
    assert container["image"] == pods.IMAGE
    assert container["command"] == list(pods.COMMAND)
