"""Layers unpacked as containerd and Docker unpack them, by the program that the node uses."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import io
import lzma
import os
import re
import stat
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.raw_image import member, tar

from podling.runtime.native import image_unpack, rootfs, syscalls
from podling.runtime.native.image_unpack import Unpacked, UnpackError, unpack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

DIRECTORY: dict[str, Any] = {"type": tarfile.DIRTYPE, "mode": 0o755}


def unpacked(directory: Path, *layers: bytes) -> list[Path]:
    """Directories with the layers, bottom first."""
    jobs = []
    for number, content in enumerate(layers):
        (directory / f"blob{number}").write_bytes(content)
        (directory / f"layer{number}").mkdir(mode=0o755)
        jobs.append((directory / f"blob{number}", directory / f"layer{number}"))
    results = asyncio.run(unpack(jobs))
    assert len(results) == len(layers)
    return [place for _, place in jobs]


def merged(directory: Path, *layers: bytes) -> dict[str, bytes]:
    """The files that a container sees."""
    places = unpacked(directory, *layers)
    target = directory / "merged"
    rootfs.mount_readonly(target, places[::-1], directory / "empty")
    try:
        return {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    finally:
        rootfs.unmount(target)


def zstd(data: bytes) -> bytes:
    return subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstd])
def test_digest_and_size_are_those_of_the_uncompressed_tar(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    content = tar(member("file", b"x" * 3_000_000))
    (tmp_path / "blob").write_bytes(pack(content))
    (tmp_path / "layer").mkdir()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert asyncio.run(unpack([(tmp_path / "blob", tmp_path / "layer")])) == [Unpacked(digest, len(content))]
    assert (tmp_path / "layer" / "file").read_bytes() == b"x" * 3_000_000


def test_what_follows_the_archives_end_counts_for_the_digest(tmp_path: Path) -> None:
    content = tar(member("file", b"x")) + bytes(20_000) + b"more"
    (tmp_path / "blob").write_bytes(gzip.compress(content[:500]) + gzip.compress(content[500:]))
    (tmp_path / "layer").mkdir()
    (result,) = asyncio.run(unpack([(tmp_path / "blob", tmp_path / "layer")]))
    assert result == Unpacked(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def test_owner_mode_time_and_attributes_are_kept(tmp_path: Path) -> None:
    attributes = {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x04\x00\x00" + "\x00" * 12}
    (layer,) = unpacked(
        tmp_path,
        tar(
            member("d", uid=7, gid=8, mtime=1_000_000_000, **{**DIRECTORY, "mode": 0o1777}),
            member("d/setuid", b"x", uid=1000, gid=2_000_000_000, mode=0o6755, mtime=1_234_567_890),
            member("ping", b"x", mode=0o755, pax_headers=attributes),
            member("link", type=tarfile.SYMTYPE, linkname="/d/setuid", uid=5, mode=0o777),
            pax=True,
        ),
    )
    directory, file = os.lstat(layer / "d"), os.lstat(layer / "d/setuid")
    assert (stat.S_IMODE(directory.st_mode), directory.st_uid, directory.st_gid) == (0o1777, 7, 8)
    assert directory.st_mtime == 1_000_000_000
    assert (stat.S_IMODE(file.st_mode), file.st_uid, file.st_gid) == (0o6755, 1000, 2_000_000_000)
    assert file.st_mtime == 1_234_567_890
    assert os.getxattr(layer / "ping", "security.capability")[:4] == b"\x01\x00\x00\x02"
    assert os.readlink(layer / "link") == "/d/setuid"
    assert os.lstat(layer / "link").st_uid == 5


def test_hard_links_sparse_files_and_long_names_are_kept(tmp_path: Path) -> None:
    long = "/".join(["d" * 200] * 8) + "/file"
    (layer,) = unpacked(
        tmp_path,
        tar(
            member("a", b"content"),
            member("b", type=tarfile.LNKTYPE, linkname="a"),
            member(long, b"deep"),
            member("nämе ☃ \udcff", b"name"),
        ),
    )
    assert os.stat(layer / "a").st_ino == os.stat(layer / "b").st_ino
    assert (layer / long).read_bytes() == b"deep"
    assert sorted(os.listdir(os.fsencode(layer)))[-1] == "nämе ☃ ".encode() + b"\xff"
    sparse = tmp_path / "sparse"
    with sparse.open("wb") as file:
        file.truncate(50_000_000)
        file.seek(40_000_000)
        file.write(b"far out")
    packed = subprocess.run(["tar", "-C", tmp_path, "-cS", "sparse"], capture_output=True, check=True).stdout
    (tmp_path / "next").mkdir()
    (layer,) = unpacked(tmp_path / "next", packed)
    assert (layer / "sparse").stat().st_size == 50_000_000
    assert (layer / "sparse").read_bytes()[40_000_000:40_000_007] == b"far out"


def test_directories_that_the_archive_leaves_out_can_be_entered_by_all(tmp_path: Path) -> None:
    (layer,) = unpacked(tmp_path, tar(member("usr/share/x", b"x")))
    assert stat.S_IMODE((layer / "usr/share").stat().st_mode) == 0o755


def test_later_entry_of_a_name_replaces_the_earlier(tmp_path: Path) -> None:
    (layer,) = unpacked(
        tmp_path,
        tar(
            member("a", b"first"),
            member("a", b"second"),
            member("b", type=tarfile.SYMTYPE, linkname="a"),
            member("b", b"third"),
        ),
    )
    assert [(layer / name).read_bytes() for name in "ab"] == [b"second", b"third"]


def test_file_below_a_symlink_of_the_same_layer_lands_where_it_leads(tmp_path: Path) -> None:
    layer = tar(
        member("usr/lib", **DIRECTORY),
        member("lib", type=tarfile.SYMTYPE, linkname="/usr/lib", mode=0o777),
        member("lib/libc.so", b"x"),
    )
    assert merged(tmp_path, layer)["usr/lib/libc.so"] == b"x"


def test_whiteouts_hide_what_lies_below_and_nothing_else(tmp_path: Path) -> None:
    lower = tar(member("d/gone", b"1"), member("d/kept", b"2"), member("o/old", b"3"), member("tree/x/y", b"4"))
    upper = tar(
        member("d/.wh.gone", b""),
        member("d/new", b"5"),
        member("o/.wh..wh..opq", b""),
        member("o/fresh", b"6"),
        member(".wh.tree", b""),
        member(".wh..wh.aufs", b""),
        member("never/.wh.there", b""),
    )
    assert merged(tmp_path, lower, upper) == {"d/kept": b"2", "d/new": b"5", "o/fresh": b"6"}


@pytest.mark.parametrize("first", ["whiteout", "content"])
@pytest.mark.parametrize("whiteout", [".wh.d", "d/.wh..wh..opq"])
@pytest.mark.parametrize("below", ["d", "d/e/f"])
def test_whiteouts_apply_to_lower_layers_only_whatever_the_order(
    tmp_path: Path, first: str, whiteout: str, below: str
) -> None:
    """layer.md: \"Whiteout files MUST only apply to resources in lower/parent layers\"; a directory that a layer removes
    and makes again holds nothing of before."""
    lower = tar(member("d/old", b"1"), member("d/e/f/old", b"2"), member("d/e/old", b"3"))
    entries = [member(whiteout, b""), member(f"{below}/new", b"4")]
    upper = tar(*(entries if first == "whiteout" else reversed(entries)))
    assert merged(tmp_path, lower, upper) == {f"{below}/new": b"4"}


@pytest.mark.parametrize("first", ["whiteout", "content"])
def test_a_file_beside_its_own_whiteout_is_the_layers(tmp_path: Path, first: str) -> None:
    """\"Files that are present in the same layer as a whiteout file can only be hidden by subsequent layers.\""""
    entries = [member(".wh.file", b""), member("file", b"new")]
    upper = tar(*(entries if first == "whiteout" else reversed(entries)))
    assert merged(tmp_path, tar(member("file", b"old")), upper) == {"file": b"new"}


def test_a_removed_directory_that_a_link_replaces_is_a_link(tmp_path: Path) -> None:
    lower = tar(member("d/old", b"1"), member("other/x", b"2"))
    upper = tar(member(".wh.d", b""), member("d", type=tarfile.SYMTYPE, linkname="other"))
    assert merged(tmp_path, lower, upper) == {"other/x": b"2"}


@pytest.mark.parametrize("kind", ["file", "directory", "symlink"])
def test_an_entry_takes_the_place_of_what_lies_below_unless_both_are_directories(tmp_path: Path, kind: str) -> None:
    """layer.md, "Applying Changesets\"."""
    made = {
        "file": member("a", b"new"),
        "directory": member("a", **DIRECTORY),
        "symlink": member("a", type=tarfile.SYMTYPE, linkname="b/x"),
    }
    for number, lower in enumerate((member("a", b"old"), member("a/old", b"old"), member("a", **DIRECTORY))):
        (tmp_path / str(number)).mkdir()
        found = merged(tmp_path / str(number), tar(lower, member("b/x", b"1")), tar(made[kind]))
        kept = {"a/old": b"old"} if kind == "directory" and number == 1 else {}
        new = {"file": {"a": b"new"}, "directory": {}, "symlink": {"a": b"1"}}[kind]
        assert found == {"b/x": b"1", **kept, **new}


def test_a_directorys_attributes_are_those_of_the_topmost_layer_that_has_it(tmp_path: Path) -> None:
    """\"its attributes are set to those of the changeset\"."""
    lower = tar(member("d", **{**DIRECTORY, "mode": 0o700, "uid": 1}), member("d/file", b"1"))
    upper = tar(member("d", **{**DIRECTORY, "mode": 0o1777, "uid": 5}))
    places = unpacked(tmp_path, lower, upper)
    rootfs.mount_readonly(tmp_path / "merged", places[::-1], tmp_path / "empty")
    try:
        status = (tmp_path / "merged/d").stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o1777, 5)
        assert (tmp_path / "merged/d/file").read_bytes() == b"1"
    finally:
        rootfs.unmount(tmp_path / "merged")


def test_pipes_are_kept(tmp_path: Path) -> None:
    """\"File Types: ... named pipe\"; sockets cannot be in a tar, device nodes are left out (docs/images.md)."""
    (layer,) = unpacked(tmp_path, tar(member("pipe", type=tarfile.FIFOTYPE, mode=0o622)))
    assert stat.S_ISFIFO((layer / "pipe").lstat().st_mode)


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_all_forms_of_tar_are_read(tmp_path: Path, form: int) -> None:
    """\"Layers ... tar archive\": ustar, with the extensions of GNU and PAX."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        info, content = member("x" * 90 + "/" + "y" * 60, b"content", uid=7, mtime=1_000_000_000)
        archive.addfile(info, io.BytesIO(content))
    (layer,) = unpacked(tmp_path, buffer.getvalue())
    assert (layer / ("x" * 90) / ("y" * 60)).read_bytes() == b"content"


def test_layer_cannot_speak_to_overlayfs(tmp_path: Path) -> None:
    secret = tar(member("secret/file", b"x"))
    attributes = {"SCHILY.xattr.trusted.overlay.redirect": "/secret", "SCHILY.xattr.trusted.other": "kept"}
    upper = tar(member("open", pax_headers=attributes, **DIRECTORY), pax=True)
    assert merged(tmp_path, secret, upper) == {"secret/file": b"x"}
    assert os.listxattr(tmp_path / "layer1/open") == ["trusted.other"]


def test_truncated_archive_is_an_error(tmp_path: Path) -> None:
    content = tar(member("file", os.urandom(100_000)))
    for number, broken in enumerate((content[:50_000], gzip.compress(content)[:60_000])):
        (tmp_path / str(number)).mkdir()
        with pytest.raises(UnpackError):
            unpacked(tmp_path / str(number), broken)


def test_one_bad_layer_of_several_is_named(tmp_path: Path) -> None:
    good = tar(member("file", b"x"))
    text = r"^layer blob2: it is not a tar, nor one compressed by gzip or zstd \(Unrecognized archive format\)$"
    with pytest.raises(UnpackError, match=text):
        unpacked(tmp_path, good, good, b"no archive" * 1000, good, good)


@pytest.mark.parametrize("pack", [bz2.compress, lzma.compress])
def test_compressions_that_no_layer_has_are_not_tried(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    """layer.md has gzip and zstd. A layer in xz could demand 4 GB of memory."""
    text = "it is not a tar, nor one compressed by gzip or zstd (Unrecognized archive format)"
    with pytest.raises(UnpackError, match=f"^layer blob0: {re.escape(text)}$"):
        unpacked(tmp_path, pack(tar(member("file", b"x"))))


def test_a_layer_that_demands_gigabytes_of_memory_is_refused(tmp_path: Path) -> None:
    content = tar(member("file", b"x"))
    window = bytes([(31 - 10) << 3])  # of 2 GiB
    block = (len(content) << 3 | 1).to_bytes(3, "little")  # not compressed, the last
    with pytest.raises(UnpackError, match="Frame requires too much memory for decoding"):
        unpacked(tmp_path, b"\x28\xb5\x2f\xfd\x00" + window + block + content)


def test_a_layer_cannot_take_memory_without_end(tmp_path: Path) -> None:
    """A file that is a hole and has a map of millions of parts, 48 bytes of memory each."""
    count = 25_000_000
    parts = f"{count}\n".encode() + b"0\n0\n" * count
    headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "a", "GNU.sparse.realsize": "1"}
    layer = tar(member("a", parts + bytes(-len(parts) % 512), pax_headers=headers), pax=True)
    # Where libarchive wants text, not a list, it ends the process with these words.
    with pytest.raises(UnpackError, match="Out of memory"):
        unpacked(tmp_path, gzip.compress(layer, 1))


def test_a_machine_without_libarchive_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_unpack, "LIBARCHIVE", "libnone.so")
    with pytest.raises(UnpackError) as caught:
        unpacked(tmp_path, tar(member("file", b"x")))
    text = "libnone.so: cannot open shared object file: No such file or directory"
    assert str(caught.value) == f"the program that unpacks layers failed: {text}"


@pytest.mark.parametrize("bomb", ["bytes", "files"])
def test_layer_that_unpacks_to_more_than_the_disk_holds_leaves_room_for_others(tmp_path: Path, bomb: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    syscalls.mount("tmpfs", disk, "tmpfs", 0, "size=200m,nr_inodes=20000")
    try:
        files = [member("bomb", bytes(300 << 20))] if bomb == "bytes" else [member(str(n), b"") for n in range(30_000)]
        with pytest.raises(UnpackError, match="no space left on device"):
            unpacked(disk, gzip.compress(tar(*files), 1))
        (disk / "other").write_bytes(bytes(500_000))
    finally:
        syscalls.umount(disk)


def test_cancelling_ends_all_processes(tmp_path: Path) -> None:
    """The archives are pipes that nobody writes to."""
    jobs = []
    for number in range(3):
        os.mkfifo(tmp_path / f"fifo{number}")
        (tmp_path / f"layer{number}").mkdir()
        jobs.append((tmp_path / f"fifo{number}", tmp_path / f"layer{number}"))
    read_end, write_end = os.pipe()  # open in the processes, and in no other, once ours is closed
    os.set_blocking(read_end, False)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(unpack(jobs, keep_open=(write_end,)))
        # Opening a FIFO to write succeeds when one of them waits at the other end.
        writer = await asyncio.to_thread(os.open, tmp_path / "fifo0", os.O_WRONLY)
        os.close(write_end)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gone = asyncio.Event()
        loop.add_reader(read_end, gone.set)
        async with asyncio.timeout(10):
            await gone.wait()
        loop.remove_reader(read_end)
        os.close(writer)

    try:
        asyncio.run(run())
        assert os.read(read_end, 1) == b""
    finally:
        os.close(read_end)
