"""volumeMounts and volumeDevices of a container."""

from __future__ import annotations

from podling.api import field
from podling.api.core.v1 import VolumeMount
from podling.api.field import FieldError, Path
from podling.api.validation import files
from podling.api.validation.visit import AnyContainer
from podling.api.validation.volume import ByName

_PROPAGATION = ("Bidirectional", "HostToContainer", "None")
_RECURSIVE = ("Disabled", "Enabled", "IfPossible")


def volume_mounts(container: AnyContainer, volumes: ByName, path: Path, errors: list[FieldError]) -> None:
    """`volumes` are the Pod's valid ones; upstream reports some mistakes at the list without the mount's index."""
    devices = {device.name: device.device_path for device in container.volume_devices}
    seen: set[str] = set()
    for i, mount in enumerate(container.volume_mounts):
        at = path.index(i)
        if not mount.name:
            errors.append(field.required(at.child("name"), ""))
        if mount.name not in volumes:
            errors.append(field.not_found(at.child("name"), mount.name))
        if not mount.mount_path:
            errors.append(field.required(at.child("mountPath"), ""))
        if mount.mount_path in seen:
            errors.append(field.invalid(at.child("mountPath"), mount.mount_path, "must be unique"))
        seen.add(mount.mount_path)
        if mount.name in devices:
            message = "must not already exist in volumeDevices"
            errors.append(field.invalid(at.child("name"), mount.name, message))
        if mount.mount_path in devices.values():
            message = "must not already exist as a path in volumeDevices"
            errors.append(field.invalid(at.child("mountPath"), mount.mount_path, message))
        if mount.sub_path:
            files.local_descending(mount.sub_path, path.child("subPath"), errors)
        if mount.sub_path_expr:
            if mount.sub_path:
                message = "subPathExpr and subPath are mutually exclusive"
                errors.append(field.invalid(at.child("subPathExpr"), mount.sub_path_expr, message))
            files.local_descending(mount.sub_path_expr, path.child("subPathExpr"), errors)
        if mount.mount_propagation is not None:
            _propagation(mount.mount_propagation, container, path.child("mountPropagation"), errors)
        if mount.recursive_read_only is not None:
            _recursive_read_only(mount, path.child("recursiveReadOnly"), errors)


def _propagation(mode: str, container: AnyContainer, path: Path, errors: list[FieldError]) -> None:
    if mode not in _PROPAGATION:
        errors.append(field.not_supported(path, mode, _PROPAGATION))
    security = container.security_context
    if mode == "Bidirectional" and not (security is not None and security.privileged):
        message = "Bidirectional mount propagation is available only to privileged containers"
        errors.append(field.forbidden(path, message))


def _recursive_read_only(mount: VolumeMount, path: Path, errors: list[FieldError]) -> None:
    mode = mount.recursive_read_only
    if mode not in _RECURSIVE:
        errors.append(field.not_supported(path, mode, _RECURSIVE))
    elif mode != "Disabled":
        if not mount.read_only:
            errors.append(field.forbidden(path, "may only be specified when readOnly is true"))
        if mount.mount_propagation not in (None, "None"):
            message = "may only be specified when mountPropagation is None or not specified"
            errors.append(field.forbidden(path, message))


def volume_devices(container: AnyContainer, volumes: ByName, path: Path, errors: list[FieldError]) -> None:
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts}
    names_seen: set[str] = set()
    paths_seen: set[str] = set()
    for i, device in enumerate(container.volume_devices):
        at = path.index(i)
        volume = volumes.get(device.name)
        if not device.name:
            errors.append(field.required(at.child("name"), ""))
        if device.name in names_seen:
            errors.append(field.invalid(at.child("name"), device.name, "must be unique"))
        if volume is None:
            errors.append(field.not_found(at.child("name"), device.name))
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            message = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            errors.append(field.invalid(at.child("name"), device.name, message))
        if not device.device_path:
            errors.append(field.required(at.child("devicePath"), ""))
        if device.device_path in paths_seen:
            errors.append(field.invalid(at.child("devicePath"), device.device_path, "must be unique"))
        if ".." in device.device_path.split("/"):
            message = "can not contain backsteps ('..')"
            errors.append(field.invalid(at.child("devicePath"), device.device_path, message))
        else:
            paths_seen.add(device.device_path)
        if device.name in mounts:
            message = "must not already exist in volumeMounts"
            errors.append(field.invalid(at.child("name"), device.name, message))
        if device.device_path in mounts.values():
            message = "must not already exist as a path in volumeMounts"
            errors.append(field.invalid(at.child("devicePath"), device.device_path, message))
        if device.name:
            names_seen.add(device.name)
