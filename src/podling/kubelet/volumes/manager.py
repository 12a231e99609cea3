"""Sets up and tears down the volumes of Pods."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path

from podling.api.core.v1 import Pod, Volume
from podling.api.quantity import Quantity
from podling.kit import c_text, file_error
from podling.kubelet.env import ObjectSource
from podling.kubelet.pod_paths import PodPaths
from podling.kubelet.volumes import atomic_writer
from podling.kubelet.volumes.content import Payload, Space, TokenSource, fs_group, in_memory, is_content, payload
from podling.kubelet.volumes.empty_dir import EmptyDir
from podling.kubelet.volumes.host_path import HostPath
from podling.kubelet.volumes.plugin import Mounted, VolumeError, mount_tmpfs, unmount
from podling.kubelet.volumes.subpath import unmount_subpaths
from podling.runtime import tree

_CONTENT_DIRECTORIES = {
    "config_map": "kubernetes.io~configmap",
    "secret": "kubernetes.io~secret",
    "downward_api": "kubernetes.io~downward-api",
    "projected": "kubernetes.io~projected",
}


class VolumeManager:
    """Knows the volume types and where their directories are."""

    def __init__(
        self, paths: PodPaths, objects: ObjectSource, tokens: TokenSource, allocatable: Mapping[str, Quantity]
    ) -> None:
        self._paths = paths
        self._tokens = tokens
        self._objects = objects
        self._allocatable = allocatable
        memory = allocatable.get("memory")
        self._empty_dir = EmptyDir(memory.value() if memory else 0)
        self._host_path = HostPath()

    async def set_up(self, pod: Pod) -> dict[str, Mounted]:
        """All volumes of the Pod but images, by name; files of those that show API objects are brought up to date.

        Idempotent. Raises VolumeError for the first that fails, ApiError and ConnectionFailed."""
        if not pod.spec.volumes:
            return {}
        for volume in pod.spec.volumes:
            if found := c_text.flaw(volume):
                raise VolumeError(volume.name, found)
        space = Space()
        contents = {
            volume.name: await payload(pod, volume, self._objects, self._tokens, self._allocatable, space)
            for volume in pod.spec.volumes
            if is_content(volume)
        }
        return await asyncio.to_thread(self._set_up, pod, contents)

    def _set_up(self, pod: Pod, contents: Mapping[str, Payload]) -> dict[str, Mounted]:
        return {v.name: self._set_up_one(pod, v, contents) for v in pod.spec.volumes if v.image is None}

    def _set_up_one(self, pod: Pod, volume: Volume, contents: Mapping[str, Payload]) -> Mounted:
        uid = pod.metadata.uid
        if volume.host_path is not None:
            return self._host_path.set_up(volume)
        if volume.empty_dir is not None:
            directory = self._paths.volume(uid, EmptyDir.directory, volume.name)
            self._empty_dir.set_up(pod, volume, directory, fs_group(pod))
            return Mounted(directory)
        for kind, parent in _CONTENT_DIRECTORIES.items():
            if getattr(volume, kind) is not None:
                directory = self._paths.volume(uid, parent, volume.name)
                _show(volume, directory, contents[volume.name], fs_group(pod))
                return Mounted(directory, readonly=True)
        raise VolumeError(volume.name, "no volume plugin matched")

    async def tear_down(self, uid: str) -> None:
        """Unmounts and deletes whatever volumes a Pod of this UID has. Idempotent."""
        await asyncio.to_thread(self._tear_down, uid)

    def _tear_down(self, uid: str) -> None:
        unmount_subpaths(self._paths.subpaths(uid))
        root = self._paths.volumes(uid)
        if root.exists():
            for mount in _mounts_below(root):
                unmount(mount)
            tree.remove(root)


def _show(volume: Volume, directory: Path, content: Payload, group: int | None) -> None:
    try:
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        if in_memory(volume) and not os.path.ismount(directory):
            mount_tmpfs(directory, "mode=755")
        atomic_writer.write(directory, content, group)
    except ValueError as error:
        raise VolumeError(volume.name, str(error)) from error
    except OSError as error:
        raise VolumeError(volume.name, file_error.reason(error, directory)) from error


def _mounts_below(root: Path) -> list[Path]:
    """Mount points below `root`, deepest first: what removes a tree must never walk into one."""
    found = []
    prefix = f"{root}/"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            target = line.split(" ")[4].replace("\\040", " ")
            if target.startswith(prefix):
                found.append(Path(target))
    return sorted(found, key=lambda path: len(path.parts), reverse=True)
