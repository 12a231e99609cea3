"""The program that unpacks layers: it parses with libarchive what strangers wrote, so it does nothing else.

Each layer is unpacked by a process whose root directory is the layer's: whatever names and links a layer holds, they
lead nowhere else. Whiteouts become overlayfs' own; device nodes are left out, since a container's /dev is the runtime's.

Input: a JSON list of pairs, of an archive's path and the path of its directory. Output: a JSON line for each, with its
index and the diff_id and size of the uncompressed tar, or an error. It imports little, for the sake of its start.
Formats: OCI image-spec, layer.md; whiteouts in the kernel's form, Documentation/filesystems/overlayfs.
"""

from __future__ import annotations

import ctypes
import errno
import hashlib
import json
import os
import resource
import signal
import stat
import sys
from ctypes import byref, c_char_p, c_longlong, c_size_t, c_void_p
from typing import Any

from libarchive import ffi
from libarchive.extract import EXTRACT_OWNER, EXTRACT_PERM, EXTRACT_TIME, EXTRACT_UNLINK, EXTRACT_XATTR

_FILTERS = ("gzip", "zstd")
"""layer.md has no others. A layer in xz may demand 4 GB of memory, one in zstd 128 MiB as libarchive reads it."""
_MEMORY = 1 << 30
"""Bytes that a process which unpacks may use, whatever its layer demands."""
_BLOCK = 1 << 20
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_WHITEOUT_META = b".wh..wh."
_OVERLAY_ATTRIBUTES = b"trusted.overlay."
_OVERLAY_OPAQUE = "trusted.overlay.opaque"
_MAX_PATH = 4096
"""As for a system call; libarchive would make longer ones, step by step."""
_KEPT_FREE = 100
"""One part of so many of the disk's space and inodes stays free."""
_PR_SET_PDEATHSIG = 1


def main() -> int:
    _die_with_parent()
    running: set[int] = set()
    failed = False
    for index, (archive, directory) in enumerate(json.load(sys.stdin)):
        if len(running) >= (os.cpu_count() or 1):
            failed |= _wait(running)
        if failed:
            break
        pid = os.fork()
        if pid == 0:
            os._exit(_unpack(index, archive, directory))
        running.add(pid)
    while running:
        failed |= _wait(running)
    return int(failed)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _wait(running: set[int]) -> bool:
    """Waits for one of the processes; whether it failed."""
    pid, status = os.wait()
    running.discard(pid)
    return status != 0


def _unpack(index: int, archive: str, directory: str) -> int:
    _die_with_parent()
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    result: dict[str, object] = {"index": index}
    try:
        blob = os.open(archive, os.O_RDONLY | os.O_CLOEXEC)
        os.chroot(directory)
        os.chdir("/")
        os.umask(0o022)
        result["diff_id"], result["size"] = _extract(blob)
    except Exception as error:  # whatever it is, who asked must hear of it
        result["error"] = _explain(error)
    os.write(1, json.dumps(result).encode() + b"\n")
    return int("error" in result)


def _explain(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.ENOSPC:
        return "no space left on device"  # as programs in Go say it
    if isinstance(error, OSError):
        return f"{os.fsdecode(error.filename or 'layer')}: {error.strerror}"
    message = str(getattr(error, "msg", None) or error or type(error).__name__)
    return _WORDS.get(message, message)


# The texts of libarchive that people meet most.
_WORDS = {
    "Unrecognized archive format": "it is not a tar, nor one compressed by gzip or zstd (Unrecognized archive format)",
    "Out of memory": "it takes too much memory to unpack (Out of memory)",
    "MemoryError": "it takes too much memory to unpack",
    "Truncated tar archive": "it ends too early (Truncated tar archive)",
}


class LayerError(Exception):
    """The layer is not what a layer can be."""


class _Tar:
    """The uncompressed bytes of a layer, hashed and counted on their way to the reader of the tar format."""

    def __init__(self, blob: int) -> None:
        self._archive = ffi.read_new()
        for name in _FILTERS:
            ffi.get_read_filter_function(name)(self._archive)
        ffi.get_read_format_function("raw")(self._archive)
        ffi.read_open_fd(self._archive, blob, _BLOCK)
        self._ended = ffi.read_next_header(self._archive, byref(c_void_p())) == ffi.ARCHIVE_EOF
        self._buffer = ctypes.create_string_buffer(_BLOCK)
        self._hash = hashlib.sha256()
        self.size = 0
        self.error: Exception | None = None
        """What went wrong in the callback, which cannot raise."""

    def _fill(self) -> int:
        if self._ended:
            return 0
        count: int = ffi.read_data(self._archive, self._buffer, _BLOCK)
        self._ended = count == 0
        self._hash.update(memoryview(self._buffer)[:count])
        self.size += count
        return count

    def read(self, _archive: Any, _data: Any, block: Any) -> int:
        """libarchive's callback: sets *block and returns how many bytes lie there."""
        try:
            count = self._fill()
        except Exception as error:  # must not pass through C
            self.error = error
            return ffi.ARCHIVE_FATAL  # type: ignore[no-any-return]
        block[0] = ctypes.cast(self._buffer, c_void_p)
        return count

    def digest(self) -> str:
        """Of everything, what follows the end of the archive included."""
        while self._fill():
            pass
        return f"sha256:{self._hash.hexdigest()}"


def _require_space() -> None:
    """Others on this disk must be able to go on, whatever a few kilobytes unpack to."""
    disk = os.statvfs("/")
    if disk.f_bavail < disk.f_blocks // _KEPT_FREE or disk.f_favail < disk.f_files // _KEPT_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _extract(blob: int) -> tuple[str, int]:
    """Unpacks into the root directory. Returns digest and length of the uncompressed tar."""
    tar = _Tar(blob)
    read = ffi.READ_CALLBACK(tar.read)
    source, target, entry = ffi.read_new(), ffi.write_disk_new(), ffi.entry_new()
    ffi.get_read_format_function("tar")(source)
    ffi.write_disk_set_options(target, EXTRACT_OWNER | EXTRACT_PERM | EXTRACT_TIME | EXTRACT_UNLINK | EXTRACT_XATTR)
    try:
        ffi.read_open(source, None, ffi.NO_OPEN_CB, read, ffi.NO_CLOSE_CB)
        layer = _Layer(source, target, entry)
        while ffi.read_next_header2(source, entry) != ffi.ARCHIVE_EOF:
            layer.take()
        ffi.write_close(target)  # now directories get their times and modes
    except Exception:
        if tar.error is not None:
            raise tar.error from None
        raise
    return tar.digest(), tar.size


class _Layer:
    """Writes a layer's entries below the root directory, and remembers whether it has hidden anything yet.

    A layer may hide a directory of the layers below and make it again, in either order (layer.md: whiteouts apply to lower
    layers only). overlayfs would show the lower files in it, so such a directory is made opaque.
    """

    def __init__(self, source: Any, target: Any, entry: Any) -> None:
        self._source, self._target, self._entry = source, target, entry
        self._has_whiteouts = False

    def take(self) -> None:
        """Writes the entry whose header was read last. Raises LayerError, OSError, libarchive's errors."""
        source, target, entry = self._source, self._target, self._entry
        path: bytes | None = ffi.entry_pathname(entry)
        if not path:
            raise LayerError("an entry of the layer has no name")
        if len(path) >= _MAX_PATH:
            raise LayerError(f"{os.fsdecode(path[:100])}...: {os.strerror(errno.ENAMETOOLONG)}")
        _require_space()
        kind = stat.S_IFMT(ffi.entry_filetype(entry))
        name = path.rstrip(b"/").rpartition(b"/")[2]
        if name.startswith(_WHITEOUT):
            self._whiteout(path, name)
        elif kind not in (stat.S_IFBLK, stat.S_IFCHR):
            self._show(path if kind == stat.S_IFDIR else path.rpartition(b"/")[0])
            _drop_overlay_attributes(entry)
            ffi.write_header(target, entry)
            if ffi.entry_size(entry):
                block, size, offset = c_void_p(), c_size_t(), c_longlong()
                while ffi.read_data_block(source, byref(block), byref(size), byref(offset)) != ffi.ARCHIVE_EOF:
                    _require_space()
                    ffi.write_data_block(target, block, size, offset)
            ffi.write_finish_entry(target)

    def _show(self, directory: bytes) -> None:
        """Makes an opaque directory of the whiteout that the path leads through or to, if there is one."""
        if not self._has_whiteouts:
            return
        parts = directory.strip(b"/").split(b"/")
        for depth in range(1, len(parts) + 1):
            place = b"/" + b"/".join(parts[:depth])
            try:
                status = os.lstat(place)
            except OSError:  # not there yet: no part below it is
                return
            # Device nodes of the layer's own are left out, so this one is a whiteout.
            if stat.S_ISCHR(status.st_mode):
                os.unlink(place)
                os.mkdir(place, 0o755)
                os.setxattr(place, _OVERLAY_OPAQUE, b"y")
                return

    def _whiteout(self, path: bytes, name: bytes) -> None:
        directory = b"/" + path.rstrip(b"/")[: -len(name)]
        hidden = name.removeprefix(_WHITEOUT)
        if name != _OPAQUE and name.startswith(_WHITEOUT_META):
            return  # what aufs kept for itself
        if hidden in (b"", b".", b".."):
            raise LayerError(f"{os.fsdecode(path)}: the whiteout names no file")
        self._show(directory)
        os.makedirs(directory, 0o755, exist_ok=True)
        if name == _OPAQUE:
            os.setxattr(directory, _OVERLAY_OPAQUE, b"y")
            return
        self._has_whiteouts = True
        try:
            os.mknod(directory + hidden, stat.S_IFCHR, os.makedev(0, 0))
        except FileExistsError:
            # What the layer itself has there stays.
            if stat.S_ISDIR(os.lstat(directory + hidden).st_mode):
                os.setxattr(directory + hidden, _OVERLAY_OPAQUE, b"y")


def _drop_overlay_attributes(entry: Any) -> None:
    """A layer must not speak to overlayfs itself: such attributes lead from one directory to another."""
    library, this = ffi.libarchive, c_void_p(entry)
    if not library.archive_entry_xattr_count(this):
        return
    kept: list[tuple[bytes, bytes]] = []
    name, value, size = c_char_p(), c_void_p(), c_size_t()
    library.archive_entry_xattr_reset(this)
    while library.archive_entry_xattr_next(this, byref(name), byref(value), byref(size)) == ffi.ARCHIVE_OK:
        if name.value is not None and not name.value.startswith(_OVERLAY_ATTRIBUTES):
            kept.append((name.value, ctypes.string_at(value, size.value) if size.value else b""))
    library.archive_entry_xattr_clear(this)
    for key, content in kept:
        library.archive_entry_xattr_add_entry(this, key, content, c_size_t(len(content)))


if __name__ == "__main__":
    sys.exit(main())
