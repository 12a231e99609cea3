"""Pulling a 200 MB image of 8 layers from a registry on loopback: Podling, `podman pull` and `ctr image pull` take turns.

Each candidate has a storage of its own, on the same disk, a fresh one for each first pull (nothing is deleted before the
end: ext4 is slow at making files for seconds after others were deleted); containerd is started for this and ended
afterwards. "Unchanged" is what a Pod with imagePullPolicy Always costs once the image is there. Run alone with
`python -m bench.images`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tools.images import BuiltImage
from tools.oci_layout import ImageSpec, Layer, LayoutWriter
from tools.registry import Registry

from bench.report import Row, Samples, Section, Target, duration, spread, table
from podling.runtime.native.image import ImageStore

LAYERS = 8
FILES = 250
FILE_BYTES = 100_000
"""LAYERS * FILES * FILE_BYTES is 200 MB; half of it is random, so that the layers weigh 100 MB compressed."""
NAME = "docker.io/bench/large:1"
POD_PULLS = 10
_WAIT_SECONDS = 20.0


class Peer:
    """A candidate: `clear` gives it an empty storage, `pull` pulls NAME and returns when it is unpacked."""

    def __init__(self, name: str, pull: Callable[[], None], clear: Callable[[], None]) -> None:
        self.name = name
        self.pull = pull
        self.clear = clear
        self.first: list[float] = []
        self.unchanged: list[float] = []


def build(directory: Path) -> BuiltImage:
    """Half a minute of a processor."""
    layers = []
    for number in range(LAYERS):
        layer, noise = Layer(), random.Random(number)
        for file in range(FILES):
            half = noise.randbytes(FILE_BYTES // 2)
            layer.file(f"data/{number}/{file // 50}/{file}", half + bytes(FILE_BYTES - len(half)))
        layers.append(layer)
    return BuiltImage("large", directory, LayoutWriter(directory).write(ImageSpec(layers, {"Cmd": ["true"]})))


def _run(*argv: str | Path, env: dict[str, str] | None = None) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env={**os.environ, **(env or {})}
    )
    if done.returncode:
        raise RuntimeError(f"{argv[0]}: {done.stderr.strip() or done.stdout.strip()}")


@contextmanager
def _podling(directory: Path, registry: Registry) -> Iterator[Peer]:
    """As the agent does it, in this process."""
    loop = asyncio.Runner()
    stores: list[ImageStore] = []

    def close() -> None:
        while stores:
            loop.run(stores.pop().close())

    def clear() -> None:
        close()
        fresh = _fresh(directory)
        stores.append(ImageStore(fresh / "images", fresh / "run", registry.registries_conf))
        loop.run(stores[0].open())

    def pull() -> None:
        loop.run(stores[0].pull_image(NAME))

    try:
        yield Peer("podling", pull, clear)
    finally:
        close()
        loop.close()


@contextmanager
def _podman(directory: Path, registry: Registry) -> Iterator[Peer]:
    argv: list[str] = []
    # podman refuses a run root whose path is longer than 50 characters.
    run_roots = Path(tempfile.mkdtemp(prefix="pbi-"))
    environment = {"_CONTAINERS_ROOTLESS_UID": "1"}

    def clear() -> None:
        fresh, run_root = _fresh(directory), _fresh(run_roots)
        conf = fresh / "storage.conf"
        conf.write_text(f'[storage]\ndriver = "overlay"\ngraphroot = "{fresh}/graph"\nrunroot = "{run_root}"\n')
        environment.update(CONTAINERS_STORAGE_CONF=str(conf), XDG_DATA_HOME=str(fresh))
        argv[:] = ["podman", "--root", f"{fresh}/graph", "--runroot", str(run_root), "--tmpdir", f"{fresh}/tmp"]
        argv.extend(["--storage-driver", "overlay", "pull", "--quiet", "--tls-verify=false", registry.location(NAME)])

    try:
        yield Peer("podman pull", lambda: _run(*argv, env=environment), clear)
    finally:
        _unmount_below(directory)
        _unmount_below(run_roots)
        shutil.rmtree(run_roots, ignore_errors=True)


@contextmanager
def _containerd(directory: Path, registry: Registry) -> Iterator[Peer]:
    processes: list[subprocess.Popen[bytes]] = []
    ctr: list[str] = []

    def start() -> None:
        fresh = _fresh(directory)
        config, address = fresh / "config.toml", fresh / "containerd.sock"
        config.write_text(
            f'version = 2\nroot = "{fresh}/root"\nstate = "{fresh}/state"\n'
            'disabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
            f'[grpc]\naddress = "{address}"\n[plugins."io.containerd.internal.v1.opt"]\npath = "{fresh}/opt"\n'
        )
        with open(fresh / "log", "wb") as log:
            argv = ["setpriv", "--pdeathsig", "KILL", "--", "containerd", "--config", str(config)]
            processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        ctr[:] = ["ctr", "--address", str(address)]
        deadline = time.monotonic() + _WAIT_SECONDS
        while subprocess.run([*ctr, "version"], capture_output=True, check=False).returncode:
            if time.monotonic() > deadline:
                raise RuntimeError(f"containerd does not start: {(fresh / 'log').read_text()}")
            time.sleep(0.05)

    def stop() -> None:
        while processes:
            process = processes.pop()
            process.terminate()
            process.wait(_WAIT_SECONDS)

    def clear() -> None:
        stop()
        start()

    def pull() -> None:
        _run(*ctr, "image", "pull", "--plain-http", registry.location(NAME))

    try:
        yield Peer("ctr image pull", pull, clear)
    finally:
        stop()
        _unmount_below(directory)


def _fresh(directory: Path) -> Path:
    directory.mkdir(exist_ok=True)
    return Path(tempfile.mkdtemp(dir=directory))


def _unmount_below(directory: Path) -> None:
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for target in reversed([path for path in mounts if path.startswith(f"{directory}/")]):
        subprocess.run(["umount", target], check=False)


def measure(directory: Path, rounds: int) -> tuple[list[Peer], float]:
    """The peers with their samples, and the seconds until POD_PULLS pulls started together had ended."""
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(directory / "registry"))
        registry.push(build(directory / "layout"), NAME)
        peers = [stack.enter_context(_podling(directory / "podling", registry))]
        if shutil.which("podman"):
            peers.append(stack.enter_context(_podman(directory / "podman", registry)))
        if shutil.which("containerd") and shutil.which("ctr"):
            peers.append(stack.enter_context(_containerd(directory / "containerd", registry)))
        for _ in range(rounds):
            for peer in peers:
                peer.clear()
                # What others have left to write does not count, nor does what the peer itself leaves for later.
                os.sync()
                peer.first.append(_timed(peer.pull))
                peer.unchanged.append(_timed(peer.pull))
            peers.append(peers.pop(0))
        together = asyncio.run(_together(directory / "together", registry))
    return sorted(peers, key=lambda peer: peer.name != "podling"), together


async def _together(directory: Path, registry: Registry) -> float:
    store = ImageStore(directory / "images", directory / "run", registry.registries_conf)
    await store.open()
    before = len(registry.requests())
    begin = time.perf_counter()
    await asyncio.gather(*(store.pull_image(NAME) for _ in range(POD_PULLS)))
    elapsed = time.perf_counter() - begin
    blobs = [request for request in registry.requests()[before:] if "/blobs/" in request]
    if len(blobs) != LAYERS + 1:
        raise RuntimeError(f"{POD_PULLS} pulls fetched {len(blobs)} blobs of an image that has {LAYERS + 1}")
    await store.close()
    return elapsed


def _timed(action: Callable[[], None]) -> float:
    begin = time.perf_counter()
    action()
    return time.perf_counter() - begin


def rows(directory: Path, rounds: int = 3) -> list[Row]:
    """For the table of `make bench`. Works below `directory`, which should be on a disk."""
    peers, together = measure(directory, rounds)
    found: list[Row] = []
    for what, samples in (
        ("first time", [Samples(tuple(peer.first)) for peer in peers]),
        ("unchanged", [Samples(tuple(peer.unchanged)) for peer in peers]),
    ):
        own, *others = samples
        best = min((other.median for other in others), default=0.0)
        compared = ", ".join(
            f"{peer.name} {duration(other.median)}" for peer, other in zip(peers[1:], others, strict=True)
        )
        target = Target(best, f"<= {duration(best)}") if others else None
        found.append(Row(f"pull, {what}", duration(own.median), spread(own), compared, target, own.median))
    found.append(Row(f"{POD_PULLS} pulls at once, one download", duration(together), "", "", None, together))
    return found


def section(directory: Path, rounds: int = 3) -> Section:
    return Section(f"an image of {LAYERS * FILES * FILE_BYTES // 10**6} MB in {LAYERS} layers", rows(directory, rounds))


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.images", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(argv)
    # Not /tmp: that is often a tmpfs.
    directory = Path(tempfile.mkdtemp(prefix="podling-bench-images-", dir="/var/tmp"))
    try:
        print(table([section(directory, args.rounds)]))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
