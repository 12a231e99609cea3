"""Decides whether a Pod may use an image that is on the node already, or has to prove to the registry that it may.

Without it a private image would be open to every Pod once one Pod had pulled it. Source: KEP-2535 "Ensure secret pulled
images", kubelet configuration imagePullCredentialsVerificationPolicy; decisions as upstream's pull manager takes them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum

from msgspec.structs import replace

from podling.api import image_name
from podling.api import time as times
from podling.api.image_name import ImageName
from podling.kit import file_error
from podling.kubelet.image_credentials import Credential
from podling.kubelet.image_pull_records import ImagePullCredentials, ImagePulledRecord, ImagePullSecret, PullRecords
from podling.runtime.protocol import Image

log = logging.getLogger(__name__)

_LEARNED_SECRETS = 100
"""So many Secrets of an image are remembered without a pull: else namespaces that come and go would fill the record."""


class VerificationPolicy(StrEnum):
    """Which images on the node only Pods with credentials may use."""

    NEVER = "NeverVerify"
    NEVER_PRELOADED = "NeverVerifyPreloadedImages"
    """Those that the kubelet pulled with credentials; what was put there otherwise is for all."""
    NEVER_ALLOWLISTED = "NeverVerifyAllowlistedImages"
    ALWAYS = "AlwaysVerify"


class Allowlist:
    """Repositories, complete (docker.io/library/nginx) or all below a path (registry.example.com/team/*)."""

    def __init__(self, patterns: Iterable[str]) -> None:
        """Raises ValueError, in upstream's words."""
        self._repositories: set[str] = set()
        self._prefixes: list[str] = []
        for pattern in patterns:
            if pattern.endswith("/*") and "*" not in pattern[:-1]:
                if pattern == "/*":
                    raise ValueError("at least registry hostname is required")
                self._prefixes.append(pattern[:-1])
                continue
            if "*" in pattern:
                raise ValueError(f"not a valid wildcard pattern, only patterns ending with '/*' are allowed: {pattern}")
            try:
                repository = image_name.parse(pattern).repository
            except image_name.InvalidImageName as error:
                raise ValueError(f"failed to parse as an image name: {error}") from None
            if repository != pattern:
                raise ValueError(f"a complete name without tag and digest is needed, such as {repository}: {pattern}")
            self._repositories.add(repository)

    def __contains__(self, repository: str) -> bool:
        return repository in self._repositories or repository.startswith(tuple(self._prefixes))


class PullManager:
    """One node's."""

    def __init__(
        self,
        records: PullRecords,
        policy: VerificationPolicy = VerificationPolicy.NEVER_PRELOADED,
        allowlist: Allowlist | None = None,
    ) -> None:
        self._records = records
        self._policy = policy
        self._allowlist = allowlist or Allowlist([])
        self._running: Counter[str] = Counter()
        self._writing = asyncio.Lock()

    async def open(self, images: Sequence[Image]) -> None:
        """Takes up what an earlier run left. `images` are those on the node."""
        await asyncio.to_thread(self._records.load)
        for image in images:
            for name in (*image.repo_tags, *image.repo_digests):
                if self._records.has_intent(name) and self._records.get(image.id) is None:
                    # It was pulled, but with which credentials nobody knows: whoever wants it has to show his own.
                    await self._write(ImagePulledRecord(image_ref=image.id, last_updated_time=times.now()))
        await asyncio.to_thread(self._records.delete_intents)
        await self._forget_all_but(images)

    async def prune(self, list_images: Callable[[], Awaitable[Sequence[Image]]]) -> None:
        """Forgets the images that are not on the node any more; for another time, if one is being pulled."""
        if not self._running:
            images = await list_images()
            if not self._running:
                await self._forget_all_but(images)

    async def _forget_all_but(self, images: Sequence[Image]) -> None:
        names = self._records.forget_all_but({image.id for image in images})
        if names:
            async with self._writing:
                await asyncio.to_thread(self._records.delete_files, names)

    # -- pulls

    def begins(self, name: ImageName) -> None:
        """A pull begins; `pulled` or `failed` is its end. Raises OSError when that cannot be written down."""
        self._records.write_intent(name.canonical)
        self._running[name.canonical] += 1

    def failed(self, name: ImageName) -> None:
        self._ended(name)

    async def pulled(self, name: ImageName, image_ref: str, credential: Credential | None) -> None:
        """The pull succeeded, with this credential or without any."""
        try:
            if credential is None or credential.source is None:
                may = ImagePullCredentials(node_pods_accessible=True)
            else:
                may = ImagePullCredentials(kubernetes_secrets=(_pull_secret(credential),))
            await self._merge(name, image_ref, may)
        except OSError as error:
            # The intent stays, so that the image does not count as one that was always there.
            log.error("record of the pulled image %s: %s", name, file_error.reason(error))
            self._running[name.canonical] -= 1
            return
        except BaseException:
            self._running[name.canonical] -= 1
            raise
        self._ended(name)

    def _ended(self, name: ImageName) -> None:
        key = name.canonical
        self._running[key] -= 1
        if self._running[key] <= 0:
            del self._running[key]
            self._records.delete_intent(key)

    # -- use

    def open_to_all(self, name: ImageName, image_ref: str) -> bool:
        """Whether any Pod may use the image that is on the node, whatever credentials it has."""
        record = self._records.get(image_ref)
        if self._policy is VerificationPolicy.NEVER:
            return True
        if self._policy is VerificationPolicy.NEVER_PRELOADED:
            if record is None and not self._records.has_intent(name.canonical):
                return True
        elif self._policy is VerificationPolicy.NEVER_ALLOWLISTED and name.repository in self._allowlist:
            return True
        may = record.credential_mapping.get(name.repository) if record is not None else None
        return may is not None and may.node_pods_accessible

    async def open_to(self, name: ImageName, image_ref: str, credentials: Iterable[Credential]) -> bool:
        """Whether a Pod with these credentials may, because the same ones, or the same Secret, have opened it before."""
        if self.open_to_all(name, image_ref):
            return True
        record = self._records.get(image_ref)
        may = record.credential_mapping.get(name.repository) if record is not None else None
        if may is None:
            return False
        for secret in (_pull_secret(credential) for credential in credentials if credential.source is not None):
            for known in may.kubernetes_secrets:
                same_hash = known.credential_hash == secret.credential_hash
                same_place = _coordinates(known) == _coordinates(secret)
                if same_hash or same_place:
                    if not (same_hash and same_place) and len(may.kubernetes_secrets) < _LEARNED_SECRETS:
                        try:
                            await self._merge(name, image_ref, ImagePullCredentials(kubernetes_secrets=(secret,)))
                        except OSError as error:
                            log.error("record of the pulled image %s: %s", name, file_error.reason(error))
                    return True
        return False

    async def _merge(self, name: ImageName, image_ref: str, may: ImagePullCredentials) -> None:
        record = self._records.get(image_ref)
        if record is None or not record.image_ref:
            record = ImagePulledRecord(image_ref=image_ref)
        before = record.credential_mapping.get(name.repository)
        after = _merged(before, may)
        if after != before:
            mapping = {**record.credential_mapping, name.repository: after}
            await self._write(replace(record, credential_mapping=mapping, last_updated_time=times.now()))

    async def _write(self, record: ImagePulledRecord) -> None:
        # In memory at once, so that records that are changed at the same time build on each other.
        self._records.put(record)
        async with self._writing:
            await asyncio.to_thread(self._records.flush, record.image_ref)


def _merged(before: ImagePullCredentials | None, more: ImagePullCredentials) -> ImagePullCredentials:
    if before is None or more.node_pods_accessible:
        return more
    if before.node_pods_accessible:
        return before
    secrets = {_coordinates(secret): secret for secret in (*before.kubernetes_secrets, *more.kubernetes_secrets)}
    ordered = tuple(sorted(secrets.values(), key=lambda secret: (secret.namespace, secret.name, secret.uid)))
    return ImagePullCredentials(kubernetes_secrets=ordered)


def _coordinates(secret: ImagePullSecret) -> tuple[str, str, str]:
    return (secret.namespace, secret.name, secret.uid)


def _pull_secret(credential: Credential) -> ImagePullSecret:
    source = credential.source
    assert source is not None
    return ImagePullSecret(
        uid=source.uid, namespace=source.namespace, name=source.name, credential_hash=credential.hash
    )
