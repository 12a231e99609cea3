"""Finds the credentials that a Pod may use for an image: its pull secrets, the node's file, the plugins', in this order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from msgspec import Struct, field

from podling.api.core.v1 import Pod, Secret
from podling.kubelet.env import ObjectSource
from podling.kubelet.image_auth_file import NodeAuthFile
from podling.kubelet.image_credential_provider import CredentialProvider
from podling.kubelet.image_credentials import Credential, CredentialsError, Keyring, SecretSource, secret_auths

_LARGE = 64 << 10
"""Bytes of secrets that take too long to read for the event loop."""


class Found(Struct):
    """`missing` names pull secrets that do not exist; `unreadable` says what is wrong with those that cannot be read.

    Another `fingerprint` means that trying again may have another outcome. Plugins do not count there: theirs may be new
    ones every time.
    """

    credentials: list[Credential] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    fingerprint: tuple[str, ...] = ()


class PullCredentials:
    """One node's."""

    def __init__(
        self, objects: ObjectSource, auth_file: NodeAuthFile, providers: Sequence[CredentialProvider] = ()
    ) -> None:
        self._objects = objects
        self._auth_file = auth_file
        self._providers = providers

    async def lookup(self, pod: Pod, repository: str) -> Found:
        """Raises ApiError and ConnectionFailed when the Pod's secrets cannot be asked for."""
        found = Found()
        secrets: list[Secret] = []
        for name in dict.fromkeys(reference.name for reference in pod.spec.image_pull_secrets if reference.name):
            secret = await self._objects.secret(pod.metadata.namespace, name)
            if secret is None:
                found.missing.append(name)
            else:
                secrets.append(secret)
        size = sum(len(content) for secret in secrets for content in secret.data.values())
        if size < _LARGE:
            lasting = self._lasting(secrets, repository, found)
        else:
            lasting = await asyncio.to_thread(self._lasting, secrets, repository, found)
        plugins = Keyring()
        for auths in await asyncio.gather(*(provider.auths(repository) for provider in self._providers)):
            plugins.add(auths)
        found.fingerprint = tuple(credential.hash for credential in lasting)
        found.credentials = [*lasting, *plugins.lookup(repository)]
        return found

    def _lasting(self, secrets: Sequence[Secret], repository: str, found: Found) -> list[Credential]:
        """Those of the Pod's secrets, then those of the node's file."""
        own, node = Keyring(), Keyring()
        for secret in secrets:
            meta = secret.metadata
            try:
                own.add(secret_auths(secret), SecretSource(meta.uid, meta.namespace, meta.name))
            except CredentialsError as error:
                found.unreadable.append(f"{meta.name}: {error}")
        node.add(self._auth_file.auths())
        return [*own.lookup(repository), *node.lookup(repository)]
