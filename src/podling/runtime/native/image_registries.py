"""Where registries.conf sends a pull: containers-registries.conf(5), version 2, as containers/image reads it."""

from __future__ import annotations

import contextlib
import os
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

SYSTEM_CONF = Path("/etc/containers/registries.conf")
DROP_INS = Path("/etc/containers/registries.conf.d")


class _Mirror(Struct):
    location: str | None = None


class _Registry(Struct):
    """The form of a [[registry]] table, as far as it is read here."""

    prefix: str | None = None
    location: str | None = None
    mirror: list[_Mirror] = []


@dataclass(frozen=True)
class Endpoint:
    """A place to pull from. `repository` is host[:port]/path."""

    repository: str
    insecure: bool = False


@dataclass(frozen=True)
class Route:
    """Endpoints in the order in which they are tried. `conditional`: some of them count for tags or digests only."""

    endpoints: tuple[Endpoint, ...]
    blocked: bool = False
    conditional: bool = False
    prefix: str = ""
    """Of the entry that decides."""


def route(repository: str, registries_conf: Path | None) -> Route:
    """How images of the repository (domain/path) are pulled.

    A configuration that cannot be read counts as none: skopeo is the one that reports what is wrong with it.
    """
    best: dict[str, Any] | None = None
    best_prefix, length = "", 0
    for prefix, entry in _registries(registries_conf or SYSTEM_CONF).items():
        matched = _match_length(repository, prefix)
        if matched and len(prefix) > len(best_prefix):
            best, best_prefix, length = entry, prefix, matched
    if best is None:
        return Route((Endpoint(repository),))
    mirrors = best.get("mirror", [])
    places = [*mirrors, {"location": repository[:length], **best}]
    endpoints = [
        Endpoint((p["location"] or repository[:length]) + repository[length:], bool(p.get("insecure")))
        for p in places
        if "location" in p
    ]
    conditional = bool(best.get("mirror-by-digest-only")) or any("pull-from-mirror" in m for m in mirrors)
    return Route(tuple(endpoints), bool(best.get("blocked")), conditional, best_prefix)


def _registries(conf: Path) -> dict[str, dict[str, Any]]:
    """The [[registry]] tables by prefix; files of the drop-in directory replace those of the main file."""
    files = [conf]
    with contextlib.suppress(FileNotFoundError):
        files += sorted(DROP_INS / name for name in os.listdir(DROP_INS) if name.endswith(".conf"))
    found: dict[str, dict[str, Any]] = {}
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        found.update(_parse(file, stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return found


@lru_cache(maxsize=16)
def _parse(file: Path, inode: int, mtime: int, size: int) -> dict[str, dict[str, Any]]:
    try:
        entries = tomllib.loads(file.read_text()).get("registry", [])
        msgspec.convert(entries, list[_Registry])
    except (OSError, ValueError):
        return {}
    return {
        entry.get("prefix") or entry["location"]: entry
        for entry in entries
        if entry.get("prefix") or "location" in entry
    }


def _match_length(repository: str, prefix: str) -> int:
    """How many characters of the repository the prefix stands for; 0 if it does not match."""
    if prefix.startswith("*."):
        host = repository.partition("/")[0]
        return len(host) if host.endswith(prefix[1:]) else 0
    return len(prefix) if repository == prefix or repository.startswith(f"{prefix}/") else 0
