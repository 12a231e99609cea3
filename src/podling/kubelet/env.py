"""The environment of a container: envFrom, env with its references, and the variables of services.

Source: Kubernetes documentation "Define Environment Variables for a Container", "Service" (environment variables),
"ConfigMaps", "Secrets"; Container.env and Container.envFrom of the API reference.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from podling.api.core.v1 import ConfigMap, Container, EnvVarSource, Pod, Secret, Service
from podling.api.quantity import Quantity
from podling.kubelet import downward
from podling.kubelet.expansion import MOST, TooLong, expand


class ConfigError(Exception):
    """The container cannot be configured: waiting reason CreateContainerConfigError."""


class ObjectSource(Protocol):
    """Where the kubelet reads what Pods refer to; None for what does not exist."""

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None: ...

    async def secret(self, namespace: str, name: str) -> Secret | None: ...


def config_map_data(config_map: ConfigMap) -> dict[str, bytes]:
    """All entries, as bytes."""
    data = {key: value.encode() for key, value in config_map.data.items()}
    data.update(config_map.binary_data)
    return data


def _usable_name(name: str) -> bool:
    return bool(name) and "=" not in name and all(0x20 <= ord(char) < 0x7F for char in name)


def _text(key: str, value: str | bytes) -> str:
    try:
        return value if isinstance(value, str) else value.decode()
    except UnicodeDecodeError as error:
        raise ConfigError(f"value of key {key} is not valid UTF-8") from error


_TOO_LONG = f"command, args and environment are longer than {MOST} bytes, the most that Linux passes to a program"


class Room:
    """What is left of the bytes that the kernel passes to a program. Nothing longer is ever put together in memory."""

    def __init__(self) -> None:
        self._left = MOST

    def take(self, text: str) -> str:
        """Return `text` itself. Raises ConfigError where it does not fit."""
        self._left -= len(text)
        if self._left < 0:
            raise ConfigError(_TOO_LONG)
        return text

    def expand(self, text: str, known: Mapping[str, str]) -> str:
        """Return `text` with its references replaced. Raises ConfigError where that does not fit."""
        try:
            return self.take(expand(text, known, self._left))
        except TooLong:
            raise ConfigError(_TOO_LONG) from None

    def expand_all(self, texts: Sequence[str], known: Mapping[str, str]) -> list[str]:
        """As `expand`, for each of the texts."""
        return [self.expand(text, known) for text in texts]


async def container_env(
    pod: Pod,
    container: Container,
    objects: ObjectSource,
    services: Iterable[Service],
    allocatable: Mapping[str, Quantity],
    room: Room,
) -> list[tuple[str, str]]:
    """Return the variables in the order in which they are set, over the image's own. Raises ConfigError."""
    namespace = pod.metadata.namespace
    result: dict[str, str] = {}
    for source in container.env_from:
        entries: Mapping[str, str | bytes] = {}
        if (config_ref := source.config_map_ref) is not None:
            config_map = await objects.config_map(namespace, config_ref.name)
            if config_map is None and not config_ref.optional:
                raise ConfigError(f'configmap "{config_ref.name}" not found')
            # Not its binaryData: that is for files.
            entries = config_map.data if config_map is not None else {}
        elif (secret_ref := source.secret_ref) is not None:
            secret = await objects.secret(namespace, secret_ref.name)
            if secret is None and not secret_ref.optional:
                raise ConfigError(f'secret "{secret_ref.name}" not found')
            entries = secret.data if secret is not None else {}
        for key, value in entries.items():
            name = source.prefix + key
            if _usable_name(name):
                result[room.take(name)] = room.take(_text(key, value))
    links = service_env(services, namespace, pod.spec.enable_service_links is not False)
    known = ChainMap(result, links)
    for variable in container.env:
        if variable.value_from is None:
            resolved: str | None = room.expand(variable.value, known)
        else:
            try:
                resolved = await _referenced(pod, container, variable.value_from, objects, allocatable)
            except downward.DownwardError as error:
                raise ConfigError(str(error)) from error
            room.take(resolved or "")
        if resolved is not None:
            result.pop(variable.name, None)
            result[room.take(variable.name)] = resolved
    return [*((name, value) for name, value in links.items() if name not in result), *result.items()]


async def _referenced(
    pod: Pod,
    container: Container,
    source: EnvVarSource,
    objects: ObjectSource,
    allocatable: Mapping[str, Quantity],
) -> str | None:
    namespace = pod.metadata.namespace
    if source.field_ref is not None:
        return downward.field(pod, source.field_ref)
    if source.resource_field_ref is not None:
        return downward.resource(pod, container, source.resource_field_ref, allocatable)
    if (config_ref := source.config_map_key_ref) is not None:
        config_map = await objects.config_map(namespace, config_ref.name)
        if config_map is None:
            if config_ref.optional:
                return None
            raise ConfigError(f'configmap "{config_ref.name}" not found')
        text = config_map.data.get(config_ref.key)
        if text is None and not config_ref.optional:
            raise ConfigError(f"couldn't find key {config_ref.key} in ConfigMap {namespace}/{config_ref.name}")
        return text
    if (secret_ref := source.secret_key_ref) is not None:
        secret = await objects.secret(namespace, secret_ref.name)
        if secret is None:
            if secret_ref.optional:
                return None
            raise ConfigError(f'secret "{secret_ref.name}" not found')
        found = secret.data.get(secret_ref.key)
        if found is None and not secret_ref.optional:
            raise ConfigError(f"couldn't find key {secret_ref.key} in Secret {namespace}/{secret_ref.name}")
        return None if found is None else _text(secret_ref.key, found)
    return None


def service_env(services: Iterable[Service], namespace: str, links: bool) -> dict[str, str]:
    """Variables of the namespace's services (where `links`) and of default/kubernetes."""
    chosen: dict[str, Service] = {}
    for service in services:
        name = service.metadata.name
        if service.spec.cluster_ip in ("", "None"):
            continue
        if service.metadata.namespace == namespace and links:
            chosen[name] = service
        elif service.metadata.namespace == "default" and name == "kubernetes":
            chosen.setdefault(name, service)
    env: dict[str, str] = {}
    for name in sorted(chosen):
        env.update(_service_variables(chosen[name]))
    return env


def _service_variables(service: Service) -> dict[str, str]:
    if not service.spec.ports:
        return {}
    prefix = _variable(service.metadata.name)
    host = service.spec.cluster_ip
    address = f"[{host}]" if ":" in host else host
    first = service.spec.ports[0]
    env = {f"{prefix}_SERVICE_HOST": host, f"{prefix}_SERVICE_PORT": str(first.port)}
    for port in service.spec.ports:
        if port.name:
            env[f"{prefix}_SERVICE_PORT_{_variable(port.name)}"] = str(port.port)
    for index, port in enumerate(service.spec.ports):
        protocol = port.protocol or "TCP"
        url = f"{protocol.lower()}://{address}:{port.port}"
        if index == 0:
            env[f"{prefix}_PORT"] = url
        base = f"{prefix}_PORT_{port.port}_{protocol.upper()}"
        env[base] = url
        env[f"{base}_PROTO"] = protocol.lower()
        env[f"{base}_PORT"] = str(port.port)
        env[f"{base}_ADDR"] = host
    return env


def _variable(name: str) -> str:
    return name.replace("-", "_").upper()
