"""A container's files: its root file system, image volumes, configuration, log directory; and their removal."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from podling.kit import c_text
from podling.runtime.native import image_volumes, mount_point, rootfs, spec, syscalls, user
from podling.runtime.native.host import Host
from podling.runtime.native.spec import SandboxFiles
from podling.runtime.native.state import ContainerRecord
from podling.runtime.protocol import ContainerConfig, CRIError, Image


def make(
    host: Host,
    record: ContainerRecord,
    files: SandboxFiles,
    image: Image,
    layers: Sequence[Path],
    volumes: Mapping[int, Sequence[Path]],
) -> None:
    """Mounts `layers`, resolves the user (into `record`) and writes config.json. Blocking; about 1 ms.

    `volumes` maps the index of an image volume in the configuration's mounts to its image's layers. Raises CRIError and
    OSError; then `remove_traces` is to be called.
    """
    config, bundle = record.config, host.layout.bundles / record.id
    _refuse_flaws(config, image)
    directory = host.records.container_dir(record.id)
    # The directory without a record tells an agent that starts after us that this was not completed.
    directory.mkdir(mode=0o700)
    bundle.mkdir(mode=0o700)
    root = bundle / "rootfs"
    rootfs.mount(root, layers, directory / "upper", directory / "work")
    mounts = list(config.mounts)
    for index, volume in volumes.items():
        target = bundle / "images" / str(index)
        rootfs.mount_readonly(target, volume, bundle / "empty")
        source = _inside(target, mounts[index].image_sub_path)
        mounts[index] = msgspec.structs.replace(mounts[index], host_path=source, readonly=True)
    mounts += image_volumes.make(root, directory / "volumes", image.config.volumes, mounts)
    placed = mount_point.place(root, mounts, config.security.privileged)
    who = user.resolve(root, image.config.user, config.security)
    record.user = (who.uid, who.gid, who.groups)
    working_directory = spec.working_directory(config, image.config)
    if not any(_covers(mount.container_path, working_directory) for mount in mounts):
        rootfs.make_directory(root, working_directory)
    document = spec.build(
        config,
        image.config,
        who,
        files,
        rootfs=str(root),
        cgroup=record.cgroup,
        cgroup_mode=host.cgroups.mode,
        mounts=placed,
    )
    (bundle / "config.json").write_bytes(msgspec.json.encode(document))
    if record.log_path:
        os.makedirs(os.path.dirname(record.log_path), exist_ok=True)


def _refuse_flaws(config: ContainerConfig, image: Image) -> None:
    if found := c_text.flaw(config):
        raise CRIError("CreateContainerError", found)
    if found := c_text.flaw(image.config):
        field, _, why = found.partition(" ")
        raise CRIError("CreateContainerError", f"{field} of the image {why}")


def remove_traces(host: Host, container_id: str) -> None:
    """Unmounts and deletes what is named after a container. Idempotent; blocking. The record goes last."""
    remove(host, container_id)
    host.records.remove_container(container_id)


def remove(host: Host, container_id: str) -> None:
    """Removes the bundle only: the writable layer and the record stay."""
    bundle = host.layout.bundles / container_id
    rootfs.unmount(bundle / "rootfs")
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(bundle / "images"):
            rootfs.unmount(bundle / "images" / name)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(bundle)
    (host.layout.exits / container_id).unlink(missing_ok=True)


def _inside(root: Path, path: str) -> str:
    """The path on the node of a path in an image: links are followed, but none out of the image."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = syscalls.open_in_root(root_fd, path or "/", os.O_PATH)
        try:
            return os.readlink(f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)
    except OSError as error:
        raise CRIError("CreateContainerError", f"{path} of the image volume: {error.strerror}") from error
    finally:
        os.close(root_fd)


def _covers(mountpoint: str, path: str) -> bool:
    mountpoint = mount_point.absolute(mountpoint)
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")
