"""Credentials for registries, from image pull secrets.

Source: Kubernetes documentation "Images" (imagePullSecrets, interpretation of config.json: exact host, globs per host part,
path prefixes), "Pull an Image from a Private Registry".
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import logging
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct, field

from podling.api.core.v1 import Secret
from podling.kubelet.env import secret_data
from podling.runtime.protocol import AuthConfig

log = logging.getLogger(__name__)

_FILES = {"kubernetes.io/dockerconfigjson": ".dockerconfigjson", "kubernetes.io/dockercfg": ".dockercfg"}
_DOCKER_HUB = ("index.docker.io", "docker.io", "registry-1.docker.io")


class Keyring(Struct):
    """Credentials in the order in which they are to be tried, by registry pattern."""

    entries: list[tuple[str, AuthConfig]] = field(default_factory=list)

    @classmethod
    def of(cls, secrets: Iterable[Secret]) -> Keyring:
        """From Secrets of the two docker types; what cannot be read is left out with a warning in the log."""
        keyring = cls()
        for secret in secrets:
            name = _FILES.get(secret.type)
            try:
                content = secret_data(secret).get(name, b"") if name else b""
                config: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
                keyring.add(config.get("auths", {}) if secret.type.endswith("json") else config)
            except (ValueError, binascii.Error, msgspec.MsgspecError):
                where = f"{secret.metadata.namespace}/{secret.metadata.name}"
                log.warning("image pull secret %s cannot be read", where)
        return keyring

    def add(self, auths: dict[str, dict[str, str]]) -> None:
        """Adds the "auths" of a docker config.json."""
        for server, entry in auths.items():
            username, password = entry.get("username", ""), entry.get("password", "")
            if not username and entry.get("auth"):
                username, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
            auth = AuthConfig(
                username=username,
                password=password,
                identity_token=entry.get("identitytoken", ""),
                registry_token=entry.get("registrytoken", ""),
                server_address=server,
            )
            self.entries.append((_pattern(server), auth))

    def lookup(self, image: str) -> list[AuthConfig]:
        """What may open this image, the longest pattern first."""
        location = _location(image)
        found = [(pattern, auth) for pattern, auth in self.entries if _matches(pattern, location)]
        return [auth for _, auth in sorted(found, key=lambda entry: len(entry[0]), reverse=True)]


def _pattern(server: str) -> str:
    server = server.removeprefix("https://").removeprefix("http://").rstrip("/")
    host, _, path = server.partition("/")
    if host in _DOCKER_HUB:
        host = "docker.io"
    path = path.removeprefix("v1").removeprefix("v2").strip("/") if path in ("v1", "v2") else path
    return f"{host}/{path}" if path else host


def _location(image: str) -> str:
    """Registry and repository of an image reference, without tag and digest."""
    name = image.partition("@")[0]
    first, slash, rest = name.partition("/")
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        first, rest = "docker.io", name if slash else f"library/{name}"
    elif first in _DOCKER_HUB:
        first = "docker.io"
    last = rest.rpartition("/")[2]
    if ":" in last:
        rest = rest[: len(rest) - len(last)] + last.partition(":")[0]
    return f"{first}/{rest}"


def _matches(pattern: str, location: str) -> bool:
    """Host parts match as globs one by one, ports exactly; the pattern's path is a prefix of the image's."""
    pattern_host, _, pattern_path = pattern.partition("/")
    host, _, path = location.partition("/")
    pattern_name, _, pattern_port = pattern_host.partition(":")
    name, _, port = host.partition(":")
    parts, wanted = name.split("."), pattern_name.split(".")
    if port != pattern_port or len(parts) != len(wanted):
        return False
    if not all(fnmatch.fnmatchcase(part, glob) for part, glob in zip(parts, wanted, strict=True)):
        return False
    return path == pattern_path or path.startswith(f"{pattern_path}/" if pattern_path else "")
