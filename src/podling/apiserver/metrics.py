"""Request counts and latencies in Prometheus' text format, named as upstream's."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
Key = tuple[str, str, str, str]
"""verb, group, resource, subresource"""


class Metrics:
    def __init__(self) -> None:
        self._requests: Counter[tuple[Key, int]] = Counter()
        self._buckets: dict[Key, list[int]] = {}
        self._seconds: Counter[Key] = Counter()

    def observe(self, key: Key, code: int, seconds: float) -> None:
        """One answered request. Watches and other long streams are counted only (seconds < 0)."""
        self._requests[key, code] += 1
        if seconds < 0:
            return
        counts = self._buckets.get(key)
        if counts is None:
            counts = self._buckets[key] = [0] * (len(_BUCKETS) + 1)
        counts[bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[key] += seconds  # type: ignore[assignment]  # a Counter adds floats as well

    def render(self) -> str:
        lines = [
            "# HELP apiserver_request_total Requests answered.",
            "# TYPE apiserver_request_total counter",
        ]
        for (key, code), count in sorted(self._requests.items()):
            lines.append(f'apiserver_request_total{{code="{code}",{_labels(key)}}} {count}')
        lines += [
            "# HELP apiserver_request_duration_seconds Time from a request's headers to its answer.",
            "# TYPE apiserver_request_duration_seconds histogram",
        ]
        name = "apiserver_request_duration_seconds"
        for key, counts in sorted(self._buckets.items()):
            total = 0
            for bound, count in zip((*_BUCKETS, "+Inf"), counts, strict=True):
                total += count
                lines.append(f'{name}_bucket{{{_labels(key)},le="{bound}"}} {total}')
            lines.append(f"{name}_sum{{{_labels(key)}}} {self._seconds[key]:.6f}")
            lines.append(f"{name}_count{{{_labels(key)}}} {total}")
        return "\n".join(lines) + "\n"


def _labels(key: Key) -> str:
    verb, group, resource, subresource = key
    return f'verb="{verb}",group="{group}",resource="{resource}",subresource="{subresource}"'
