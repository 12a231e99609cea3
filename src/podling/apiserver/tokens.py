"""Service-account tokens: signing and verifying JSON web tokens with the cluster's service-account key (ES256).

Claims are those of upstream's bound tokens: sub, aud, iss, exp, iat, nbf, jti and "kubernetes.io" with namespace,
serviceaccount, and the pod, node or secret that the token is bound to. Tokens that Secrets hold have upstream's older
claims; they do not expire, but are good only for as long as their Secret holds them.
"""

from __future__ import annotations

import time
import uuid
from collections import OrderedDict
from pathlib import Path

import jwt
import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec import Struct, field

from podling.api.core.v1 import Secret, ServiceAccount
from podling.apiserver.user import service_account_name

_CACHED = 1024
_SECRET_ISSUER = "kubernetes/serviceaccount"


class Reference(Struct, frozen=True, omit_defaults=True):
    name: str = ""
    uid: str = ""


class Binding(Struct, frozen=True, omit_defaults=True):
    """The claim "kubernetes.io"."""

    namespace: str = ""
    serviceaccount: Reference = Reference()
    pod: Reference | None = None
    secret: Reference | None = None
    node: Reference | None = None


class Claims(Struct, frozen=True):
    sub: str
    exp: int
    iat: int
    iss: str
    binding: Binding = field(name="kubernetes.io")
    aud: list[str] = []
    nbf: int = 0
    jti: str = ""


class SecretClaims(Struct, frozen=True):
    """The claims of a token that a Secret holds."""

    sub: str
    iss: str
    namespace: str = field(name="kubernetes.io/serviceaccount/namespace")
    secret: str = field(name="kubernetes.io/serviceaccount/secret.name")
    account: str = field(name="kubernetes.io/serviceaccount/service-account.name")
    account_uid: str = field(name="kubernetes.io/serviceaccount/service-account.uid")


class InvalidToken(Exception):
    """Not a token of ours, or no longer good."""


class TokenIssuer:
    """Signs tokens as `issuer` (a URL; not needed for those that Secrets hold) with the private key in `key_file` and
    verifies its own."""

    def __init__(self, key_file: Path, issuer: str = "") -> None:
        self.issuer = issuer
        key = serialization.load_pem_private_key(key_file.read_bytes(), password=None)
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise ValueError(f"{key_file} is not an EC private key")
        self._key = key
        self._verified: OrderedDict[str, Claims | SecretClaims] = OrderedDict()

    def issue(self, *, subject: str, audiences: list[str], seconds: int, binding: Binding) -> tuple[str, Claims]:
        """A token good for so many seconds from now."""
        now = int(time.time())
        claims = Claims(
            sub=subject,
            exp=now + seconds,
            iat=now,
            iss=self.issuer,
            binding=binding,
            aud=audiences,
            nbf=now,
            jti=str(uuid.uuid4()),
        )
        return jwt.encode(msgspec.to_builtins(claims), self._key, algorithm="ES256"), claims

    def issue_for_secret(self, account: ServiceAccount, secret: Secret) -> str:
        """A token for a Secret to hold."""
        namespace, name = account.metadata.namespace, account.metadata.name
        claims = SecretClaims(
            sub=service_account_name(namespace, name),
            iss=_SECRET_ISSUER,
            namespace=namespace,
            secret=secret.metadata.name,
            account=name,
            account_uid=account.metadata.uid,
        )
        return jwt.encode(msgspec.to_builtins(claims), self._key, algorithm="ES256")

    def verify(self, token: str) -> Claims | SecretClaims:
        """Checks signature, issuer and times; whom it is for and what it is bound to is the caller's to check.

        Raises InvalidToken."""
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            self._verified[token] = claims
            if len(self._verified) > _CACHED:
                self._verified.popitem(last=False)
        if isinstance(claims, Claims) and claims.exp <= time.time():
            raise InvalidToken("service account token has expired")
        return claims

    def _decode(self, token: str) -> Claims | SecretClaims:
        try:
            found = jwt.decode(
                token,
                self._key.public_key(),
                algorithms=["ES256"],
                issuer=[self.issuer, _SECRET_ISSUER],
                options={"verify_aud": False, "require": ["sub", "iss"]},
                leeway=10,
            )
            if found["iss"] == _SECRET_ISSUER:
                return msgspec.convert(found, SecretClaims)
            return msgspec.convert(found, Claims)
        except (jwt.PyJWTError, msgspec.ValidationError) as error:
            raise InvalidToken(str(error)) from error
