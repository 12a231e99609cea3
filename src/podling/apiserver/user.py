"""Who makes a request."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

MASTERS = "system:masters"
NODES = "system:nodes"
ALL_AUTHENTICATED = "system:authenticated"
ALL_UNAUTHENTICATED = "system:unauthenticated"
SERVICE_ACCOUNTS = "system:serviceaccounts"


class User(Struct, frozen=True):
    name: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: Mapping[str, list[str]] = {}
    audiences: tuple[str, ...] = ()
    """For which audiences the credential is good (empty: not known)."""


ANONYMOUS = User("system:anonymous", groups=(ALL_UNAUTHENTICATED,))
LOCAL = User("system:apiserver", groups=(MASTERS, ALL_AUTHENTICATED))
"""A peer on the administrator's unix socket, which only root can open."""
_NODE_PREFIX = "system:node:"


def authenticated(
    name: str, groups: tuple[str, ...], *, uid: str = "", extra: Mapping[str, list[str]] | None = None
) -> User:
    """A user who has proved their identity; always in system:authenticated."""
    if ALL_AUTHENTICATED not in groups:
        groups = (*groups, ALL_AUTHENTICATED)
    return User(name, uid, groups, extra or {})


def node_user(name: str) -> User:
    """The user as whom the kubelet of a node acts."""
    return authenticated(_NODE_PREFIX + name, (NODES,))


def node_name(user: User) -> str | None:
    """Return the node as whose kubelet the user acts ("" if the name says none), or None for other users."""
    if NODES not in user.groups or not user.name.startswith(_NODE_PREFIX):
        return None
    return user.name.removeprefix(_NODE_PREFIX)


def service_account_name(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def service_account_groups(namespace: str) -> tuple[str, ...]:
    return (SERVICE_ACCOUNTS, f"{SERVICE_ACCOUNTS}:{namespace}", ALL_AUTHENTICATED)
