"""What is on a machine that Podling could leave or change there, and what differs between two looks at it.

    python3 tools/machine_state.py save FILE
    python3 tools/machine_state.py compare FILE     # prints what was left or changed since, and fails if anything was

`tools/fresh.sh` looks at its machines from outside (`--root /proc/PID/root`, in the machine's network namespace), the test
suite at the machine that it runs on. There a `Scope` limits files and processes to those that tests can have made, for others
may work on that machine, too. Needs nothing but Python itself, `ip` and `nft`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

State = dict[str, dict[str, str]]
"""For each kind of thing, the name of every one, and what must not change about it."""


@dataclass(frozen=True)
class Scope:
    places: tuple[str, ...] = ("/", "/dev/shm")
    """Directories whose files count."""
    words: tuple[str, ...] = ()
    """One of these is in the path of a file and in the command line of a process that counts. Empty: all count."""

    def concerns(self, text: str) -> bool:
        return not self.words or any(word in text for word in self.words)


EVERYTHING = Scope()

CACHES = (
    "/var/cache/podling",  # images that tests and the demo build, root file systems and disks of tools/
    "/root/.cache",
    "/home/*/.cache",  # pip's
    "/home/*/podling",  # the checkouts of fresh machines: .venv and the caches of the test tools
    "/root/podling",
)
"""Documented caches."""

PACKAGES = (
    "/etc/alternatives",
    "/etc/apt",
    "/*.usr-is-merged",
    "/etc/inputrc",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/etc/networks",
    "/etc/python3",
    "/etc/systemd",
    "/etc/timezone",
    "/usr",
    "/var/cache/*",
    "/var/lib/apt",
    "/var/lib/dpkg",
    "/var/lib/python",
    "/var/lib/systemd",
    "/var/log/alternatives.log",
    "/var/log/apt",
    "/var/log/dpkg.log",
)
"""What package managers and the scripts of packages write, besides the files that dpkg lists."""

_OUTSIDE = ("/proc", "/sys", "/dev", *CACHES, *PACKAGES, os.getcwd())

# The kernel changes these by itself.
_RESTLESS = re.compile(
    r"kernel/(random/|ns_last_pid|pty/nr|perf_|sched_domain|tainted)|fs/(inode|dentry|file-nr|aio-nr|quota|binfmt_misc)"
    r"|net/netfilter/nf_conntrack_(count|buckets)|net/ipv[46]/route/|vm/stat_refresh"
    r"|net/ipv[46]/(conf|neigh)/(?!all/|default/)|kernel/core_pipe_limit_now"
)


def look(root: Path = Path("/"), scope: Scope = EVERYTHING) -> State:
    """Return the state of the machine whose root directory is `root`."""
    return {
        "sysctl": dict(_sysctls(root / "proc/sys")),
        "mount": dict(_mounts(root)),
        "link": {line.split(": ")[1].split("@")[0]: "" for line in _lines("ip", "-o", "link")},
        "routing rule": {line.split(":\t", 1)[1].strip(): "" for line in _lines("ip", "-o", "rule")},
        "nftables": dict.fromkeys(_lines("nft", "list", "tables"), ""),
        "cgroup": {f"/{os.path.relpath(d, root)}": "" for d, _, _ in os.walk(root / "sys/fs/cgroup")},
        "process": dict(_processes(root / "proc", scope)),
        "file": dict(_files(root, scope)),
    }


def differences(before: State, after: State) -> list[str]:
    """Return one line for each thing that was left or changed; of files, only the topmost that is new."""
    found = []
    for kind, things in after.items():
        known = before[kind]
        new: set[str] = set()
        for name, value in things.items():
            if name not in known:
                if kind == "sysctl":
                    continue  # comes with a link or a kernel module
                if kind == "file" and os.path.dirname(name) in new:
                    new.add(name)
                    continue
                new.add(name)
                found.append(f"{kind} {name} was left")
            elif value != known[name]:
                found.append(f"{kind} {name} changed" + (f" from {known[name]} to {value}" if kind == "sysctl" else ""))
        if kind in ("sysctl", "mount", "link", "nftables"):
            found += [f"{kind} {name} is gone" for name in known if name not in things]
    return found


def left_since(before: State, root: Path = Path("/"), scope: Scope = EVERYTHING, seconds: float = 10.0) -> list[str]:
    """Return the differences that stay: the kernel may take that long to remove what was given up."""
    deadline = time.monotonic() + seconds
    while (left := differences(before, look(root, scope))) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _lines(*argv: str) -> list[str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, check=True)
    except FileNotFoundError:
        return []  # what makes such things was not installed yet
    return done.stdout.splitlines()


def _sysctls(top: Path) -> Iterator[tuple[str, str]]:
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            key = os.path.relpath(path, top)
            if _RESTLESS.search(key):
                continue
            try:
                with open(path, errors="replace") as file:
                    yield key, file.read().strip()
            except OSError:
                continue  # write-only, or its link went meanwhile


def _mounts(root: Path) -> Iterator[tuple[str, str]]:
    # In a machine that is looked at from outside, this process has no place.
    process = "self" if root == Path("/") else "1"
    for line in (root / f"proc/{process}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        yield f"{before.split()[4]} ({after.split()[0]})", ""


def _processes(proc: Path, scope: Scope) -> Iterator[tuple[str, str]]:
    own = str(os.getpid())
    for directory in proc.iterdir():
        if not directory.name.isdigit() or (proc == Path("/proc") and directory.name == own):
            continue
        try:
            command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            state, _, *fields = (directory / "stat").read_text().rpartition(") ")[2].split()
        except OSError:
            continue
        # Threads of the kernel have no command line, and neither have processes that ended.
        if command and state != "Z" and scope.concerns(command):
            yield f"{directory.name} (started at {fields[17]}): {command}", ""


def _files(root: Path, scope: Scope) -> Iterator[tuple[str, str]]:
    """Every file that is neither a package's nor in a cache; those in /etc with their time of change."""
    packaged = _packaged(root)
    outside = re.compile("|".join(re.escape(path).replace(r"\*", "[^/]*") for path in _OUTSIDE))
    for place in scope.places:
        for directory, directories, files in os.walk(root / place.lstrip("/")):
            inside = "" if directory == str(root) else f"/{os.path.relpath(directory, root)}"
            directories[:] = sorted(name for name in directories if not outside.fullmatch(f"{inside}/{name}"))
            for name in sorted([*directories, *files]):
                path = f"{inside}/{name}"
                if path in packaged or outside.fullmatch(path) or not scope.concerns(path):
                    continue
                try:
                    status = os.lstat(os.path.join(directory, name))
                except OSError:
                    continue
                yield path, str(status.st_mtime_ns) if path.startswith("/etc/") and name in files else ""


def _packaged(root: Path) -> set[str]:
    found: set[str] = set()
    for pattern in ("*.list", "*.conffiles"):
        for path in (root / "var/lib/dpkg/info").glob(pattern):
            found.update(path.read_text(errors="replace").splitlines())
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", type=Path, default=Path("/"))
    parser.add_argument("action", choices=["save", "compare"])
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    if args.action == "save":
        args.file.write_text(json.dumps(look(args.root)))
        return 0
    left = left_since(json.loads(args.file.read_text()), args.root)
    print("\n".join(f"machine: {line}" for line in left) or "machine: nothing left but packages and caches")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
