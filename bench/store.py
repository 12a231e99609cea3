"""The store against the limits of the machine: latency of one write, and writes a second, beside SQLite and fdatasync.

python bench/store.py [DIRECTORY]
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop

from podling.store.sqlite import SQLiteStore

VALUE = os.urandom(2000)
SINGLE = 500
MANY = 10_000
WRITERS = 64


def p50(seconds: list[float]) -> str:
    return f"{statistics.median(seconds) * 1e3:7.3f} ms"


def timed(action: Callable[[int], object]) -> list[float]:
    times = []
    for number in range(SINGLE):
        start = time.perf_counter()
        action(number)
        times.append(time.perf_counter() - start)
    return times


def fdatasync(path: Path) -> list[float]:
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    os.write(file, b"\0" * 4096 * SINGLE)
    os.fsync(file)

    def write(number: int) -> None:
        os.pwrite(file, VALUE, number * 4096)
        os.fdatasync(file)

    times = timed(write)
    os.close(file)
    return times


def raw_sqlite(path: Path) -> tuple[list[float], float]:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE kv (id INTEGER PRIMARY KEY, key TEXT, value BLOB)")
    times = timed(lambda n: connection.execute("INSERT INTO kv (key, value) VALUES (?, ?)", (f"/k/{n}", VALUE)))
    start = time.perf_counter()
    for first in range(0, MANY, WRITERS):
        connection.execute("BEGIN")
        connection.executemany(
            "INSERT INTO kv (key, value) VALUES (?, ?)", [(f"/k/{first + n}", VALUE) for n in range(WRITERS)]
        )
        connection.execute("COMMIT")
    rate = MANY / (time.perf_counter() - start)
    connection.close()
    return times, rate


async def store(path: Path) -> tuple[list[float], float]:
    async with await SQLiteStore.open(path) as opened:
        times = []
        for number in range(SINGLE):
            start = time.perf_counter()
            await opened.create(f"/single/{number}", lambda revision: VALUE)
            times.append(time.perf_counter() - start)

        async def write(writer: int) -> None:
            for number in range(MANY // WRITERS):
                await opened.create(f"/many/{writer}/{number}", lambda revision: VALUE)

        writers: list[Awaitable[None]] = [write(number) for number in range(WRITERS)]
        start = time.perf_counter()
        await asyncio.gather(*writers)
        return times, MANY // WRITERS * WRITERS / (time.perf_counter() - start)


def main() -> None:
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as directory:
        sync = fdatasync(Path(directory) / "fdatasync")
        sqlite_single, sqlite_rate = raw_sqlite(Path(directory) / "sqlite.db")
        store_single, store_rate = uvloop.run(store(Path(directory) / "store.db"))
        print(f"one write, p50    fdatasync {p50(sync)}   SQLite {p50(sqlite_single)}   store {p50(store_single)}")
        print(f"{WRITERS} at once         SQLite {sqlite_rate:7.0f}/s   store {store_rate:7.0f}/s")


if __name__ == "__main__":
    main()
