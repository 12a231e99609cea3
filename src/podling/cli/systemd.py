"""The cluster's processes as systemd units, where systemd runs: restarted when they fail, started again at boot."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from podling.cli import process
from podling.cli.errors import CommandError
from podling.cli.settings import Settings

UNIT_DIRECTORY = Path("/etc/systemd/system")

_UNIT = """\
[Unit]
Description=Podling {name} of {data_dir}
After=network-online.target
Wants=network-online.target
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart={command}
{environment}
StandardOutput=append:{log}
StandardError=append:{log}
Restart=always
RestartSec=1
# Containers are not part of the agent's life.
KillMode=process
Delegate=yes
TasksMax=infinity
LimitNOFILE=1048576
TimeoutStartSec=60

[Install]
WantedBy=multi-user.target
"""


def is_running() -> bool:
    return os.path.isdir("/run/systemd/system")


def unit_name(settings: Settings, name: str) -> str:
    return "-".join(part for part in ("podling", settings.instance, name) if part) + ".service"


def unit(settings: Settings, name: str) -> str:
    """The unit file's text."""
    command = " ".join(f'"{word}"' for word in command_line(settings, name))
    environment = "\n".join(f"Environment={key}={value}" for key, value in ENVIRONMENT.items())
    return _UNIT.format(
        name=name, data_dir=settings.data_dir, log=settings.log(name), command=command, environment=environment
    )


def start(settings: Settings, names: Sequence[str]) -> None:
    """Returns when all say that they are ready. Raises CommandError."""
    for name in process.NAMES:
        settings.log(name).parent.mkdir(parents=True, exist_ok=True)
        (UNIT_DIRECTORY / unit_name(settings, name)).write_text(unit(settings, name))
    _systemctl("daemon-reload")
    _systemctl("enable", "--quiet", *(unit_name(settings, name) for name in names))
    jobs = [
        subprocess.Popen(["systemctl", "start", unit_name(settings, name)], stderr=subprocess.DEVNULL) for name in names
    ]
    try:
        for position in process.in_order_of_end([job.pid for job in jobs]):
            if jobs[position].wait():
                raise process.failure(settings, names[position])
    finally:
        for job in jobs:
            job.kill()  # it only waits for systemd
            job.wait()


def stop(settings: Settings, names: Sequence[str] = process.NAMES) -> None:
    """Also keeps them from being started at boot. No error for what does not exist."""
    units = [unit for name in names if (UNIT_DIRECTORY / (unit := unit_name(settings, name))).exists()]
    if units:
        _systemctl("disable", "--quiet", "--now", *units)


def remove(settings: Settings) -> None:
    """Stops them and deletes the units."""
    stop(settings)
    for name in process.NAMES:
        (UNIT_DIRECTORY / unit_name(settings, name)).unlink(missing_ok=True)
    _systemctl("daemon-reload")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, directory, kind, *_ = line.split()
        if kind in ("cgroup", "cgroup2"):
            for name in process.NAMES:
                with contextlib.suppress(OSError):  # systemd was faster
                    Path(directory, "system.slice", unit_name(settings, name)).rmdir()


def command_line(settings: Settings, name: str) -> list[str]:
    """Of one of the processes. -P: nothing is imported from the working directory."""
    return [sys.executable, "-P", "-m", "podling.cli.main", name, "--data-dir", str(settings.data_dir)]


ENVIRONMENT = {
    # Else every thread has a heap of its own: tens of MB.
    "MALLOC_ARENA_MAX": "2",
    "PYTHONUNBUFFERED": "1",
}


def _systemctl(*args: str) -> str:
    done = subprocess.run(["systemctl", *args], capture_output=True, text=True, check=False)
    if done.returncode:
        message = (done.stderr.strip().splitlines() or ["failed"])[0]
        raise CommandError(f"systemctl {' '.join(args)}: {message}", done.stderr)
    return done.stdout
