"""Secrets of type kubernetes.io/service-account-token hold a token of the service account that they name.

They are filled with the token, the certificate of the authority and their namespace; one whose service account does not
exist (any more) is deleted, and a deleted one leaves the account's list of secrets.
Source: upstream pkg/controller/serviceaccount/tokens_controller.go.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from podling.api import codec
from podling.api.core.v1 import Secret, ServiceAccount
from podling.api.status import ApiError
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers.work_queue import WorkQueue

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"

Sign = Callable[[ServiceAccount, Secret], str]
"""Makes the token that a Secret holds for its service account."""

_Key = tuple[str, str]
"""Namespace and name."""


class ServiceAccountTokensController:
    def __init__(self, client: Client, informers: InformerSet, root_ca: bytes, sign: Sign) -> None:
        self._client = client
        self._root_ca = root_ca
        self._sign = sign
        self._secrets: Informer[Secret] = informers.of(Secret, field_selector=f"type={TYPE}")
        self._accounts = informers.of(ServiceAccount)
        self._queue: WorkQueue[_Key] = WorkQueue("service account token", self._sync, workers=2)
        self._removed: WorkQueue[tuple[str, str, str]] = WorkQueue("removed token", self._remove_reference)
        self._secrets.add_handler(self._on_secret)
        self._accounts.add_handler(self._on_account)

    async def run(self) -> None:
        await self._secrets.synced()
        await self._accounts.synced()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._queue.run())
            tasks.create_task(self._removed.run())

    def _on_secret(self, type: EventType, secret: Secret, old: Secret | None) -> None:
        meta = secret.metadata
        if type is EventType.DELETED:
            self._removed.add((meta.namespace, meta.annotations.get(ACCOUNT_NAME, ""), meta.name))
        else:
            self._queue.add((meta.namespace, meta.name))

    def _on_account(self, type: EventType, account: ServiceAccount, old: ServiceAccount | None) -> None:
        if type is not EventType.DELETED:
            return
        for secret in self._secrets.list(account.metadata.namespace):
            if secret.metadata.annotations.get(ACCOUNT_NAME) == account.metadata.name:
                self._queue.add((secret.metadata.namespace, secret.metadata.name))

    async def _sync(self, key: _Key) -> None:
        secret = self._secrets.get(*key)
        if secret is None or secret.metadata.deletion_timestamp:
            return
        account = await self._account_of(secret)
        try:
            if account is None:
                meta = secret.metadata
                await self._client.delete(
                    Secret, meta.name, meta.namespace, uid=meta.uid, resource_version=meta.resource_version
                )
            elif (filled := self._filled(secret, account)) is not None:
                await self._client.update(filled)
        except ApiError as error:
            # Another write came between: its event brings the Secret back.
            if error.code not in (404, 409):
                raise

    async def _account_of(self, secret: Secret) -> ServiceAccount | None:
        meta = secret.metadata
        name = meta.annotations.get(ACCOUNT_NAME, "")
        account = self._accounts.get(meta.namespace, name)
        if account is None or not _belongs(secret, account):
            # The view may be behind, and a deletion cannot be taken back.
            try:
                account = await self._client.get(ServiceAccount, name, meta.namespace)
            except ApiError as error:
                if error.code != 404:
                    raise
                return None
        return account if _belongs(secret, account) else None

    def _filled(self, secret: Secret, account: ServiceAccount) -> Secret | None:
        """Return a copy of the Secret with what it lacks, or None if it lacks nothing."""
        data = secret.data
        if data.get("ca.crt") == self._root_ca and data.get("namespace") and data.get("token"):
            return None
        filled = codec.decode(Secret, codec.encode(secret))
        filled.data["ca.crt"] = self._root_ca
        filled.data["namespace"] = data.get("namespace") or secret.metadata.namespace.encode()
        filled.data["token"] = data.get("token") or self._sign(account, secret).encode()
        filled.metadata.annotations[ACCOUNT_NAME] = account.metadata.name
        filled.metadata.annotations[ACCOUNT_UID] = account.metadata.uid
        return filled

    async def _remove_reference(self, key: tuple[str, str, str]) -> None:
        namespace, account_name, secret = key
        account = self._accounts.get(namespace, account_name)
        if account is None or not any(reference.name == secret for reference in account.secrets):
            return
        fresh = codec.decode(ServiceAccount, codec.encode(account))
        fresh.secrets = [reference for reference in account.secrets if reference.name != secret]
        try:
            await self._client.update(fresh)
        except ApiError as error:
            if error.code != 404:
                raise  # a conflict, too: the queue tries again


def _belongs(secret: Secret, account: ServiceAccount) -> bool:
    """Whether the Secret is for this very account, not for a former one of the same name."""
    return secret.metadata.annotations.get(ACCOUNT_UID) in (None, "", account.metadata.uid)
