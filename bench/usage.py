"""What processes use: memory from smaps, processor time from their clocks."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

from msgspec import Struct


class Memory(Struct, frozen=True):
    """Bytes. `resident` counts shared pages in full, `proportional` shares them between those who use them."""

    resident: int
    proportional: int


def memory(pid: int) -> Memory:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    sizes = {key: int(kilobytes) * 1024 for key, kilobytes in re.findall(r"^(\w+): +(\d+) kB", text, re.MULTILINE)}
    return Memory(sizes["Rss"], sizes["Pss"])


def cpu_seconds(pid: int) -> float:
    """Processor time that the process and the children that it has reaped used so far."""
    # The clock of another process, as clock_getcpuclockid(3) makes it: exact, where /proc counts in ticks of 10 ms.
    own = time.clock_gettime((~pid << 3) | 2)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return own + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


def switches(pid: int) -> int:
    """How often threads of the process went to sleep so far: once for each time they were woken."""
    total = 0
    for status in Path(f"/proc/{pid}/task").glob("*/status"):
        try:
            total += int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", status.read_text(), re.MULTILINE)[1])  # type: ignore[index]
        except FileNotFoundError:
            continue
    return total
