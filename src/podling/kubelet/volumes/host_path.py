"""hostPath: a file or directory of the node.

Source: Kubernetes documentation "Volumes" (hostPath volume types).
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path

from podling.api.core.v1 import Volume
from podling.kit import file_error
from podling.kubelet.volumes.plugin import Mounted, VolumeError

_CHECKS: dict[str, tuple[Callable[[int], bool], str]] = {
    "Directory": (stat.S_ISDIR, "is not a directory"),
    "DirectoryOrCreate": (stat.S_ISDIR, "is not a directory"),
    "File": (stat.S_ISREG, "is not a file"),
    "FileOrCreate": (stat.S_ISREG, "is not a file"),
    "Socket": (stat.S_ISSOCK, "is not a socket"),
    "CharDevice": (stat.S_ISCHR, "is not a character device"),
    "BlockDevice": (stat.S_ISBLK, "is not a block device"),
}


class HostPath:
    def set_up(self, volume: Volume) -> Mounted:
        """Checks the path, or makes what its type says. Raises VolumeError."""
        source = volume.host_path
        assert source is not None
        path, kind = Path(source.path), source.type or ""
        try:
            if not path.exists():
                if kind == "DirectoryOrCreate":
                    path.mkdir(mode=0o755, parents=True)
                elif kind == "FileOrCreate":
                    path.touch(mode=0o644)
                elif kind == "":
                    # As container runtimes do for a bind mount whose source is missing.
                    path.mkdir(mode=0o755, parents=True, exist_ok=True)
            if kind:
                check, text = _CHECKS[kind]
                if not path.exists() or not check(path.stat().st_mode):
                    raise VolumeError(volume.name, f"hostPath type check failed: {path} {text}")
        except OSError as error:
            raise VolumeError(volume.name, file_error.reason(error, path)) from error
        return Mounted(path)
