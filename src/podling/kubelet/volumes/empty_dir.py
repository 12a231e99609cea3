"""emptyDir: a directory that lives as long as the Pod, on disk or in memory.

Source: Kubernetes documentation "Volumes" (emptyDir).
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from podling.api.core.v1 import Pod, Volume
from podling.api.resources import pod_limits
from podling.kit import file_error
from podling.kubelet.volumes.plugin import VolumeError, mount_tmpfs

_MODE = 0o777


class EmptyDir:
    directory = "kubernetes.io~empty-dir"

    def __init__(self, memory: int = 0) -> None:
        """`memory`: the bytes that the node offers to Pods, the most that a volume in memory takes; 0: not known."""
        self._memory = memory

    def set_up(self, pod: Pod, volume: Volume, directory: Path, group: int | None) -> None:
        """Idempotent: what is there is left as it is. `group` (fsGroup) owns it and what is made in it. Raises VolumeError."""
        source = volume.empty_dir
        assert source is not None
        if source.medium not in ("", "Memory"):
            raise VolumeError(volume.name, f'unknown storage medium "{source.medium}"')
        try:
            if not directory.exists():
                _make(directory, group)
            if source.medium == "Memory" and not os.path.ismount(directory):
                mount_tmpfs(directory, _tmpfs_options(pod, volume, group, self._memory))
        except OSError as error:
            raise VolumeError(volume.name, file_error.reason(error, directory)) from error


def _make(directory: Path, group: int | None) -> None:
    """An agent killed on the way leaves no directory that lacks its mode or owner."""
    fresh = directory.with_name(f".{directory.name}")
    fresh.mkdir(parents=True, exist_ok=True)
    if group is not None:
        os.chown(fresh, -1, group)
    fresh.chmod(_MODE if group is None else _MODE | stat.S_ISGID)
    fresh.rename(directory)


def _tmpfs_options(pod: Pod, volume: Volume, group: int | None, memory: int) -> str:
    """The size is the volume's limit, the Pod's memory limit or the node's memory, whichever is least."""
    assert volume.empty_dir is not None
    sizes = [volume.empty_dir.size_limit] if volume.empty_dir.size_limit else []
    if all(container.resources.limits.get("memory") for container in pod.spec.containers):
        sizes.append(pod_limits(pod.spec)["memory"])
    bounds = [quantity.value() for quantity in sizes if quantity is not None] + ([memory] if memory else [])
    size = min(bounds, default=0)
    mode = "mode=777" if group is None else f"mode=2777,gid={group}"
    return f"{mode},size={size}" if size else mode
