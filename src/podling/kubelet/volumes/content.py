"""The files of configMap, secret, downwardAPI and projected volumes.

Source: Kubernetes documentation "ConfigMaps", "Secrets", "Downward API", "Projected Volumes" (items, modes, optional).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from msgspec import Struct

from podling.api.core.v1 import (
    ConfigMap,
    ConfigMapProjection,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    KeyToPath,
    Pod,
    Secret,
    SecretProjection,
    ServiceAccountTokenProjection,
    Volume,
    VolumeProjection,
)
from podling.api.quantity import Quantity
from podling.api.resources import all_containers
from podling.kubelet import downward
from podling.kubelet.env import ObjectSource, config_map_data
from podling.kubelet.service_account_tokens import TokenError
from podling.kubelet.volumes.plugin import VolumeError

_DEFAULT_MODE = 0o644

Reference = tuple[type[ConfigMap] | type[Secret], str]
"""An object that a volume shows: its kind and name, in the Pod's namespace."""


class File(Struct, frozen=True):
    data: bytes
    mode: int
    owner: int | None = None


class TokenSource(Protocol):
    """Where tokens of service accounts come from. Raises TokenError, ApiError and ConnectionFailed."""

    async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection) -> str: ...


Payload = dict[str, File]
"""By path below the volume."""

MOST: Final = 64 << 20
"""Bytes that the files of all such volumes of a Pod take. The agent writes them, so that no limit of the Pod counts them, and
a Pod may show the same megabyte under any number of names."""
_FILE: Final = 1024
"""Bytes that a file costs beside its data."""


class Space:
    """What is left of MOST for the volumes of one Pod."""

    def __init__(self) -> None:
        self._left = MOST

    def take(self, volume: Volume, files: Payload) -> Payload:
        """Return the files themselves. Raises VolumeError where they do not fit."""
        self._left -= sum(len(file.data) + _FILE for file in files.values())
        if self._left < 0:
            text = f"the files of configMap, secret, downwardAPI and projected volumes take more than {MOST >> 20} MiB"
            raise VolumeError(volume.name, text)
        return files


def is_content(volume: Volume) -> bool:
    """Whether the volume shows files made by this module."""
    sources = (volume.config_map, volume.secret, volume.downward_api, volume.projected)
    return any(source is not None for source in sources)


def references(pod: Pod) -> set[Reference]:
    """The objects whose changes change the Pod's volumes."""
    found: set[Reference] = set()
    for volume in pod.spec.volumes:
        for part in _parts(volume):
            if part.config_map is not None:
                found.add((ConfigMap, part.config_map.name))
            if part.secret is not None:
                found.add((Secret, part.secret.name))
    return found


def shows_metadata(pod: Pod) -> bool:
    """Whether a change of the Pod's labels or annotations changes its volumes."""
    return any(part.downward_api is not None for volume in pod.spec.volumes for part in _parts(volume))


def in_memory(volume: Volume) -> bool:
    """Secrets are never written to a disk."""
    return any(part.secret is not None or part.service_account_token is not None for part in _parts(volume))


def _parts(volume: Volume) -> Sequence[VolumeProjection]:
    """Every such volume as what a projected one is made of."""
    if (config := volume.config_map) is not None:
        part = ConfigMapProjection(name=config.name, items=config.items, optional=config.optional)
        return [VolumeProjection(config_map=part)]
    if (secret := volume.secret) is not None:
        own = SecretProjection(name=secret.secret_name, items=secret.items, optional=secret.optional)
        return [VolumeProjection(secret=own)]
    if volume.downward_api is not None:
        return [VolumeProjection(downward_api=DownwardAPIProjection(items=volume.downward_api.items))]
    return volume.projected.sources if volume.projected is not None else []


def _default_mode(volume: Volume) -> int:
    for source in (volume.config_map, volume.secret, volume.downward_api, volume.projected):
        if source is not None and source.default_mode is not None:
            return source.default_mode
    return _DEFAULT_MODE


async def payload(
    pod: Pod,
    volume: Volume,
    objects: ObjectSource,
    tokens: TokenSource,
    allocatable: Mapping[str, Quantity],
    space: Space,
) -> Payload:
    """Return what the volume has to show now. Raises VolumeError for what is missing and not optional, or does not fit."""
    files: Payload = {}
    mode = _default_mode(volume)
    namespace = pod.metadata.namespace
    for part in _parts(volume):
        shown: Payload = {}
        if (config := part.config_map) is not None:
            config_map = await objects.config_map(namespace, config.name)
            data = config_map_data(config_map) if config_map is not None else None
            shown = _project(volume, "configmap", config.name, data, config.items, config.optional, mode)
        elif (wanted := part.secret) is not None:
            secret = await objects.secret(namespace, wanted.name)
            data = secret.data if secret is not None else None
            shown = _project(volume, "secret", wanted.name, data, wanted.items, wanted.optional, mode)
        elif (projection := part.service_account_token) is not None:
            try:
                token = await tokens.get(pod, projection)
            except TokenError as error:
                raise VolumeError(volume.name, str(error)) from error
            owner = user(pod)
            private = owner is not None or fs_group(pod) is not None
            shown = {projection.path: File(token.encode(), 0o600 if private else mode, owner)}
        elif part.downward_api is not None:
            for item in part.downward_api.items:
                file = File(_downward(pod, volume, item, allocatable), mode if item.mode is None else item.mode)
                files |= space.take(volume, {item.path: file})
        files |= space.take(volume, shown)
    return files


def fs_group(pod: Pod) -> int | None:
    context = pod.spec.security_context
    return context.fs_group if context is not None else None


def user(pod: Pod) -> int | None:
    """Return the user that all containers run as by the Pod's specification, or None if they differ or it leaves one open."""
    own = pod.spec.security_context.run_as_user if pod.spec.security_context is not None else None
    users = set()
    for container in all_containers(pod.spec):
        context = container.security_context
        users.add(own if context is None or context.run_as_user is None else context.run_as_user)
    return users.pop() if len(users) == 1 else None


def _project(
    volume: Volume,
    kind: str,
    name: str,
    data: Mapping[str, bytes] | None,
    items: Sequence[KeyToPath],
    optional: bool | None,
    mode: int,
) -> Payload:
    if data is None:
        if optional:
            return {}
        raise VolumeError(volume.name, f'{kind} "{name}" not found')
    if not items:
        return {key: File(value, mode) for key, value in data.items()}
    files = {}
    for item in items:
        if item.key not in data:
            if optional:
                continue
            what = "config" if kind == "configmap" else "secret"
            raise VolumeError(volume.name, f"references non-existent {what} key: {item.key}")
        files[item.path] = File(data[item.key], item.mode if item.mode is not None else mode)
    return files


def _downward(pod: Pod, volume: Volume, item: DownwardAPIVolumeFile, allocatable: Mapping[str, Quantity]) -> bytes:
    try:
        if item.field_ref is not None:
            return downward.field(pod, item.field_ref).encode()
        if item.resource_field_ref is not None:
            return downward.resource(pod, None, item.resource_field_ref, allocatable).encode()
    except downward.DownwardError as error:
        raise VolumeError(volume.name, str(error)) from error
    return b""
