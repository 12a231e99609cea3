"""Who makes a request: client certificates, bearer tokens, the unix socket, impersonation."""

from __future__ import annotations

import csv
import hmac
import io
import secrets
import time as clock
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec
from multidict import CIMultiDictProxy

from podling.api import status, time
from podling.api.core.v1 import Node, Pod, Secret, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.apiserver.authorization import Attributes, Authorizer, denial
from podling.apiserver.pki import write_private
from podling.apiserver.tokens import Binding, Claims, InvalidToken, SecretClaims, TokenIssuer
from podling.apiserver.user import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    MASTERS,
    User,
    authenticated,
    service_account_groups,
    service_account_name,
)
from podling.kit import document_error

T = TypeVar("T", bound=msgspec.Struct)
Lookup = Callable[[type[Any], str, str], Any]
"""From type, namespace and name to the stored object, or None."""

_LEEWAY = 60.0
"""Seconds, as upstream."""
_SERVICE_ACCOUNT_PREFIX = "system:serviceaccount:"
_AUTHENTICATION = "authentication.k8s.io"
_IMPERSONATE = "impersonate-"
_IMPERSONATE_EXTRA = "impersonate-extra-"


class Authenticator:
    """Tells users by their credentials.

    lookup: reads stored objects, to see whether what a token is bound to still exists.
    """

    def __init__(self, *, tokens: TokenIssuer, static: dict[str, User], lookup: Lookup) -> None:
        self.tokens = tokens
        self._static = static
        self._lookup = lookup

    def by_certificate(self, subject: tuple[tuple[tuple[str, str], ...], ...]) -> User | None:
        """The user of a verified client certificate, from its subject as the ssl module gives it: CN and every O."""
        attributes = [pair for relative in subject for pair in relative]
        names = [value for key, value in attributes if key == "commonName"]
        if not names:
            return None
        return authenticated(names[0], tuple(value for key, value in attributes if key == "organizationName"))

    def by_token(self, token: str, audiences: Collection[str] = ()) -> User | None:
        """The user of a bearer token, or None. audiences: one of them has to be the token's (default: this server)."""
        if not token.isascii():  # a header may hold what cannot even be encoded
            return None
        for known, user in self._static.items():
            if hmac.compare_digest(known.encode(), token.encode()):
                return user
        try:
            claims = self.tokens.verify(token)
        except InvalidToken:
            return None
        wanted = {audience or self.tokens.issuer for audience in audiences or ("",)}
        if isinstance(claims, SecretClaims):
            good = self.tokens.issuer in wanted and self._held(claims, token)
            return _holder(claims, self.tokens.issuer) if good else None
        if wanted.isdisjoint(claims.aud) or not self._bound(claims.binding):
            return None
        return _service_account(claims)

    def _held(self, claims: SecretClaims, token: str) -> bool:
        """Whether the Secret still holds the token, for a service account that still exists."""
        secret: Secret | None = self._lookup(Secret, claims.namespace, claims.secret)
        account: ServiceAccount | None = self._lookup(ServiceAccount, claims.namespace, claims.account)
        return (
            secret is not None
            and not secret.metadata.deletion_timestamp
            and hmac.compare_digest(secret.data.get("token", b""), token.encode())
            and account is not None
            and not account.metadata.deletion_timestamp
            and account.metadata.uid == claims.account_uid
        )

    def _bound(self, binding: Binding) -> bool:
        """Whether everything that the token is bound to lives, by name and UID."""
        bound = [(ServiceAccount, binding.namespace, binding.serviceaccount)]
        if binding.pod:
            bound.append((Pod, binding.namespace, binding.pod))  # type: ignore[arg-type]
        if binding.secret:
            bound.append((Secret, binding.namespace, binding.secret))  # type: ignore[arg-type]
        if binding.node and not binding.pod:
            bound.append((Node, "", binding.node))  # type: ignore[arg-type]
        for kind, namespace, reference in bound:
            found = self._lookup(kind, namespace, reference.name)
            if found is None or found.metadata.uid != reference.uid or _is_over(found.metadata):
                return False
        return True


def _is_over(metadata: ObjectMeta) -> bool:
    """Whether the object should have gone a while ago: finalizers may hold it for ever, but not its tokens."""
    moment = metadata.deletion_timestamp
    return bool(moment) and time.to_seconds(moment) < clock.time() - _LEEWAY


def _holder(claims: SecretClaims, audience: str) -> User:
    return User(
        name=service_account_name(claims.namespace, claims.account),
        uid=claims.account_uid,
        groups=service_account_groups(claims.namespace),
        audiences=(audience,),
    )


def _service_account(claims: Claims) -> User:
    binding = claims.binding
    extra = {"authentication.kubernetes.io/credential-id": [f"JTI={claims.jti}"]} if claims.jti else {}
    if binding.pod:
        extra["authentication.kubernetes.io/pod-name"] = [binding.pod.name]
        extra["authentication.kubernetes.io/pod-uid"] = [binding.pod.uid]
    if binding.node:
        extra["authentication.kubernetes.io/node-name"] = [binding.node.name]
        extra["authentication.kubernetes.io/node-uid"] = [binding.node.uid]
    return User(
        name=service_account_name(binding.namespace, binding.serviceaccount.name),
        uid=binding.serviceaccount.uid,
        groups=service_account_groups(binding.namespace),
        extra=extra,
        audiences=tuple(claims.aud),
    )


def impersonated(user: User, headers: CIMultiDictProxy[str], authorizer: Authorizer) -> User:
    """Return the user as whom `user` acts by the Impersonate-* headers: `user` where there are none.

    Raises ApiError: 403 where `user` may not, 500 where no user is named, as upstream."""
    if _IMPERSONATE not in "\n".join(headers).lower():  # as nearly always
        return user
    name = headers.get("Impersonate-User", "")
    groups = tuple(headers.getall("Impersonate-Group", ()))
    uid = headers.get("Impersonate-Uid", "")
    extra: dict[str, list[str]] = {}
    for header, value in headers.items():
        if header.lower().startswith(_IMPERSONATE_EXTRA):
            extra.setdefault(unquote(header[len(_IMPERSONATE_EXTRA) :]).lower(), []).append(value)
    if not name:
        if groups or uid or extra:
            raise status.internal(f"requested {_requested(groups, uid, extra)} without impersonating a user")
        return user
    account = name.removeprefix(_SERVICE_ACCOUNT_PREFIX).split(":") if name.startswith(_SERVICE_ACCOUNT_PREFIX) else []
    wanted = [_wanted("users", name)]
    if len(account) == 2:
        wanted = [_wanted("serviceaccounts", account[1], namespace=account[0])]
    wanted += [_wanted("groups", group) for group in groups]
    if uid:
        wanted.append(_wanted("uids", uid, group=_AUTHENTICATION))
    for key, values in extra.items():
        wanted += [_wanted("userextras", value, group=_AUTHENTICATION, subresource=key) for value in values]
    for attributes in wanted:
        decision = authorizer.authorize(user, attributes)
        if not decision.allowed:
            qualified = f"{attributes.resource}.{attributes.group}".rstrip(".")
            raise status.forbidden(qualified, attributes.name, denial(user, attributes, decision.reason))
    if not groups and len(account) == 2:
        groups = service_account_groups(account[0])
    if name == ANONYMOUS.name:
        groups = groups or (ALL_UNAUTHENTICATED,)
    elif ALL_AUTHENTICATED not in groups and ALL_UNAUTHENTICATED not in groups:
        groups = (*groups, ALL_AUTHENTICATED)
    return User(name, uid, groups, extra)


def _wanted(resource: str, name: str, *, group: str = "", namespace: str = "", subresource: str = "") -> Attributes:
    return Attributes(
        verb="impersonate", group=group, resource=resource, subresource=subresource, namespace=namespace, name=name
    )


def _requested(groups: tuple[str, ...], uid: str, extra: dict[str, list[str]]) -> str:
    """What is asked for, as Go prints upstream's list of ObjectReferences."""
    version = f"{_AUTHENTICATION}/v1"
    found = [f"{{Group  {group}    }}" for group in groups]
    found += [f"{{UserExtra  {value}  {version}  {key}}}" for key, values in extra.items() for value in values]
    found += [f"{{UID  {uid}  {version}  }}"] if uid else []
    return f"[{' '.join(found)}]"


def load_static_tokens(path: Path) -> dict[str, User]:
    """Reads upstream's token file: lines of `token,user,uid,"group1,group2"`. Blocking.

    Raises OSError; ValueError for a line with fewer than three columns."""
    users: dict[str, User] = {}
    try:
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode(), newline="")))
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is not a token file: {document_error.reason(error)}") from None
    for number, row in enumerate(rows, 1):
        if not row:
            continue
        if len(row) < 3 or not row[0] or not row[1]:
            raise ValueError(f"{path}:{number}: token, user and uid expected")
        groups = tuple(group.strip() for group in row[3].split(",") if group.strip()) if len(row) > 3 else ()
        users[row[0]] = authenticated(row[1], groups, uid=row[2])
    return users


def ensure_admin_token(path: Path) -> None:
    """Writes a token file with one random administrator's token where there is none. Blocking."""
    if not path.exists():
        write_private(path, f'{secrets.token_urlsafe(32)},kubernetes-admin,,"{MASTERS}"\n'.encode())
