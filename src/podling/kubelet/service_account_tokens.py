"""Tokens of service accounts for the volumes of Pods, each bound to its Pod.

Source: Kubernetes documentation "Configure Service Accounts for Pods" (serviceAccountToken projection): the kubelet asks for a
token, and for another one when 80 % of its life or 24 hours have passed. While the API server cannot be reached, a token
serves until it expires.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from msgspec import Struct

from podling.api import time as times
from podling.api.authentication.v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from podling.api.core.v1 import Pod, ServiceAccount, ServiceAccountTokenProjection
from podling.api.meta.v1 import Status
from podling.api.status import ApiError
from podling.client.client import Client, ConnectionFailed

log = logging.getLogger(__name__)

_OLDEST = 24 * 3600.0
_JITTER = 10.0
_RETRY = 10.0
"""Seconds after which a refresh that failed is tried again."""

_Key = tuple[str, str, int | None]
"""Service account, audience, seconds of life."""


class TokenError(Exception):
    """No valid token is to be had; the message says why."""


class _Token(Struct):
    token: str
    expires: float
    refresh_at: float


class ServiceAccountTokens:
    """The tokens of all Pods of the node, kept in memory alone."""

    def __init__(self, client: Client, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._tokens: dict[str, dict[_Key, _Token]] = {}
        """By UID of the Pod."""

    async def get(self, pod: Pod, wanted: ServiceAccountTokenProjection) -> str:
        """Return a valid token, a fresh one if the last is due. Raises TokenError and ConnectionFailed."""
        key = (pod.spec.service_account_name, wanted.audience, wanted.expiration_seconds)
        held = self._tokens.setdefault(pod.metadata.uid, {})
        old = held.get(key)
        if old is not None and self._clock() < old.refresh_at:
            return old.token
        try:
            held[key] = await self._request(pod, wanted)
        except (ApiError, ConnectionFailed) as error:
            if old is None and isinstance(error, ConnectionFailed):
                raise
            if old is None:
                raise TokenError(f"failed to fetch token: {error}") from error
            old.refresh_at = self._clock() + _RETRY
            if self._clock() >= old.expires:
                raise TokenError(f"token expired and refresh failed: {error}") from error
            log.warning("token of pod %s/%s not refreshed: %s", pod.metadata.namespace, pod.metadata.name, error)
        return held[key].token

    async def _request(self, pod: Pod, wanted: ServiceAccountTokenProjection) -> _Token:
        meta = pod.metadata
        bound = BoundObjectReference(api_version="v1", kind="Pod", name=meta.name, uid=meta.uid)
        audiences = [wanted.audience] if wanted.audience else []
        spec = TokenRequestSpec(
            audiences=audiences, expiration_seconds=wanted.expiration_seconds, bound_object_ref=bound
        )
        name = pod.spec.service_account_name
        answer = await self._client.create_subresource(
            ServiceAccount, name, meta.namespace, "token", TokenRequest(spec=spec)
        )
        assert not isinstance(answer, Status)
        expires = times.to_seconds(answer.status.expiration_timestamp)
        # The server may grant another life than the one asked for.
        life = float(answer.spec.expiration_seconds or expires - self._clock())
        refresh_at = expires - life + min(0.8 * life, _OLDEST) - random.uniform(0, _JITTER)
        return _Token(answer.status.token, expires, refresh_at)

    def refresh_at(self, uid: str) -> float | None:
        """Return when the first of the Pod's tokens is due, in seconds since the epoch; None if it has none."""
        return min((token.refresh_at for token in self._tokens.get(uid, {}).values()), default=None)

    def forget(self, uid: str) -> None:
        """The Pod does not run any more."""
        self._tokens.pop(uid, None)
