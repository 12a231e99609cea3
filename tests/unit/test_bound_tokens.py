"""Tokens are good for as long as what they are bound to lives, and a minute longer while it is being deleted."""

from __future__ import annotations

import time as clock
from pathlib import Path
from typing import Any

import pytest

from podling.api import time
from podling.api.core.v1 import Pod, ServiceAccount
from podling.api.meta.v1 import ObjectMeta
from podling.apiserver import pki
from podling.apiserver.authentication import Authenticator
from podling.apiserver.tokens import Binding, Reference, TokenIssuer


def made(kind: type[Any], name: str, deleted: float | None) -> Any:
    """An object whose deletion is to be complete so many seconds from now (None: it is not deleted)."""
    moment = "" if deleted is None else time.from_seconds(clock.time() + deleted)
    return kind(metadata=ObjectMeta(name=name, namespace="ns", uid=f"uid-of-{name}", deletion_timestamp=moment))


@pytest.mark.parametrize(
    ("account", "pod", "good"),
    [
        (None, None, True),
        (None, 30, True),
        (None, -30, True),
        (None, -3600, False),
        (-3600, None, False),
    ],
)
def test_a_token_ends_a_minute_after_what_it_is_bound_to(
    tmp_path: Path, account: float | None, pod: float | None, good: bool
) -> None:
    certificates = pki.ensure(
        tmp_path, node_name="n", addresses=(), service_address="10.96.0.1", cluster_domain="cluster.local"
    )
    issuer = TokenIssuer(certificates.service_account_key, "https://issuer")
    objects = {"robot": made(ServiceAccount, "robot", account), "web": made(Pod, "web", pod)}
    authenticator = Authenticator(tokens=issuer, static={}, lookup=lambda kind, namespace, name: objects.get(name))
    binding = Binding("ns", Reference("robot", "uid-of-robot"), pod=Reference("web", "uid-of-web"))
    token, _ = issuer.issue(
        subject="system:serviceaccount:ns:robot", audiences=["https://issuer"], seconds=600, binding=binding
    )
    assert (authenticator.by_token(token) is not None) is good
    del objects["web"]
    assert authenticator.by_token(token) is None
