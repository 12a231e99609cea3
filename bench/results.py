"""All that a run measures, and the table that it makes of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from bench import report, usage
from bench.report import Row, Samples, Section, Target

RAW_THREADS = 8
"""Of the raw limit's burst."""


class Plan(msgspec.Struct, frozen=True):
    """How much is measured."""

    starts: int = 3
    rounds: int = 25
    bursts: int = 5
    burst: int = 30
    idle_pods: int = 20
    idle_seconds: float = 30.0
    pulls: int = 3


QUICK = Plan(starts=1, rounds=7, bursts=3, idle_seconds=5.0, pulls=1)


class Measured(msgspec.Struct):
    """All samples, in seconds if not said otherwise; what could not be measured is empty."""

    up_fresh: list[float] = []
    up_again: list[float] = []
    raw_start: list[float] = []
    podling_start: list[float] = []
    podman_start: list[float] = []
    podling_stop: list[float] = []
    podman_stop: list[float] = []
    raw_burst: list[float] = []
    podling_burst: list[float] = []
    podling_burst_stop: list[float] = []
    memory: dict[str, usage.Memory] = {}
    """Bytes by process, with the Pods of the last burst running."""
    idle_cpu: dict[str, float] = {}
    """Share of one core by process."""
    idle_wakeups: dict[str, float] = {}
    """A second, by process."""
    podman: str = ""
    """Version and network of the peer, or why it is missing."""


def sections(plan: Plan, measured: Measured) -> list[Section]:
    found = [
        Section("POST to Ready, one by one", list(_starts(measured))),
        Section(f"burst of {plan.burst} Pods, until all are Ready", list(_bursts(plan, measured))),
        Section("DELETE to gone", list(_stops(measured))),
        Section("podling up to node Ready", list(_ups(measured))),
        Section(f"memory with {plan.burst} Pods running", list(_memory(measured))),
        Section(f"idle CPU with {plan.idle_pods} Pods running, of one core", list(_idle(measured))),
    ]
    return [section for section in found if section.rows]


def _row(name: str, values: Sequence[float], compared: str = "", target: Target | None = None, about: float = 0) -> Row:
    samples = Samples(tuple(values))
    return Row(
        name,
        report.duration(samples.median),
        report.spread(samples),
        compared,
        target,
        None if target is None else about or samples.median,
    )


def _starts(measured: Measured) -> Iterator[Row]:
    raw, podling = Samples(tuple(measured.raw_start)), Samples(tuple(measured.podling_start))
    yield _row("raw limit", measured.raw_start)
    ratio = report.ratios(podling, raw).median
    yield _row("Podling", measured.podling_start, f"{ratio:.2f} x raw", Target(2.5, "<= 2.5 x raw"), ratio)
    if measured.podman_start:
        peer = Samples(tuple(measured.podman_start))
        ratio = report.ratios(podling, peer).median
        text = f"Podling: 1/{1 / ratio:.1f}"
        yield _row("podman kube play", measured.podman_start, text, Target(0.25, "Podling <= 1/4"), ratio)


def _bursts(plan: Plan, measured: Measured) -> Iterator[Row]:
    raw, podling = Samples(tuple(measured.raw_burst)), Samples(tuple(measured.podling_burst))
    yield _row(f"raw limit, {RAW_THREADS} threads", measured.raw_burst, f"{plan.burst / raw.median:.1f} Pods/s")
    share = report.ratios(raw, podling).median
    text = f"{plan.burst / podling.median:.1f} Pods/s, {share * 100:.0f} % of raw"
    yield _row("Podling", measured.podling_burst, text, Target(0.4, ">= 40 % of raw", at_least=True), share)


def _stops(measured: Measured) -> Iterator[Row]:
    yield _row("Podling, one", measured.podling_stop, "", Target(0.15, "<= 150 ms"))
    if measured.podman_stop:
        yield _row("podman kube down, one", measured.podman_stop)
    yield _row("Podling, a burst", measured.podling_burst_stop)


def _ups(measured: Measured) -> Iterator[Row]:
    yield _row("fresh data directory", measured.up_fresh, "", Target(2.0, "<= 2 s"))
    yield _row("again, after down", measured.up_again, "", Target(2.0, "<= 2 s"))


def _memory(measured: Measured) -> Iterator[Row]:
    for name, used in measured.memory.items():
        yield Row(name, report.megabytes(used.resident), "", f"PSS {report.megabytes(used.proportional)}")
    resident = sum(used.resident for used in measured.memory.values())
    proportional = sum(used.proportional for used in measured.memory.values())
    limit = Target(160e6, "<= 160 MB RSS")
    yield Row("both", report.megabytes(resident), "", f"PSS {report.megabytes(proportional)}", limit, resident)


def _idle(measured: Measured) -> Iterator[Row]:
    for name, share in measured.idle_cpu.items():
        yield Row(name, report.percent(share), "", f"{measured.idle_wakeups[name]:.1f} wake-ups/s")
    total = sum(measured.idle_cpu.values())
    yield Row("both", report.percent(total), "", "", Target(0.02, "<= 2 %"), total)
