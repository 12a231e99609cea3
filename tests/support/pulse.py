"""How long somebody waits for answers while something else goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

Asking = Callable[[], Generator[None, None, None]]
"""Connects in its first step; in each further one it sends a request and reads the answer."""


@dataclass
class Pulse:
    """Seconds that each answer took."""

    waits: list[float] = field(default_factory=list)

    @property
    def longest(self) -> float:
        return max(self.waits)


@contextmanager
def pulse_of(asking: Asking) -> Iterator[Pulse]:
    """Ask again and again, in a thread, while the block runs, and at least once. Fail if that was not answered.

    The connection is there, and known by a first request, before the block begins.
    """
    pulse, over = Pulse(), threading.Event()
    with closing(asking()) as steps:
        next(steps)
        next(steps)

        def beat() -> None:
            while True:
                begin = time.monotonic()
                next(steps)
                pulse.waits.append(time.monotonic() - begin)
                if over.wait(0.01):
                    return

        with ThreadPoolExecutor(1) as executor:
            beating = executor.submit(beat)
            try:
                yield pulse
            finally:
                over.set()
            beating.result()
