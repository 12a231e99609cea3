"""Sets up and tears down the volumes of Pods."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from podling.api.core.v1 import Pod, Volume
from podling.kubelet.pod_paths import PodPaths
from podling.kubelet.volumes.empty_dir import EmptyDir
from podling.kubelet.volumes.host_path import HostPath
from podling.kubelet.volumes.plugin import Mounted, VolumeError, VolumePlugin, unmount


class VolumeManager:
    """Knows the volume types and where their directories are."""

    def __init__(self, paths: PodPaths) -> None:
        self._paths = paths
        self._plugins: dict[str, VolumePlugin] = {"empty_dir": EmptyDir(), "host_path": HostPath()}
        self._directories: Mapping[str, str] = {
            "empty_dir": EmptyDir.directory,
            "host_path": HostPath.directory,
        }

    async def set_up(self, pod: Pod) -> dict[str, Mounted]:
        """All volumes of the Pod by name. Idempotent. Raises VolumeError for the first that fails."""
        if not pod.spec.volumes:
            return {}
        return await asyncio.to_thread(self._set_up, pod)

    def _set_up(self, pod: Pod) -> dict[str, Mounted]:
        mounted = {}
        for volume in pod.spec.volumes:
            kind = self._kind(volume)
            directory = self._paths.volume(pod.metadata.uid, self._directories[kind], volume.name)
            fresh = not directory.exists()
            mounted[volume.name] = self._plugins[kind].set_up(pod, volume, directory)
            if fresh and mounted[volume.name].managed:
                _apply_fs_group(pod, directory)
        return mounted

    def _kind(self, volume: Volume) -> str:
        for kind in self._plugins:
            if getattr(volume, kind) is not None:
                return kind
        raise VolumeError(volume.name, "no volume plugin matched")

    async def tear_down(self, uid: str) -> None:
        """Unmounts and deletes whatever volumes a Pod of this UID has. Idempotent."""
        await asyncio.to_thread(self._tear_down, uid)

    def _tear_down(self, uid: str) -> None:
        root = self._paths.volumes(uid)
        if not root.exists():
            return
        for kind, plugin in self._plugins.items():
            for directory in _children(root / self._directories[kind]):
                plugin.tear_down(directory)
        for mount in _mounts_below(root):
            unmount(mount)
        shutil.rmtree(root)


def _children(directory: Path) -> list[Path]:
    return list(directory.iterdir()) if directory.exists() else []


def _mounts_below(root: Path) -> list[Path]:
    """Mount points below `root`, deepest first: rmtree must never walk into one."""
    found = []
    prefix = f"{root}/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            target = line.split(" ")[4].replace("\\040", " ")
            if target.startswith(prefix):
                found.append(Path(target))
    return sorted(found, key=lambda path: len(path.parts), reverse=True)


def _apply_fs_group(pod: Pod, directory: Path) -> None:
    """Gives the volume to the Pod's fsGroup: group ownership, group access as the owner's, set-group-ID directories."""
    context = pod.spec.security_context
    if context is None or context.fs_group is None:
        return
    for parent, names, files in os.walk(directory):
        for name in [parent, *(os.path.join(parent, n) for n in names + files)]:
            if os.path.islink(name):
                os.lchown(name, -1, context.fs_group)
                continue
            os.chown(name, -1, context.fs_group)
            mode = os.stat(name).st_mode
            extra = 0o2070 if os.path.isdir(name) else 0o060
            os.chmod(name, (mode | extra) & 0o7777)
