"""Seccomp profiles: RuntimeDefault and Localhost, as the OCI runtime wants them.

Both are written in the format of the containers projects (a superset of the OCI one: rules that count only with certain
capabilities or architectures), https://github.com/containers/common/blob/main/docs/containers.conf.5.md. RuntimeDefault
is seccomp_default.py, the same on every machine.
"""

from __future__ import annotations

import errno
import functools
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from podling.kit import document_error, file_error
from podling.runtime.native import seccomp_default
from podling.runtime.protocol import CRIError, Seccomp

_ARCHITECTURES = {
    "x86_64": ("SCMP_ARCH_X86_64", "amd64"),
    "aarch64": ("SCMP_ARCH_AARCH64", "arm64"),
    "armv7l": ("SCMP_ARCH_ARM", "arm"),
    "riscv64": ("SCMP_ARCH_RISCV64", "riscv64"),
    "ppc64le": ("SCMP_ARCH_PPC64LE", "ppc64le"),
    "s390x": ("SCMP_ARCH_S390X", "s390x"),
}
_SUB_ARCHITECTURES = {"amd64": ("amd64", "x86", "x32"), "arm64": ("arm64", "arm"), "s390x": ("s390x", "s390")}


class _Conditions(Struct):
    caps: list[str] | None = None
    arches: list[str] | None = None
    minKernel: str | None = None


class _Rule(Struct):
    action: str
    names: list[str] | None = None
    name: str | None = None
    errno: str | None = None
    errnoRet: int | None = None
    args: list[dict[str, Any]] | None = None
    includes: _Conditions | None = None
    excludes: _Conditions | None = None


class _ArchitectureMap(Struct):
    architecture: str
    subArchitectures: list[str] | None = None


class _Profile(Struct):
    """The form that a file must have. `translate` reads what the file holds, other fields included."""

    defaultAction: str
    defaultErrno: str | None = None
    defaultErrnoRet: int | None = None
    architectures: list[str] | None = None
    archMap: list[_ArchitectureMap] | None = None
    flags: list[str] | None = None
    syscalls: list[_Rule] | None = None


def profile(seccomp: Seccomp, capabilities: Sequence[str]) -> dict[str, Any] | None:
    """linux.seccomp of the OCI specification for a container with these capabilities; None: unconfined.

    Raises CRIError when the profile's file is missing or not understood: a container never runs with less protection
    than asked for.
    """
    if seccomp.profile == "Unconfined":
        return None
    if seccomp.profile == "RuntimeDefault":
        return _default(tuple(capabilities))
    path = Path(seccomp.path)
    try:
        return translate(_load(path, path.stat().st_mtime_ns), capabilities)
    except FileNotFoundError as error:
        raise CRIError("CreateContainerError", f"seccomp profile {path} does not exist") from error
    except OSError as error:
        text = f"cannot load seccomp profile {file_error.reason(error, path)}"
        raise CRIError("CreateContainerError", text) from error
    except (ValueError, RecursionError) as error:
        text = f"cannot load seccomp profile {path}: {document_error.reason(error)}"
        raise CRIError("CreateContainerError", text) from error


@functools.lru_cache(maxsize=16)
def _default(capabilities: tuple[str, ...]) -> dict[str, Any]:
    return translate(seccomp_default.PROFILE, capabilities)


@functools.lru_cache(maxsize=4)
def _load(path: Path, _changed: int) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    msgspec.convert(found, _Profile)
    return found


def translate(source: Mapping[str, Any], capabilities: Sequence[str]) -> dict[str, Any]:
    """The OCI form: only the rules that count for this machine and these capabilities."""
    native, arch = _ARCHITECTURES.get(platform.machine(), ("", platform.machine()))
    result: dict[str, Any] = {"defaultAction": source["defaultAction"]}
    number = _errno(source.get("defaultErrno"), source.get("defaultErrnoRet"))
    if number is not None:
        result["defaultErrnoRet"] = number
    architectures = list(source.get("architectures") or [])
    for entry in source.get("archMap") or []:
        if entry["architecture"] == native:
            architectures = [native, *(entry.get("subArchitectures") or [])]
    if architectures:
        result["architectures"] = architectures
    for name in ("flags", "listenerPath", "listenerMetadata"):
        if source.get(name):
            result[name] = source[name]
    syscalls = []
    for rule in source.get("syscalls") or []:
        if not _counts(rule, capabilities, _SUB_ARCHITECTURES.get(arch, (arch,))):
            continue
        translated: dict[str, Any] = {
            "names": list(rule.get("names") or ([rule["name"]] if rule.get("name") else [])),
            "action": rule["action"],
        }
        number = _errno(rule.get("errno"), rule.get("errnoRet"))
        if number is not None:
            translated["errnoRet"] = number
        if rule.get("args"):
            translated["args"] = [
                {name: arg[name] for name in ("index", "value", "valueTwo", "op") if name in arg}
                for arg in rule["args"]
            ]
        syscalls.append(translated)
    result["syscalls"] = syscalls
    return result


def _counts(rule: Mapping[str, Any], capabilities: Sequence[str], architectures: Sequence[str]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}
    if any(cap in capabilities for cap in excludes.get("caps") or []):
        return False
    if any(arch in architectures for arch in excludes.get("arches") or []):
        return False
    if not all(cap in capabilities for cap in includes.get("caps") or []):
        return False
    if includes.get("arches") and not any(arch in architectures for arch in includes["arches"]):
        return False
    minimum = includes.get("minKernel")
    return not minimum or _kernel() >= _version(minimum)


def _version(text: str) -> tuple[int, ...]:
    parts = text.split(".")[:2]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'minKernel is "{text}" instead of a version such as "5.4"')
    return tuple(int(part) for part in parts)


def _errno(name: str | None, number: int | None) -> int | None:
    if not name:
        return number
    if name in errno.errorcode.values():
        return int(getattr(errno, name))
    if name.isascii() and name.isdigit():
        return int(name)
    raise ValueError(f'"{name}" is not the name of an error of Linux such as "EPERM"')


@functools.cache
def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(char for char in minor if char.isdigit()))
