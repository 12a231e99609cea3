"""`make bench`: latency, throughput, memory and idle load of Podling, beside the raw limit of this machine and podman.

All candidates run the same Pod: one container of a BusyBox image out of Debian packages. They take turns, so that what
else the machine does meets all of them. Needs root; starts a cluster of its own and removes it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import uvloop
from tests.support.cluster import Cluster
from tools import images

from bench import images as image_pulls
from bench import pods, report, usage
from bench.podman import Podman, PodmanFailed, podman
from bench.pods import PodBench, PodsStuck, numbered
from bench.raw import RawPods
from bench.results import QUICK, RAW_THREADS, Measured, Plan, sections
from podling.cli import process
from podling.cli import settings as cluster_settings
from podling.runtime.native.image import ImageStore

SETTLE_SECONDS = 0.1
"""Between two measurements, for what the one before does afterwards (events, clean-up)."""


def say(text: str) -> None:
    print(f"[{time.monotonic() - BEGIN:5.1f} s] {text}", flush=True)


def measure(plan: Plan, directory: Path, oci_runtime: str) -> Measured:
    measured = Measured()
    image = images.build("busybox")
    registries_conf = directory / "registries.conf"
    registries_conf.write_text("")
    for number in range(plan.starts):
        say(f"podling up, in a fresh directory and again after down ({number + 1} of {plan.starts})")
        cluster = Cluster(registries_conf, oci_runtime)
        try:
            measured.up_fresh.append(timed(cluster.up))
            cluster.down()
            measured.up_again.append(timed(cluster.up))
            if number == plan.starts - 1:
                cluster.podling(
                    "image", "load", str(image.layout), "--name", pods.IMAGE, "--data-dir", str(cluster.data_dir)
                )
                uvloop.run(measure_pods(plan, measured, cluster, directory, oci_runtime, image))
        finally:
            cluster.reset()
    return measured


async def measure_pods(
    plan: Plan, measured: Measured, cluster: Cluster, directory: Path, oci_runtime: str, image: images.BuiltImage
) -> None:
    with contextlib.ExitStack() as stack:
        raw = await raw_pods(directory / "raw", cluster, oci_runtime)
        stack.callback(raw.close)
        try:
            peer: Podman | None = stack.enter_context(podman(directory / "podman", oci_runtime, image.source))
            assert peer is not None
            measured.podman = f"{peer.version}, network: {peer.network or 'none'}"
        except PodmanFailed as error:
            peer, measured.podman = None, f"not measured: {error}"
        say(f"podman {measured.podman}")
        async with pods.connected(cluster.kubeconfig.read_text()) as bench:
            await bench.start("first")
            await bench.stop("first")
            say(f"Pods one by one, taking turns ({plan.rounds} rounds)")
            await one_by_one(plan, measured, bench, raw, peer)
            say(f"bursts of {plan.burst} Pods, taking turns ({plan.bursts} rounds)")
            await bursts(plan, measured, bench, raw, cluster)
            say(f"idle with {plan.idle_pods} Pods for {plan.idle_seconds:.0f} s")
            await idle(plan, measured, bench, cluster)


async def one_by_one(plan: Plan, measured: Measured, bench: PodBench, raw: RawPods, peer: Podman | None) -> None:
    """A Pod is stopped a round after its start, so that its shell has certainly come to its trap."""

    async def start_raw(number: int) -> None:
        measured.raw_start.append(await asyncio.to_thread(timed, raw.start, f"one-{number}"))
        await asyncio.to_thread(raw.remove, f"one-{number}")

    async def start_podling(number: int) -> None:
        measured.podling_start.append(await bench.start(f"one-{number}"))

    async def start_podman(number: int) -> None:
        if peer is not None:
            measured.podman_start.append(await asyncio.to_thread(peer.play, f"one-{number}"))

    candidates = [start_raw, start_podling, start_podman]
    for number in range(plan.rounds + 1):
        if number < plan.rounds:
            for candidate in candidates:
                await asyncio.sleep(SETTLE_SECONDS)
                await candidate(number)
            candidates.append(candidates.pop(0))
        if number > 0:
            await asyncio.sleep(SETTLE_SECONDS)
            measured.podling_stop.append(await bench.stop(f"one-{number - 1}"))
            if peer is not None:
                await asyncio.sleep(SETTLE_SECONDS)
                measured.podman_stop.append(await asyncio.to_thread(peer.down, f"one-{number - 1}"))


async def bursts(plan: Plan, measured: Measured, bench: PodBench, raw: RawPods, cluster: Cluster) -> None:
    def raw_burst(pool: ThreadPoolExecutor, names: Sequence[str]) -> float:
        elapsed = timed(lambda: list(pool.map(raw.start, names)))
        list(pool.map(raw.remove, names))
        return elapsed

    with ThreadPoolExecutor(RAW_THREADS) as pool:
        for number in range(plan.bursts):
            names = numbered(f"burst-{number}", plan.burst)
            measured.raw_burst.append(await asyncio.to_thread(raw_burst, pool, names))
            await asyncio.sleep(SETTLE_SECONDS)
            measured.podling_burst.append(await bench.start(*names))
            await asyncio.sleep(1)
            if number == plan.bursts - 1:
                measured.memory = {name: usage.memory(pid) for name, pid in processes(cluster).items()}
            measured.podling_burst_stop.append(await bench.stop(*names))
            await asyncio.sleep(1)


async def idle(plan: Plan, measured: Measured, bench: PodBench, cluster: Cluster) -> None:
    names = numbered("idle", plan.idle_pods)
    await bench.start(*names)
    await asyncio.sleep(3)
    running = processes(cluster)
    begin = time.perf_counter()
    before = {name: (usage.cpu_seconds(pid), usage.switches(pid)) for name, pid in running.items()}
    await asyncio.sleep(plan.idle_seconds)
    for name, pid in running.items():
        elapsed = time.perf_counter() - begin
        cpu, switches = before[name]
        measured.idle_cpu[name] = (usage.cpu_seconds(pid) - cpu) / elapsed
        measured.idle_wakeups[name] = (usage.switches(pid) - switches) / elapsed
    await bench.stop(*names)


def timed(action: Callable[..., object], *arguments: object) -> float:
    begin = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - begin


def processes(cluster: Cluster) -> dict[str, int]:
    settings = cluster_settings.load(cluster.data_dir)
    assert settings is not None
    return {name: process.find(settings, name) for name in process.NAMES}


async def raw_pods(directory: Path, cluster: Cluster, oci_runtime: str) -> RawPods:
    """Pods out of the very directories of the image that Podling runs, on the same file systems."""
    store = ImageStore(cluster.data_dir / "images", cluster.run_dir / "images", cluster.registries_conf)
    image = await store.image_status(pods.IMAGE)
    assert image is not None
    run_directory = cluster.run_dir / "bench"
    for path in (directory, run_directory):
        os.mkdir(path)
    return RawPods(
        directory,
        await store.layers(image.id),
        pods.COMMAND,
        oci_runtime,
        store.config(image.id),
        run_directory=run_directory,
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds: half a minute, and less exact")
    parser.add_argument("--json", type=Path, metavar="FILE", help="writes the table and every sample")
    parser.add_argument(
        "--oci-runtime", default="crun", choices=["crun", "runc"], help="for all candidates (%(default)s)"
    )
    args = parser.parse_args(argv)
    if os.geteuid() != 0:
        parser.error("containers need root: try with sudo")
    plan = QUICK if args.quick else Plan()
    # Not /tmp: that is often a tmpfs, which overlayfs and fsync treat differently from a disk.
    directory = Path(tempfile.mkdtemp(prefix="podling-bench-", dir="/var/tmp"))
    try:
        measured = measure(plan, directory, args.oci_runtime)
        say(f"pulls of a large image ({plan.pulls} rounds)")
        pulls = image_pulls.section(directory / "pulls", plan.pulls)
    except ExceptionGroup as group:
        stuck = group.subgroup(PodsStuck)
        if stuck is None:
            raise
        print(f"bench: {stuck.exceptions[0]}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    table = [*sections(plan, measured), pulls]
    machine = f"{os.cpu_count()} CPUs, Linux {platform.release()}, Python {platform.python_version()}"
    print(f"\n{machine}, {args.oci_runtime}; podman {measured.podman}\n\n{report.table(table)}\n")
    missed = report.missed(table)
    print(f"missed: {', '.join(missed)}" if missed else "every target is met")
    if args.json:
        result = {"machine": machine, "plan": plan, "table": report.plain(table), "samples": measured}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)))
    return 0


BEGIN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
