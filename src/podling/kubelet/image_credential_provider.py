"""Credential provider plugins: programs that the kubelet asks for a registry's credentials.

Source: Kubernetes documentation "Configure a kubelet image credential provider"; kubelet configuration
CredentialProviderConfig (kubelet.config.k8s.io/v1), exec API credentialprovider.kubelet.k8s.io/v1.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from podling.api.go import parse_duration, quote
from podling.kit import document_error, file_error, program
from podling.kubelet.image_credentials import Auths, matches
from podling.runtime.protocol import AuthConfig

log = logging.getLogger(__name__)

CONFIG_VERSIONS = ("kubelet.config.k8s.io/v1",)
API_VERSION = "credentialprovider.kubelet.k8s.io/v1"
_EXEC_SECONDS = 60.0
_MAX_RESPONSE = 1 << 20


class ProviderConfigError(Exception):
    """The configuration of the plugins is wrong; the message says where."""


class EnvVar(Struct, forbid_unknown_fields=True):
    name: str
    value: str = ""


class Provider(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """`default_cache_duration` is a Go duration, "12h"."""

    name: str
    match_images: list[str] = field(default_factory=list)
    default_cache_duration: str | None = None
    api_version: str = ""
    args: list[str] = field(default_factory=list)
    env: list[EnvVar] = field(default_factory=list)
    token_attributes: dict[str, Any] | None = None


class _Config(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    kind: str = ""
    api_version: str = ""
    providers: list[Provider] = field(default_factory=list)


class _Response(Struct, forbid_unknown_fields=True, rename="camel", kw_only=True):
    kind: Literal["CredentialProviderResponse"]
    api_version: str
    cache_key_type: Literal["Image", "Registry", "Global"]
    cache_duration: str | None = None
    auth: dict[str, _Auth] | None = None


class _Auth(Struct, forbid_unknown_fields=True):
    username: str = ""
    password: str = ""


def load(config: Path, bin_dir: Path) -> list[CredentialProvider]:
    """Reads the configuration, a file or a directory of *.json, *.yaml and *.yml files. Blocks.

    Raises ProviderConfigError for everything that would make a plugin fail later.
    """
    providers: list[Provider] = []
    for file in _files(config):
        providers += _read(file)
    if not providers:
        raise ProviderConfigError("providers: Required value: at least 1 item in plugins is required")
    for i, provider in enumerate(providers):
        if any(provider.name == other.name for other in providers[:i]):
            raise ProviderConfigError(f"duplicate provider name {quote(provider.name)} found in configuration file(s)")
        _validate(provider, f"{config}: provider {quote(provider.name)}: ")
        program = bin_dir / provider.name
        if not os.access(program, os.X_OK) or program.is_dir():
            raise ProviderConfigError(f"plugin binary executable {program} did not exist")
    return [CredentialProvider(provider, bin_dir / provider.name) for provider in providers]


def _files(config: Path) -> list[Path]:
    if not config.is_dir():
        return [config]
    files = sorted(file for file in config.iterdir() if file.suffix in (".json", ".yaml", ".yml") and file.is_file())
    if not files:
        raise ProviderConfigError(f"no configuration files found in directory {quote(str(config))}")
    return files


def _read(file: Path) -> list[Provider]:
    import yaml

    from podling.api import yaml_document

    try:
        document, _ = yaml_document.load(file.read_bytes())
        config = msgspec.json.decode(msgspec.json.encode(document), type=_Config)
    except OSError as error:
        raise ProviderConfigError(file_error.reason(error, file)) from None
    except (ValueError, TypeError, RecursionError, yaml.YAMLError) as error:
        raise ProviderConfigError(f"error decoding config {quote(str(file))}: {document_error.reason(error)}") from None
    if config.kind != "CredentialProviderConfig" or config.api_version not in CONFIG_VERSIONS:
        what = f"{config.api_version or 'no apiVersion'}, kind {config.kind or 'none'}"
        wanted = f"{CONFIG_VERSIONS[0]}, kind CredentialProviderConfig"
        raise ProviderConfigError(f"error decoding config {quote(str(file))}: it is {what} instead of {wanted}")
    return config.providers


def _validate(provider: Provider, where: str) -> None:
    if not provider.name or provider.name in (".", "..") or "/" in provider.name or " " in provider.name:
        raise ProviderConfigError(f"{where}name: it must be the name of a program, without '/' and spaces")
    if provider.api_version != API_VERSION:
        raise ProviderConfigError(
            f"{where}apiVersion: Unsupported value: {quote(provider.api_version)}: supported values: {quote(API_VERSION)}"
        )
    if not provider.match_images:
        raise ProviderConfigError(f"{where}matchImages: Required value: at least 1 item in matchImages is required")
    if provider.token_attributes is not None:
        raise ProviderConfigError(
            f"{where}tokenAttributes: Forbidden: service account tokens for credential providers are not supported"
        )
    if provider.default_cache_duration is None:
        raise ProviderConfigError(f"{where}defaultCacheDuration: Required value")
    try:
        duration = parse_duration(provider.default_cache_duration)
    except ValueError as error:
        raise ProviderConfigError(f"{where}defaultCacheDuration: {error}") from None
    if duration < 0:
        raise ProviderConfigError(f"{where}defaultCacheDuration: it must be greater than or equal to 0")


class CredentialProvider:
    """One plugin. `timeout` in seconds."""

    def __init__(self, provider: Provider, program: Path, *, timeout: float = _EXEC_SECONDS) -> None:
        self.name = provider.name
        self._provider = provider
        self._program = program
        self._timeout = timeout
        self._default_seconds = parse_duration(provider.default_cache_duration or "0")
        self._cache: dict[str, tuple[float, Auths]] = {}
        self._running: dict[str, asyncio.Future[Auths | None]] = {}

    async def auths(self, repository: str) -> Auths:
        """What the plugin gives for the repository; nothing if it is not one of its, or if it fails, which is logged.

        Calls for the same repository at the same time run the plugin once.
        """
        if not any(matches(pattern, repository) for pattern in self._provider.match_images):
            return {}
        cached = self._cached(repository)
        while cached is None and (running := self._running.get(repository)) is not None:
            # None: whoever ran the plugin was cancelled.
            cached = await asyncio.shield(running)
        if cached is not None:
            return cached
        self._running[repository] = done = asyncio.get_running_loop().create_future()
        found: Auths | None = None
        try:
            found = await self._ask(repository)
        except ProviderFailed as error:
            log.error("credential provider plugin %s for image %s: %s", self.name, repository, error)
            found = {}
        finally:
            del self._running[repository]
            done.set_result(found)
        return found

    def _cached(self, repository: str) -> Auths | None:
        now = time.monotonic()
        self._cache = {key: entry for key, entry in self._cache.items() if entry[0] > now}
        for key in (f"image {repository}", f"registry {_registry(repository)}", "global"):
            if key in self._cache:
                return self._cache[key][1]
        return None

    async def _ask(self, repository: str) -> Auths:
        request = {"kind": "CredentialProviderRequest", "apiVersion": API_VERSION, "image": repository}
        output = await self._run(msgspec.json.encode(request))
        try:
            response = msgspec.json.decode(output, type=_Response)
            seconds = self._default_seconds
            if response.cache_duration is not None:
                seconds = parse_duration(response.cache_duration)
        except (ValueError, RecursionError):
            # Not what exactly is wrong with it: that may hold a part of the credentials.
            raise ProviderFailed("error decoding credential provider plugin response from stdout") from None
        if response.api_version != API_VERSION:
            raise ProviderFailed(
                "apiVersion from credential plugin response did not match expected "
                f"apiVersion:{API_VERSION}, actual apiVersion:{response.api_version}"
            )
        auths = {
            server: AuthConfig(username=auth.username, password=auth.password, server_address=server)
            for server, auth in (response.auth or {}).items()
        }
        if seconds > 0:
            keys = {"Image": f"image {repository}", "Registry": f"registry {_registry(repository)}", "Global": "global"}
            self._cache[keys[response.cache_key_type]] = (time.monotonic() + seconds, auths)
        return auths

    async def _run(self, request: bytes) -> bytes:
        environment = {**os.environ, **{variable.name: variable.value for variable in self._provider.env}}
        try:
            async with asyncio.timeout(self._timeout):
                ended = await program.run(str(self._program), *self._provider.args, input=request, env=environment)
        except TimeoutError:
            raise ProviderFailed(f"it did not answer within {self._timeout:g} s") from None
        except OSError as error:
            raise ProviderFailed(f"it cannot be run: {file_error.reason(error, self._program)}") from None
        if ended.code:
            said = " ".join(ended.stderr.decode(errors="replace").split())[:400]
            raise ProviderFailed(f"exit status {ended.code}" + (f": {said}" if said else ""))
        if len(ended.stdout) > _MAX_RESPONSE:
            raise ProviderFailed("its response is too long")
        return ended.stdout


class ProviderFailed(Exception):
    """A plugin gave no credentials; the message holds none either."""


def _registry(repository: str) -> str:
    return repository.partition("/")[0]
