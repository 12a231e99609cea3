"""The OCI runtime specification (config.json) of a container.

Defaults are those of containerd's CRI plugin, so that a Pod finds what it finds elsewhere.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import logging
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from podling.kit import descriptors, oom_score
from podling.runtime.native import capability, mount_point, seccomp
from podling.runtime.native.cgroup import Mode, page_size
from podling.runtime.native.user import User
from podling.runtime.protocol import (
    ContainerConfig,
    CRIError,
    Device,
    ImageConfig,
    LinuxResources,
    Mount,
    MountPropagation,
)

log = logging.getLogger(__name__)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MASKED_PATHS = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
]
READONLY_PATHS = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]

_PROPAGATION = {
    MountPropagation.PRIVATE: "rprivate",
    MountPropagation.HOST_TO_CONTAINER: "rslave",
    MountPropagation.BIDIRECTIONAL: "rshared",
}


class SandboxFiles(Struct, frozen=True, kw_only=True):
    """What a container takes from its sandbox."""

    namespaces: Mapping[str, str]
    """OCI namespace type (network, ipc, uts, pid) to the path to join; a type that is missing is the host's."""
    shm: str
    hostname_file: str = ""
    resolv_conf: str = ""
    hostname: str = ""


def build(
    config: ContainerConfig,
    image: ImageConfig,
    user: User,
    sandbox: SandboxFiles,
    *,
    rootfs: str,
    cgroup: str,
    cgroup_mode: Mode,
    mounts: list[Mount],
) -> dict[str, Any]:
    """`mounts` are the configuration's as `mount_point.place` returned them, with host paths for image volumes too.

    Raises CRIError."""
    security = config.security
    privileged = security.privileged
    caps = capability.resolve(security.add_capabilities, security.drop_capabilities, privileged)
    capabilities = {"bounding": caps, "effective": caps, "permitted": caps}
    namespaces: list[dict[str, str]] = [{"type": "mount"}]
    for kind, path in sandbox.namespaces.items():
        namespaces.append({"type": kind, "path": path} if path else {"type": kind})
    if cgroup_mode == Mode.V2 and not privileged:
        namespaces.append({"type": "cgroup"})

    process: dict[str, Any] = {
        "terminal": config.tty,
        "user": {"uid": user.uid, "gid": user.gid, "additionalGids": user.groups},
        "args": command(config, image),
        "env": environment(config, image, user, sandbox.hostname),
        "cwd": working_directory(config, image),
        "capabilities": capabilities,
        "noNewPrivileges": security.no_new_privs,
        # The agent has raised its own.
        "rlimits": [{"type": "RLIMIT_NOFILE", **descriptors.inherited()._asdict()}],
    }
    oom_score_adj = attainable_oom_score_adj(config.resources.oom_score_adj or oom_score.NEUTRAL)
    if oom_score_adj is not None:
        process["oomScoreAdj"] = oom_score_adj
    if security.apparmor_profile and security.apparmor_profile != "unconfined" and not privileged:
        if not Path("/sys/kernel/security/apparmor").exists():
            raise CRIError("CreateContainerError", "apparmor is not supported")
        process["apparmorProfile"] = security.apparmor_profile

    linux: dict[str, Any] = {
        "cgroupsPath": cgroup,
        "namespaces": namespaces,
        "resources": resources(config.resources, config.devices, privileged, cgroup_mode),
    }
    devices = _devices(config.devices, privileged)
    if devices:
        linux["devices"] = devices
    if not privileged:
        masked = MASKED_PATHS + _thermal_paths() if security.masked_paths is None else security.masked_paths
        linux["maskedPaths"] = list(masked)
        readonly = READONLY_PATHS if security.readonly_paths is None else security.readonly_paths
        linux["readonlyPaths"] = list(readonly)
        profile = seccomp.profile(security.seccomp, caps)
        if profile is not None:
            linux["seccomp"] = profile
    if any(mount.propagation == MountPropagation.BIDIRECTIONAL for mount in mounts):
        linux["rootfsPropagation"] = "rshared"
    elif any(mount.propagation == MountPropagation.HOST_TO_CONTAINER for mount in mounts):
        linux["rootfsPropagation"] = "rslave"

    return {
        "ociVersion": "1.0.2",
        "process": process,
        "root": {"path": rootfs, "readonly": security.readonly_rootfs},
        "mounts": _mounts(config, mounts, sandbox, privileged),
        # No annotations: crun takes orders from some (run.oci.seccomp_bpf_data, run.oci.hooks.stdout, ...).
        "linux": linux,
    }


def command(config: ContainerConfig, image: ImageConfig) -> list[str]:
    """The configuration's command and args over the image's. Raises CRIError when there is none at all."""
    args = [*config.command, *config.args] if config.command else [*image.entrypoint, *(config.args or image.cmd)]
    if not args:
        raise CRIError("CreateContainerError", "no command specified")
    return args


def working_directory(config: ContainerConfig, image: ImageConfig) -> str:
    return mount_point.absolute(config.working_dir or image.working_dir)


def environment(config: ContainerConfig, image: ImageConfig, user: User, hostname: str) -> list[str]:
    """PATH and the like, then the image's, then the configuration's variables: the last of equal names wins."""
    env = {"PATH": DEFAULT_PATH, "HOSTNAME": hostname}
    if config.tty:
        env["TERM"] = "xterm"
    for entry in image.env:
        name, _, value = entry.partition("=")
        env[name] = value
    env.update(config.env)
    env.setdefault("HOME", user.home)
    return [f"{name}={value}" for name, value in env.items()]


def resources(r: LinuxResources, devices: list[Device], privileged: bool, mode: Mode) -> dict[str, Any]:
    """linux.resources. The runtime itself adds the devices that every container has."""
    rules: list[dict[str, Any]] = [{"allow": privileged, "access": "rwm"}]
    if not privileged:
        for device in _expand(devices):
            kind, major, minor = _device_number(device.host_path, _status(device.host_path))
            rules.append({"allow": True, "type": kind, "major": major, "minor": minor, "access": device.permissions})
    result: dict[str, Any] = {"devices": rules}
    cpu = {
        "shares": r.cpu_shares,
        "quota": r.cpu_quota,
        "period": r.cpu_period,
    }
    if any(value is not None for value in cpu.values()):
        result["cpu"] = {name: value for name, value in cpu.items() if value is not None}
    if r.memory_limit is not None:
        result["memory"] = {"limit": r.memory_limit if r.memory_limit > 0 else -1}
    if r.pids_limit is not None:
        result["pids"] = {"limit": r.pids_limit}
    if r.hugepage_limits:
        sizes = r.hugepage_limits.items()
        result["hugepageLimits"] = [{"pageSize": page_size(size), "limit": limit} for size, limit in sizes]
    if mode == Mode.V2 and r.memory_limit is not None:
        result["unified"] = {"memory.oom.group": "1"}  # as the kubelet asks for on such hosts
    return result


def _mounts(
    config: ContainerConfig,
    mounts: list[Mount],
    sandbox: SandboxFiles,
    privileged: bool,
) -> list[dict[str, Any]]:
    own = {mount.container_path for mount in mounts}
    access = "rw" if privileged else "ro"
    result: list[dict[str, Any]] = [
        _mount("/proc", "proc", "proc", ["nosuid", "noexec", "nodev"]),
        _mount("/dev", "tmpfs", "tmpfs", ["nosuid", "strictatime", "mode=755", "size=65536k"]),
        _mount(
            "/dev/pts", "devpts", "devpts", ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]
        ),
        # Shows the queues of the IPC namespace that the container joins, be it the host's.
        _mount("/dev/mqueue", "mqueue", "mqueue", ["nosuid", "noexec", "nodev"]),
        _mount("/sys", "sysfs", "sysfs", ["nosuid", "noexec", "nodev", access]),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", ["nosuid", "noexec", "nodev", "relatime", access]),
    ]
    files = [
        ("/dev/shm", sandbox.shm, ["rbind", "rprivate", "nosuid", "noexec", "nodev", "rw"]),
        ("/etc/hostname", sandbox.hostname_file, ["rbind", "rprivate", "rw"]),
        ("/etc/resolv.conf", sandbox.resolv_conf, ["rbind", "rprivate", "rw"]),
    ]
    for destination, source, options in files:
        if source and destination not in own:
            if config.security.readonly_rootfs and destination.startswith("/etc/"):
                options = [*options[:-1], "ro"]
            result.append(_mount(destination, "bind", source, options))
    # What the configuration mounts replaces a default, and those below, which nobody would see.
    result = [entry for entry in result if own.isdisjoint(_and_above(entry["destination"]))]
    for mount in mounts:
        options = ["rbind", _PROPAGATION[mount.propagation], "ro" if mount.readonly else "rw"]
        if mount.readonly and mount.recursive_read_only:
            options[-1] = "rro"
        if mount.image:
            options.append("noexec")
        result.append(_mount(mount.container_path, "bind", mount.host_path, options))
    return result


def _and_above(path: str) -> list[str]:
    return [path, *mount_point.parents(path)]


def _mount(destination: str, kind: str, source: str, options: list[str]) -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": options}


def _devices(devices: list[Device], privileged: bool) -> list[dict[str, Any]]:
    wanted = _expand(devices)
    result = []
    if privileged:
        named = {device.container_path for device in wanted}
        for device in _host_devices():
            with contextlib.suppress(FileNotFoundError):  # gone in the meantime
                if device.container_path not in named:
                    result.append(_node(device, os.stat(device.host_path)))
    return result + [_node(device, _status(device.host_path)) for device in wanted]


def _node(device: Device, status: os.stat_result) -> dict[str, Any]:
    kind, major, minor = _device_number(device.host_path, status)
    return {
        "path": device.container_path,
        "type": kind,
        "major": major,
        "minor": minor,
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }


def _expand(devices: list[Device]) -> list[Device]:
    """A directory stands for the devices below it."""
    result = []
    for device in devices:
        if not os.path.isdir(device.host_path):
            result.append(device)
            continue
        for parent, _, names in os.walk(device.host_path):
            for name in names:
                path = os.path.join(parent, name)
                if stat.S_ISBLK(os.stat(path).st_mode) or stat.S_ISCHR(os.stat(path).st_mode):
                    inner = os.path.join(device.container_path, os.path.relpath(path, device.host_path))
                    result.append(Device(container_path=inner, host_path=path, permissions=device.permissions))
    return result


def _status(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError as error:
        raise CRIError("CreateContainerError", f"device {path} does not exist") from error


def _device_number(path: str, status: os.stat_result) -> tuple[str, int, int]:
    if stat.S_ISBLK(status.st_mode):
        kind = "b"
    elif stat.S_ISCHR(status.st_mode):
        kind = "c"
    else:
        raise CRIError("CreateContainerError", f"{path} is not a device node")
    return kind, os.major(status.st_rdev), os.minor(status.st_rdev)


_OWN_DEVICES = ("pts", "shm", "fd", "mqueue", "console", "ptmx", "tty", "null", "zero", "full", "random", "urandom")


def _host_devices() -> list[Device]:
    """All devices of the machine, which a privileged container sees; those that every container has are left out."""
    result = []
    for parent, directories, names in os.walk("/dev"):
        if parent == "/dev":
            directories[:] = [name for name in directories if name not in _OWN_DEVICES]
            names = [name for name in names if name not in _OWN_DEVICES]
        for name in names:
            path = os.path.join(parent, name)
            try:
                mode = os.lstat(path).st_mode
            except FileNotFoundError:
                continue
            if stat.S_ISBLK(mode) or stat.S_ISCHR(mode):
                result.append(Device(container_path=path, host_path=path))
    return result


@functools.cache
def _thermal_paths() -> list[str]:
    return sorted(glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle"))


@functools.cache
def _own_oom_score_adj() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


@functools.cache
def _warn_oom_score() -> None:
    log.warning(
        "the agent lacks CAP_SYS_RESOURCE: containers keep its oom_score_adj where they should have a lower one"
    )


def attainable_oom_score_adj(wanted: int) -> int | None:
    """None where it would have to be lowered, which needs CAP_SYS_RESOURCE, so that the container starts all the same."""
    if wanted < _own_oom_score_adj() and "SYS_RESOURCE" not in capability.available():
        _warn_oom_score()
        return None
    return wanted
