"""The node's own credentials for registries: a docker config.json that an administrator put there.

Source: Kubernetes documentation "Images" (Configuring nodes to authenticate to a private registry). Upstream's kubelet looks
into its root directory, then into docker's usual place; so do we. Credential helpers that such a file names are not run:
credential provider plugins (image_credential_provider.py) are there for that.
"""

from __future__ import annotations

import logging
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from podling.kit import file_error
from podling.kubelet.image_credentials import Auths, CredentialsError, config_json

log = logging.getLogger(__name__)

NAME = "auth.json"
"""Of the file in the data directory."""


def default_paths(data_dir: Path) -> list[Path]:
    """Where the file is looked for unless one is given: the first that exists counts."""
    home = pwd.getpwuid(os.getuid()).pw_dir
    return [data_dir / NAME, Path(home) / ".docker" / "config.json"]


class NodeAuthFile:
    """Reads the first of the files that exists, again whenever it has changed."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = paths
        self._read: tuple[object, Auths] | None = None

    def auths(self) -> Auths:
        """Never fails: a file that cannot be read is a warning in the log, once."""
        for path in self._paths:
            try:
                stat = path.stat()
            except OSError:
                continue
            identity = (path, stat.st_ino, stat.st_mtime_ns, stat.st_size)
            if self._read is None or self._read[0] != identity:
                self._read = (identity, _read(path))
                if stat.st_mode & 0o077:
                    log.warning("%s holds credentials and can be read by others than its owner", path)
            return self._read[1]
        self._read = None
        return {}


def _read(path: Path) -> Auths:
    try:
        return config_json(path.read_bytes())
    except (OSError, CredentialsError) as error:
        log.warning("credentials in %s are not used: %s", path, file_error.reason(error))
        return {}
