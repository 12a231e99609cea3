"""Programs that Podling starts with input: what they see as standard input, and what is left of them."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import uvloop

from podling.kit import program
from podling.kubelet.image_credential_provider import CredentialProvider, Provider
from podling.network import nftables

LOOPS = pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
Loop = Callable[[], asyncio.AbstractEventLoop]

# As nft 1.0.9, which opens its input by name: a socket cannot be opened, and it wants a regular file.
OPENS_STDIN = f"""#!{sys.executable} -I
import os, stat, sys
try:
    with open("/dev/stdin", "rb") as file:
        regular, said = stat.S_ISREG(os.fstat(file.fileno()).st_mode), file.read()
except OSError:
    sys.exit("Not a regular file: /dev/stdin")
if not regular:
    sys.exit("Not a regular file: /dev/stdin")
"""


def on(loop: Loop, work: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await work()

    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(run())


def script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


@LOOPS
def test_a_program_can_open_its_input_by_name(tmp_path: Path, loop: Loop) -> None:
    reader = script(tmp_path / "reader", OPENS_STDIN + "sys.stdout.buffer.write(said)\n")

    async def check() -> None:
        for data in (b"", b"words", b"x" * 3_000_000):
            ended = await program.run(str(reader), input=data)
            assert (ended.code, ended.stdout, ended.stderr) == (0, data, b"")

    on(loop, check)


@LOOPS
def test_nft_gets_a_regular_file(tmp_path: Path, loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "nft", OPENS_STDIN + f"open({str(tmp_path / 'rules')!r}, 'wb').write(said)\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    on(loop, lambda: nftables.apply("table ip t {}\n"))
    assert (tmp_path / "rules").read_text() == "table ip t {}\n"


@LOOPS
def test_a_credential_provider_plugin_gets_a_regular_file(tmp_path: Path, loop: Loop) -> None:
    answer = {
        "kind": "CredentialProviderResponse",
        "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
        "cacheKeyType": "Image",
        "auth": {"reg.io": {"username": "u", "password": "p"}},
    }
    plugin = script(tmp_path / "plugin", OPENS_STDIN + f"print({json.dumps(answer)!r})\n")
    provider = CredentialProvider(Provider(name="plugin", match_images=["reg.io"]), plugin)

    async def check() -> None:
        assert list(await provider.auths("reg.io/app")) == ["reg.io"]

    on(loop, check)


@LOOPS
def test_a_program_dies_with_its_children_when_its_caller_is_cancelled(tmp_path: Path, loop: Loop) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    # Both hold the FIFO open: it ends when the last of them is gone.
    parent = script(tmp_path / "parent", f"#!/bin/sh\nexec 9>{fifo}\necho >&9\nsleep 1000 & wait\n")

    async def check() -> None:
        reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(reading, True)
        running = asyncio.ensure_future(program.run(str(parent)))
        assert await asyncio.to_thread(_read_when_open, reading) == b"\n"
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert await asyncio.to_thread(os.read, reading, 10) == b""
        os.close(reading)

    on(loop, check)


def _read_when_open(fd: int) -> bytes:
    import select

    poll = select.poll()
    poll.register(fd, select.POLLIN)
    assert poll.poll(30_000)
    return os.read(fd, 10)


@LOOPS
def test_a_program_that_is_not_there_says_so(tmp_path: Path, loop: Loop) -> None:
    async def check() -> None:
        with pytest.raises(FileNotFoundError):
            await program.run(str(tmp_path / "nothing"), input=b"words")
        assert not [fd for fd in os.listdir("/proc/self/fd") if _is_memory_file(fd)]

    on(loop, check)


def _is_memory_file(fd: str) -> bool:
    try:
        link = os.readlink(f"/proc/self/fd/{fd}")
        return "memfd:stdin" in link and stat.S_ISREG(os.stat(f"/proc/self/fd/{fd}").st_mode)
    except OSError:
        return False


def test_input_that_cannot_be_kept_leaves_no_descriptor_open() -> None:
    async def run() -> None:
        before = len(os.listdir("/proc/self/fd"))
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(OSError, match="File too large"):
                await program.run("true", input=bytes(100))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(os.listdir("/proc/self/fd")) == before

    asyncio.run(run())
