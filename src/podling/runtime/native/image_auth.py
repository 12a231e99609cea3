"""Credentials for skopeo: an authentication file that nobody else can read, never an argument.

A pull's credentials are meant for the registry of the image's name. Where registries.conf sends the pull elsewhere
(location, mirrors), they go there too, as containerd does: the administrator chose those places for this name.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podling.runtime.image_name import ImageName
from podling.runtime.protocol import AuthConfig, ImagePullError

_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")
SYSTEM_REGISTRIES_CONF = Path("/etc/containers/registries.conf")


@contextlib.contextmanager
def auth_file(directory: Path, name: ImageName, auth: AuthConfig, registries_conf: Path | None) -> Iterator[Path]:
    """A file with mode 0600 in containers-auth.json(5) form, removed at the end.

    Raises ImagePullError for credentials of a kind that cannot be given to skopeo this way.
    """
    if auth.registry_token:
        raise ImagePullError(
            "ErrImagePull",
            f'failed to pull and unpack image "{name.canonical}": registry tokens are not supported by this runtime',
        )
    entry = {"auth": base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()}
    if auth.identity_token:
        entry["identitytoken"] = auth.identity_token
    auths = dict.fromkeys(_repositories(name, registries_conf or SYSTEM_REGISTRIES_CONF), entry)
    fd, path = tempfile.mkstemp(prefix="auth-", suffix=".json", dir=directory)  # mode 0600
    try:
        with os.fdopen(fd, "w") as f:
            json.dump({"auths": auths}, f)
        yield Path(path)
    finally:
        os.unlink(path)


def _repositories(name: ImageName, registries_conf: Path) -> list[str]:
    """The repositories that a pull of `name` may contact (containers-registries.conf(5))."""
    found = [name.repository]
    entry, prefix_length = _registry(name.repository, registries_conf)
    if entry is not None:
        locations = [entry.get("location", ""), *(m.get("location", "") for m in entry.get("mirror", ()))]
        found += [location + name.repository[prefix_length:] for location in locations if location]
    return list(dict.fromkeys(found))


def _registry(repository: str, registries_conf: Path) -> tuple[dict[str, Any] | None, int]:
    """The [[registry]] of the longest matching prefix, and how many characters of `repository` it stands for."""
    try:
        registries = tomllib.loads(registries_conf.read_text()).get("registry", [])
    except (FileNotFoundError, tomllib.TOMLDecodeError):
        return None, 0  # skopeo reports what is wrong with the file
    best: tuple[dict[str, Any] | None, int] = (None, 0)
    best_prefix = ""
    for entry in registries:
        prefix = entry.get("prefix") or entry.get("location", "")
        if (length := _match_length(repository, prefix)) and len(prefix) > len(best_prefix):
            best, best_prefix = (entry, length), prefix
    return best


def _match_length(repository: str, prefix: str) -> int:
    if prefix.startswith("*."):
        host = repository.partition("/")[0]
        return len(host) if host.endswith(prefix[1:]) else 0
    if repository == prefix or repository.startswith(f"{prefix}/"):
        return len(prefix)
    return 0


def is_loopback(name: ImageName) -> bool:
    """Registries on this machine may speak plain HTTP, as for Docker and containerd."""
    return _LOOPBACK.fullmatch(name.domain) is not None
