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
from collections.abc import Iterator
from pathlib import Path

from podling.api.image_name import ImageName
from podling.runtime.native import image_registries
from podling.runtime.protocol import AuthConfig, ImagePullError

_LOOPBACK = re.compile(r"(?:localhost|127\.\d+\.\d+\.\d+|\[::1\])(?::\d+)?")


@contextlib.contextmanager
def auth_file(name: ImageName, auth: AuthConfig, registries_conf: Path | None) -> Iterator[Path]:
    """A file with mode 0600 in containers-auth.json(5) form, gone at the end.

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
    auths = dict.fromkeys(_repositories(name, registries_conf), entry)
    # In memory and without a name: a process that is killed leaves nothing of it.
    with os.fdopen(os.memfd_create("auth", os.MFD_CLOEXEC), "w") as file:
        os.fchmod(file.fileno(), 0o600)
        json.dump({"auths": auths}, file)
        file.flush()
        yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")


def _repositories(name: ImageName, registries_conf: Path | None) -> list[str]:
    """The repositories that a pull of `name` may contact."""
    route = image_registries.route(name.repository, registries_conf)
    return list(dict.fromkeys([name.repository, *(endpoint.repository for endpoint in route.endpoints)]))


def is_loopback(name: ImageName) -> bool:
    """Registries on this machine may speak plain HTTP, as for Docker and containerd."""
    return _LOOPBACK.fullmatch(name.domain) is not None
