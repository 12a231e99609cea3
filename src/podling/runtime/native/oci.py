"""The OCI runtime program: crun, runc, or another with their command line.

All functions that run it block for its time, some 5 ms: call them in a worker thread.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import shutil
import tempfile
import zlib
from pathlib import Path
from typing import Any

import msgspec

from podling.kit import file_error
from podling.runtime.native import spawn, syscalls
from podling.runtime.native.state import Layout
from podling.runtime.protocol import CRIError

log = logging.getLogger(__name__)

CANDIDATES = ("crun", "runc")
"""Tried in this order where none is named."""

_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class OCIRuntime:
    """Runs `<path> --root <root> <command>`; `root` holds the program's own state."""

    def __init__(self, path: str, root: Path, name: str) -> None:
        self.path = path
        self.name = name
        self.root = root

    @property
    def global_arguments(self) -> list[str]:
        return ["--root", str(self.root)]

    def command(self, *arguments: str) -> spawn.Completed:
        return spawn.run([self.path, *self.global_arguments, *arguments])

    def start(self, container_id: str) -> None:
        """Lets a created container's process begin. Raises CRIError with the program's own message."""
        done = self.command("start", container_id)
        if done.exit_code != 0:
            raise CRIError("StartError", explain(done.stderr))

    def delete(self, container_id: str) -> None:
        """Kills what is left, removes control groups and the program's state. Idempotent."""
        done = self.command("delete", "--force", container_id)
        if done.exit_code != 0 and (self.root / container_id).exists():
            log.info("%s delete %s: %s", self.name, container_id, explain(done.stderr))
            self.forget(container_id)

    def forget(self, container_id: str) -> None:
        """Removes the program's state of a container that it made only in part, or that the last boot ended."""
        shutil.rmtree(self.root / container_id, ignore_errors=True)

    def state(self, container_id: str) -> str:
        """creating, created, running, stopped, or "" for a container that it does not know."""
        done = self.command("state", container_id)
        if done.exit_code != 0:
            return ""
        return str(msgspec.json.decode(done.stdout)["status"])

    def probe(self) -> str:
        """Why this program cannot run containers on this machine; "" when it can.

        Runs one whose executable is missing: when the program gets as far as telling that, all before works.
        """
        with tempfile.TemporaryDirectory(dir=self.root, prefix="probe-") as directory:
            rootfs = Path(directory) / "rootfs"
            for name in ("proc", "dev", "sys"):
                (rootfs / name).mkdir(parents=True)
            (Path(directory) / "config.json").write_bytes(msgspec.json.encode(_probe_spec()))
            name = "run-" + os.path.basename(directory)
            try:
                done = self.command("run", "--bundle", directory, name)
            except OSError as error:
                return file_error.reason(error)
            message = explain(done.stderr)
            # It must be that executable: a program that does not find itself, or the root file system, says so as well.
            missing = re.search(rf"{_PROBE}\b.*(not found|no such file)", message, re.IGNORECASE | re.DOTALL)
            return "" if missing else message


_PROBE = "/podling-probe"


def _probe_spec() -> dict[str, Any]:
    return {
        "ociVersion": "1.0.2",
        "process": {"args": [_PROBE], "cwd": "/", "user": {"uid": 0, "gid": 0}},
        "root": {"path": "rootfs", "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": f"/podling-probe-{os.getpid()}", "namespaces": [{"type": "mount"}, {"type": "pid"}]},
    }


def find(name: str) -> str:
    """The absolute path of a program. Raises CRIError."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:{_SEARCH_PATH}")
    if path is None:
        raise CRIError("RuntimeNotFound", f"{name} is not installed")
    return os.path.abspath(path)


def load(name: str, layout: Layout) -> OCIRuntime:
    """The program of that name or path. Raises CRIError.

    It is run from a read-only mount of its directory. crun and runc guard themselves against being overwritten by a
    container (CVE-2019-5736): they copy themselves into memory and execute the copy, at each start, unless they lie on a
    read-only mount. That saves a third of the time of a short run. runc 1.2 and newer execute themselves from an overlay
    of their directory: so this is the whole directory, for overlays do not show what is mounted on a single file in it.
    """
    path = find(name)
    directory, program = os.path.split(os.path.realpath(path))
    target = layout.programs / f"{zlib.crc32(path.encode()):08x}-{program}"
    try:
        while syscalls.umount(target):  # of an earlier agent
            pass
        target.mkdir(exist_ok=True)
        syscalls.bind(directory, target)
        syscalls.mount("none", target, "", syscalls.MS_BIND | syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
    except OSError as error:
        log.info("cannot mount %s read-only, %s starts slower: %s", directory, path, error)
        return OCIRuntime(path, layout.oci, os.path.basename(path))
    return OCIRuntime(str(target / program), layout.oci, os.path.basename(path))


def unload(layout: Layout) -> None:
    """Takes down what load mounted. Idempotent."""
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(layout.programs):
            while syscalls.umount(layout.programs / name):
                pass
            target = layout.programs / name
            target.rmdir() if target.is_dir() else target.unlink()  # a file: of an agent that mounted the program alone


def select(name: str, layout: Layout) -> OCIRuntime:
    """The program of that name or path; for "" the first candidate that works here. Raises CRIError."""
    failures = []
    for candidate in [name] if name else CANDIDATES:
        try:
            runtime = load(candidate, layout)
        except CRIError as error:
            failures.append(error.message)
            continue
        failure = runtime.probe()
        if not failure:
            return runtime
        failures.append(f"{candidate} does not work here: {failure}")
        log.warning("%s", failures[-1])
    raise CRIError("RuntimeNotReady", "; ".join(failures))


def explain(stderr: bytes | str) -> str:
    """The message of crun or runc without log decoration."""
    text = stderr.decode(errors="replace") if isinstance(stderr, bytes) else stderr
    messages = []
    for line in text.strip().splitlines():
        logged = re.search(r'\bmsg="((?:[^"\\]|\\.)*)"', line)
        if logged and "level=" in line:  # runc
            line = logged[1].replace('\\"', '"').replace("\\\\", "\\")
            if "level=warning" in text and "level=error" in text and "level=warning" in line:
                continue
        line = re.sub(r"^\d{4}-\d\d-\d\dT[\d:.]+Z?:? (?:: )?", "", line)  # crun
        if line and line not in messages:
            messages.append(line)
    return "\n".join(messages) or "the OCI runtime failed without a message"


def create_error(message: str) -> str:
    """What a user reads when a container could not be made, in the words known from containerd and runc."""
    return (
        "failed to create containerd task: failed to create shim task: OCI runtime create failed: "
        f"unable to start container process: {_missing(message)}"
    )


def exec_error(message: str) -> str:
    """The same for a command that could not be executed in a container."""
    return f"failed to exec in container: OCI runtime exec failed: exec failed: {_missing(message)}"


def _missing(message: str) -> str:
    """Return crun's message for a command that cannot be executed in the words of runc, which people search for."""
    if refused := re.search(r"the path `([^`]*)` exists but it is not executable", message):  # newer crun
        return f'exec: "{refused[1]}": permission denied'
    missing = re.search(
        r"executable file `([^`]*)` not found(?: in \$PATH)?|exec(?:vp)?:? `([^`]*)`: No such file", message
    )
    if missing is None:
        where = r"^runc \w+ failed: unable to start container process: (?:error during container init: )?"
        return re.sub(where, "", message)
    name = missing[1] or missing[2]
    if "/" in name:
        return f'exec: "{name}": stat {name}: no such file or directory'
    return f'exec: "{name}": executable file not found in $PATH'
