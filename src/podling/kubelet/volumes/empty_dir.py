"""emptyDir: a directory that lives as long as the Pod, on disk or in memory.

Source: Kubernetes documentation "Volumes" (emptyDir).
"""

from __future__ import annotations

import os
from pathlib import Path

from podling.api.core.v1 import Pod, Volume
from podling.api.resources import pod_limits
from podling.kubelet.volumes.plugin import VolumeError, mount_tmpfs

_MODE = 0o777


class EmptyDir:
    directory = "kubernetes.io~empty-dir"

    def set_up(self, pod: Pod, volume: Volume, directory: Path) -> None:
        """Idempotent: what is there is left as it is. Raises VolumeError."""
        source = volume.empty_dir
        assert source is not None
        fresh = not directory.exists()
        directory.mkdir(parents=True, exist_ok=True)
        medium = source.medium
        if medium == "Memory":
            if not os.path.ismount(directory):
                try:
                    mount_tmpfs(directory, _tmpfs_options(pod, volume))
                except OSError as error:
                    raise VolumeError(volume.name, f"cannot mount tmpfs: {error.strerror}") from error
        elif medium:
            raise VolumeError(volume.name, f'unknown storage medium "{medium}"')
        if fresh:
            directory.chmod(_MODE)


def _tmpfs_options(pod: Pod, volume: Volume) -> str:
    """The size is the volume's limit or the Pod's memory limit, whichever is less; else the kernel's default."""
    assert volume.empty_dir is not None
    sizes = [volume.empty_dir.size_limit] if volume.empty_dir.size_limit else []
    if all(container.resources.limits.get("memory") for container in pod.spec.containers):
        sizes.append(pod_limits(pod.spec)["memory"])
    size = min((quantity.value() for quantity in sizes if quantity is not None), default=0)
    return f"mode=777,size={size}" if size else "mode=777"
