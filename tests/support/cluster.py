"""A cluster of its own for end-to-end tests: own ports, directories, bridge and addresses, driven by unmodified kubectl.

Ending it takes it off the machine and fails if anything of it is left.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from typing import Any

from tests.support.https import Https

from podling.cli import settings as cluster_settings
from podling.cli.process import find as find_process

PODLING = Path(sys.executable).parent / "podling"


class CommandFailed(AssertionError):
    """A command that was to succeed did not."""


def run(
    argv: list[str],
    *,
    check: bool = True,
    stdin: str | None = None,
    timeout: float = 120,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Runs a command; raises CommandFailed with all that it printed."""
    done = subprocess.run(
        argv, input=stdin, capture_output=True, text=True, timeout=timeout, env=env, check=False, errors="replace"
    )
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done


def deletions(said: str) -> str:
    """What kubectl says of deletions, in the words of 1.33 and before: later ones add the namespace."""
    return re.sub(r'(" (?:force )?deleted) from \S+ namespace', r"\1", said)


class Claim:
    """One of the machine's 240 numbers, each of which stands for a cluster's names, ports and addresses.

    It is this process's until it is given back, or until the process ends, however it does. What a test run that was
    killed left under the number is taken off the machine first. Raises RuntimeError if there is no number.
    """

    def __init__(self) -> None:
        numbers = random.sample(range(240), 240)
        # What a killed run left has waited long enough to be taken away.
        for number in sorted(numbers, key=lambda number: not self._directory(number).exists()):
            self.number = number
            self._lock = os.open(self._lock_file, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not os.path.samestat(os.fstat(self._lock), os.stat(self._lock_file)):
                    raise FileNotFoundError  # its holder removed it between open and flock, and another one made it again
            except (BlockingIOError, FileNotFoundError):
                os.close(self._lock)
                continue
            if self._clean():
                self.directory.mkdir(mode=0o700)
                return
            self.release()
        raise RuntimeError("no addresses are left for one more cluster")

    @staticmethod
    def _directory(number: int) -> Path:
        return Path(f"/var/tmp/podling-e2e-{number:03}")

    @property
    def directory(self) -> Path:
        return self._directory(self.number)

    @property
    def bridge(self) -> str:
        return f"pe2e{self.number:03}"

    @property
    def ports(self) -> tuple[int, int]:
        """Below those that the kernel gives to outgoing connections."""
        return 20_000 + 2 * self.number, 20_001 + 2 * self.number

    @property
    def _lock_file(self) -> Path:
        return self.directory.with_suffix(".lock")

    def release(self) -> None:
        self._remove_directory()
        self._lock_file.unlink(missing_ok=True)  # by its holder alone
        os.close(self._lock)

    def _remove_directory(self) -> None:
        """Unless something is mounted in it: what is mounted may be anything's."""
        if f" {self.directory}/" not in Path("/proc/self/mountinfo").read_text():
            shutil.rmtree(self.directory, ignore_errors=True)

    def _clean(self) -> bool:
        """Whether nothing is in the way of the number, once what a dead run left there is gone."""
        if self.directory.exists():
            run([str(PODLING), "reset", "--data-dir", str(self.directory / "data")], check=False)
            self._remove_directory()
        return not self.directory.exists() and not Path("/sys/class/net", self.bridge).exists() and self._ports_free()

    def _ports_free(self) -> bool:
        for port in self.ports:
            with socket.socket() as probe:
                # As the server does: connections of before that linger do not count.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("", port))
                except OSError:
                    return False
        return True


@dataclass
class Cluster:
    """One cluster, not started yet, that shares nothing with others on the machine. It ends with `reset`."""

    registries_conf: Path
    oci_runtime: str = ""
    flags: tuple[str, ...] = ()
    """Of `podling up`, besides those that keep clusters apart."""

    def __post_init__(self) -> None:
        self._claim = Claim()
        number = self._claim.number
        self.directory = self._claim.directory
        self.bridge = self._claim.bridge
        self.port, self.agent_port = self._claim.ports
        self.node = f"node-{number}"
        self.pod_cidr = f"10.{200 + number // 16}.{number % 16 * 16}.0/24"
        self.service_cidr = f"10.{220 + number // 16}.{number % 16 * 16}.0/24"
        self.data_dir = self.directory / "data"
        self.run_dir = self.directory / "run"
        self.kubeconfig = self.directory / "kubeconfig"

    # -- the cluster as a whole

    def __enter__(self) -> Cluster:
        try:
            self.up()
        except BaseException:
            self.podling("reset", "--data-dir", str(self.data_dir), check=False)
            self._claim.release()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.reset()

    @property
    def up_flags(self) -> list[str]:
        argv = ["--data-dir", str(self.data_dir), "--run-dir", str(self.run_dir)]
        argv += ["--port", str(self.port), "--agent-port", str(self.agent_port), "--node-name", self.node]
        argv += ["--bridge", self.bridge, "--pod-cidr", self.pod_cidr, "--service-cidr", self.service_cidr]
        argv += ["--registries-conf", str(self.registries_conf)]
        if self.oci_runtime:
            argv += ["--oci-runtime", self.oci_runtime]
        return [*argv, *self.flags]

    def up(self) -> None:
        self.podling("up", *self.up_flags)
        kubeconfig = self.podling("kubeconfig", "--data-dir", str(self.data_dir)).stdout
        self.kubeconfig.write_text(kubeconfig)

    def down(self) -> None:
        self.podling("down", "--data-dir", str(self.data_dir))

    def pid(self, name: str) -> int:
        """Of "server" or "agent"; 0 if it does not run. The number alone may be another's by now, whom another test needs."""
        settings = cluster_settings.find(self.data_dir)
        return find_process(settings, name) if settings else 0

    def kill(self, name: str) -> None:
        """kill -9 of "server" or "agent", if it runs. Returns when it is dead, as whoever starts it again would wait for."""
        if not (pid := self.pid(name)):
            return
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            select.select([descriptor], [], [])
        finally:
            os.close(descriptor)

    def reset(self) -> None:
        """Takes the cluster off the machine and checks that nothing of it is left."""
        try:
            self.podling("reset", "--data-dir", str(self.data_dir))
            left = self.leftovers()
        finally:
            self._claim.release()
        assert not left, "after reset: " + "; ".join(left)

    def podling(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run([str(PODLING), *argv], check=check)

    def https(self) -> Https:
        """A client of the TLS port, nobody at first."""
        return Https(self.port, self.data_dir / "pki")

    # -- kubectl

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.directory)}

    def try_kubectl(
        self, *argv: str, stdin: str | None = None, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Whatever the exit code is."""
        return run(["kubectl", *argv], check=False, stdin=stdin, timeout=timeout, env=self.environment)

    def kubectl(self, *argv: str, stdin: str | None = None, timeout: float = 120) -> str:
        """Standard output of a kubectl command that succeeds."""
        return run(["kubectl", *argv], stdin=stdin, timeout=timeout, env=self.environment).stdout

    @contextmanager
    def kubectl_lines(self, *argv: str) -> Iterator[Iterator[str]]:
        """The lines that a kubectl command prints, as they come; it is ended with the block."""
        process = subprocess.Popen(
            ["kubectl", *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=self.environment
        )
        assert process.stdout is not None
        # A test that waits for a line that never comes has to fail, not to hang.
        alarm = Timer(60, process.kill)
        alarm.start()
        try:
            yield (line.rstrip("\n") for line in process.stdout)
        finally:
            alarm.cancel()
            process.kill()
            process.wait()
            process.stdout.close()

    def apply(self, manifest: str | dict[str, Any], *argv: str) -> str:
        text = manifest if isinstance(manifest, str) else json.dumps(manifest)
        return self.kubectl("apply", "-f", "-", *argv, stdin=text)

    def get(self, *argv: str) -> dict[str, Any]:
        """One object, or a list, as kubectl's JSON."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *argv, "-o", "json"))
        return found

    def wait(self, what: str, condition: str, *argv: str, timeout: int = 60) -> str:
        """`kubectl wait --for=<condition>`: "condition=Ready", "jsonpath={.status.phase}=Failed", "delete"."""
        return self.kubectl("wait", what, f"--for={condition}", f"--timeout={timeout}s", *argv, timeout=timeout + 30)

    def events(self, name: str, *reasons: str) -> list[tuple[str, str, str]]:
        """Type, reason and message of the Pod's events, once there is one of each of these reasons."""
        for reason in reasons:
            selector = f"involvedObject.name={name},reason={reason}"
            with self.kubectl_lines("get", "events", "-w", "--no-headers", "--field-selector", selector) as lines:
                assert next(lines, None) is not None, f"no event {reason}"
        selector = f"involvedObject.name={name}"
        found = self.get("events", "--field-selector", selector, "--sort-by=.metadata.creationTimestamp")["items"]
        return [(event["type"], event["reason"], event["message"]) for event in found]

    def await_event(self, name: str, kind: str, reason: str, message: str) -> None:
        """Returns once the Pod has this event; a status is often there before the event that says the same."""
        selector = f"involvedObject.name={name},type={kind},reason={reason}"
        output = r'jsonpath={.message}{"\n"}'
        with self.kubectl_lines("get", "events", "-w", "--field-selector", selector, "-o", output) as lines:
            seen = []
            for line in lines:
                if line == message:
                    return
                seen.append(line)
        raise AssertionError(f"no event {kind} {reason} {message!r}, but {seen}")

    def logs(self, *argv: str) -> str:
        return self.kubectl("logs", *argv)

    def diagnosis(self) -> str:
        """What a person would look at first when something went wrong."""
        parts = []
        for argv in (("get", "pods", "-A", "-o", "wide"), ("get", "events", "-A", "--sort-by=.lastTimestamp")):
            shown = self.try_kubectl(*argv)
            parts.append(f"$ kubectl {' '.join(argv)}\n" + "\n".join((shown.stdout + shown.stderr).splitlines()[-60:]))
        for process in ("server", "agent"):
            path = self.data_dir / "logs" / f"{process}.log"
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            parts.append(f"{path.name}:\n" + "\n".join(lines[-60:]))
        return "\n\n".join(parts)

    # -- what is on the machine

    def leftovers(self, *names: str) -> list[str]:
        """Traces of the cluster on the machine; or, given words (a Pod's UID, a container's ID), of these alone."""
        units = f"podling-{cluster_settings.Settings(data_dir=self.data_dir).instance}-"
        words = list(names) or [str(self.directory), self.bridge, units]
        found = []
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line.split()[4]}" for line in mounts if any(word in line for word in words)]
        link = cluster_settings.defaults(self.data_dir).run_dir
        found += [f"link {link}"] if not names and link.is_symlink() else []
        found += [f"process {line}" for line in processes() if any(word in line for word in words)]
        found += [f"cgroup {path}" for path in cgroups() if any(word in path for word in words)]
        if not names:
            links = run(["ip", "-o", "link"]).stdout.splitlines()
            found += [f"link {line.split(':')[1].strip()}" for line in links if self.bridge in line]
            tables = run(["nft", "list", "tables"]).stdout.splitlines()
            found += [f"nftables {line}" for line in tables if self.bridge in line]
        return found


def processes() -> Iterator[str]:
    """Pid and command line of every process but this one and its parents."""
    own = {os.getpid(), os.getppid()}
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit() and int(directory.name) not in own:
            try:
                line = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if line:
                yield f"{directory.name} {line}"


def cgroups() -> Iterator[str]:
    """Every cgroup directory of the machine."""
    for directory, _, _ in os.walk("/sys/fs/cgroup"):
        yield directory


def eventually(holds: Callable[[], object], timeout: float = 20.0) -> None:
    """Waits for something on the machine that no event tells of. Raises AssertionError if it does not come."""
    deadline = time.monotonic() + timeout
    while not holds():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def unique(prefix: str) -> str:
    """A name that no other test uses."""
    return f"{prefix}-{uuid.uuid4().hex[:8]}"
