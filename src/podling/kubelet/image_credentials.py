"""Credentials for registries: what image pull secrets and docker's configuration files say, and for which images.

Source: Kubernetes documentation "Images" (imagePullSecrets, interpretation of config.json), "Pull an Image from a Private
Registry". Which entry fits which image, and in which order, is upstream's keyring (pkg/credentialprovider).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from podling.api.core.v1 import Secret
from podling.kit.short_cache import short_cache
from podling.runtime.protocol import AuthConfig

CONFIG_JSON = "kubernetes.io/dockerconfigjson"
DOCKERCFG = "kubernetes.io/dockercfg"
_FILES = {CONFIG_JSON: ".dockerconfigjson", DOCKERCFG: ".dockercfg"}

_DEFAULT_REGISTRY = "index.docker.io"
"""What docker calls its Hub in configuration files: used for docker.io when no entry names that."""


_SHORTEST_HIDDEN = 4
"""A password shorter than that is in any text, and hiding it there would tell it."""


class CredentialsError(Exception):
    """Credentials that cannot be read. The message never holds any part of them."""


class SecretSource(Struct, frozen=True):
    """The Secret that a credential came from."""

    uid: str
    namespace: str
    name: str


class Credential(Struct):
    """`source` None: it is the node's own, and what it opens every Pod of the node may use."""

    auth: AuthConfig
    source: SecretSource | None = None

    @property
    def hash(self) -> str:
        """Tells credentials apart without telling them: what records on disk hold."""
        auth = self.auth
        fields = [auth.username, auth.password, auth.identity_token, auth.registry_token]
        return f"sha256:{hashlib.sha256(msgspec.json.encode(fields)).hexdigest()}"


def redacted(text: str, auth: AuthConfig) -> str:
    """The text without the credentials, should a registry have repeated them in an error."""
    encoded = base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()
    for hidden in (encoded, auth.password, auth.identity_token, auth.registry_token):
        if len(hidden) >= _SHORTEST_HIDDEN:
            text = text.replace(hidden, "[hidden]")
    return text


class _Entry(Struct):
    username: str | None = None
    password: str | None = None
    auth: str | None = None
    identitytoken: str | None = None
    registrytoken: str | None = None


class _ConfigJson(Struct):
    auths: dict[str, _Entry] | None = None


Auths = Mapping[str, AuthConfig]
"""By server, as the file writes it: a host with an optional port and path, or a URL; `*` and `[...]` in host parts."""


def config_json(content: bytes) -> Auths:
    """Reads a docker config.json. Raises CredentialsError."""
    try:
        entries = msgspec.json.decode(content, type=_ConfigJson).auths
    except (ValueError, RecursionError):
        raise CredentialsError("it is no docker config.json") from None
    return _auths(entries or {})


def dockercfg(content: bytes) -> Auths:
    """Reads the older .dockercfg, which has no "auths" around its entries. Raises CredentialsError."""
    try:
        entries = msgspec.json.decode(content, type=dict[str, _Entry])
    except (ValueError, RecursionError):
        raise CredentialsError("it is no .dockercfg") from None
    return _auths(entries)


def secret_auths(secret: Secret) -> Auths:
    """What a Secret says; nothing, if it is of another type than the two. Raises CredentialsError."""
    file = _FILES.get(secret.type)
    if file is None:
        return {}
    content = secret.data.get(file, b"")
    if not content:
        return {}
    return config_json(content) if secret.type == CONFIG_JSON else dockercfg(content)


def _auths(entries: Mapping[str, _Entry]) -> Auths:
    return {server: _auth(server, entry) for server, entry in entries.items()}


def _auth(server: str, entry: _Entry) -> AuthConfig:
    username, password = entry.username or "", entry.password or ""
    if entry.auth:
        try:
            # Both with padding and without.
            text = entry.auth.strip().rstrip("=")
            decoded = base64.b64decode(text + "=" * (-len(text) % 4), validate=True).decode()
        except ValueError:
            raise CredentialsError(f'the auth field of "{server}" is not base64 text') from None
        username, colon, password = decoded.partition(":")
        if not colon:
            raise CredentialsError(f'the auth field of "{server}" must be formatted as base64(username:password)')
    return AuthConfig(
        username=username,
        password=password.rstrip("\0"),
        identity_token=entry.identitytoken or "",
        registry_token=entry.registrytoken or "",
        server_address=server,
    )


class Keyring:
    """Credentials by the images that they are for."""

    def __init__(self) -> None:
        self._credentials: dict[str, list[Credential]] = {}

    def add(self, auths: Auths, source: SecretSource | None = None) -> None:
        """Entries whose server cannot be one are left out."""
        for server, auth in auths.items():
            if key := _key(server):
                self._credentials.setdefault(key, []).append(Credential(auth, source))

    def lookup(self, repository: str) -> list[Credential]:
        """What may open the repository (domain/path), in the order in which it is to be tried.

        More specific paths come before less specific ones; entries for the same server in the order they were added.
        """
        keys = sorted(self._credentials, reverse=True)
        found = [credential for key in keys if matches(key, repository) for credential in self._credentials[key]]
        if not found and repository.startswith("docker.io/"):
            return list(self._credentials.get(_DEFAULT_REGISTRY, ()))
        return found


def _key(server: str) -> str:
    """Host, port and path prefix that an entry is for; empty if it is none. docker's /v1/ and /v2/ are no path."""
    location = server.removeprefix("https://") if server.startswith("https://") else server.removeprefix("http://")
    location = re.split(r"[?#]", location)[0]
    host, slash, path = location.partition("/")
    if not _HOST.fullmatch(host):
        return ""
    path = slash + path
    if path.startswith(("/v1/", "/v2/")):
        path = path[3:]
    return host if path in ("", "/") else host + path


_HOST = re.compile(r"(?:\[[^\s/]*\]|[^\s/?#@%:]*)(?::\d*)?")


def matches(pattern: str, location: str) -> bool:
    """Whether the pattern (as in matchImages of credential providers) covers the location (host[:port][/path]).

    Host parts match one by one as globs, the port exactly; the pattern's path is a prefix of the location's.
    """
    pattern_host, pattern_slash, pattern_path = pattern.partition("/")
    host, slash, path = location.partition("/")
    pattern_name, pattern_port = _split_port(pattern_host)
    name, port = _split_port(host)
    wanted, parts = pattern_name.split("."), name.split(".")
    return (
        pattern_port == port
        and len(wanted) == len(parts)
        and (slash + path).startswith(pattern_slash + pattern_path)
        and all(_glob(glob, part) for glob, part in zip(wanted, parts, strict=True))
    )


def _split_port(host: str) -> tuple[str, str]:
    if host.endswith("]"):
        return host, ""
    name, _, port = host.rpartition(":")
    return (name, port) if name else (host, "")


def _glob(pattern: str, text: str) -> bool:
    """Go's path/filepath.Match: `*`, `?`, `[a-z]`, `[^a-z]`, and a backslash before what stands for itself."""
    if pattern == text or not any(special in pattern for special in "*?[\\"):
        return pattern == text
    tokens = _tokens(pattern)
    if tokens is None:
        return False
    # Not a regular expression: a hostile one, out of some user's Secret, would take for ever.
    at, token, star, resume = 0, 0, -1, 0
    while at < len(text):
        if token < len(tokens) and tokens[token] is None:
            star, resume = token, at
            token += 1
        elif token < len(tokens) and _fits(tokens[token], text[at]):
            token += 1
            at += 1
        elif star >= 0:
            resume += 1
            token, at = star + 1, resume
        else:
            return False
    return all(rest is None for rest in tokens[token:])


class _One(Struct, frozen=True):
    """Stands for one character of these ranges, or of none of them."""

    ranges: tuple[tuple[str, str], ...]
    negated: bool = False


_ANY = _One((), negated=True)
_CLASS = re.compile(r"\[(\^?)((?:\\.|[^\\\]])+)\]", re.DOTALL)
_RANGE = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.DOTALL)


def _fits(token: _One | None, char: str) -> bool:
    assert token is not None
    return any(low <= char <= high for low, high in token.ranges) is not token.negated


@short_cache(1024)
def _tokens(pattern: str) -> tuple[_One | None, ...] | None:
    """What stands for one character each; None stands for any number of them. None at all: the pattern is none."""
    found: list[_One | None] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "[":
            members = _CLASS.match(pattern, at)
            if members is None:
                return None
            ranges = tuple((low[-1], (high or low)[-1]) for low, high in _RANGE.findall(members[2]))
            found.append(_One(ranges, negated=bool(members[1])))
            at = members.end()
            continue
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            char = pattern[at]
            found.append(_One(((char, char),)))
        elif char == "*":
            found.append(None)
        else:
            found.append(_ANY if char == "?" else _One(((char, char),)))
        at += 1
    return tuple(found)
