"""Samples, their statistics, and the table that `make bench` prints. Pure: no measuring here."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from msgspec import Struct


class Samples(Struct, frozen=True):
    """What was measured of one candidate, in seconds, one number a round."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def percentile(self, share: float) -> float:
        """The value below which `share` (0 to 1) of the samples are, interpolated between neighbours."""
        ordered = sorted(self.values)
        position = share * (len(ordered) - 1)
        low = int(position)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def ratios(values: Samples, others: Samples) -> Samples:
    """Round by round: noise of the machine that lasts longer than a round is in both and falls out."""
    return Samples(tuple(value / other for value, other in zip(values.values, others.values, strict=True)))


class Target(Struct, frozen=True):
    """A number that is wanted to be at most, or at least, `limit`."""

    limit: float
    text: str
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit


class Row(Struct, frozen=True):
    """One line of the table."""

    name: str
    value: str
    spread: str = ""
    compared: str = ""
    target: Target | None = None
    measured: float | None = None
    """What the target is about, in its unit."""

    @property
    def verdict(self) -> str:
        if self.target is None or self.measured is None:
            return ""
        return "met" if self.target.met(self.measured) else "MISSED"

    def cells(self) -> tuple[str, ...]:
        target = self.target.text if self.target is not None else ""
        return (f"  {self.name}", self.value, self.spread, self.compared, target, self.verdict)


class Section(Struct, frozen=True):
    title: str
    rows: Sequence[Row]


_HEAD = ("", "median", "p10 - p90", "compared", "target", "")


def table(sections: Sequence[Section]) -> str:
    """Columns as wide as they have to be; each section under its title."""
    lines: list[tuple[str, ...] | str] = [_HEAD]
    for section in sections:
        lines += ["", section.title]
        lines += [row.cells() for row in section.rows]
    cells = [line for line in lines if not isinstance(line, str)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return "\n".join(line if isinstance(line, str) else _aligned(line, widths) for line in lines)


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    name, *numbers = cells
    value, spread, *rest = numbers
    parts = [name.ljust(widths[0]), value.rjust(widths[1]), spread.rjust(widths[2])]
    parts += [text.ljust(width) for text, width in zip(rest, widths[3:], strict=True)]
    return "  ".join(parts).rstrip()


def missed(sections: Sequence[Section]) -> list[str]:
    """The names of the rows whose target was not reached, with their section's title."""
    return [f"{section.title}: {row.name}" for section in sections for row in section.rows if row.verdict == "MISSED"]


def duration(seconds: float) -> str:
    """Three significant digits or whole milliseconds: "0.94 s", "47.3 ms", "340 ms"."""
    if seconds >= 1:
        return f"{seconds:.2f} s"
    milliseconds = seconds * 1000
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.1f} ms"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def percent(share: float) -> str:
    return f"{share * 100:.2f} %" if share < 0.1 else f"{share * 100:.0f} %"


def spread(samples: Samples) -> str:
    low, high = samples.percentile(0.1), samples.percentile(0.9)
    return f"{duration(low)} - {duration(high)}" if len(samples.values) > 1 else ""


def plain(sections: Sequence[Section]) -> list[Mapping[str, object]]:
    """For `--json`: what the table shows, with the number each target is about."""
    return [
        {
            "section": section.title,
            "name": row.name,
            "value": row.value,
            "spread": row.spread,
            "compared": row.compared,
            "target": row.target.text if row.target is not None else "",
            "measured": row.measured,
            "met": row.target.met(row.measured) if row.target is not None and row.measured is not None else None,
        }
        for section in sections
        for row in section.rows
    ]
