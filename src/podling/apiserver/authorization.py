"""Who may do what: fixed rules, and authorizers for kinds of users that are asked before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from podling.api.fields import EVERYTHING, Selector
from podling.apiserver.user import ALL_AUTHENTICATED, MASTERS, User


class Attributes(Struct, frozen=True):
    """An action: on a resource, or (resource == "") on a path with an HTTP method as verb."""

    verb: str
    path: str = ""
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    """The object's name; for a list or watch, the name that its field selector asks for."""
    field_selector: Selector = EVERYTHING
    """What a list, a watch or a deletion of a collection is restricted to."""


class Decision(Struct, frozen=True):
    allowed: bool
    reason: str = ""
    """Why not, for the user; "" where there is nothing to say beyond the refusal."""


class Rule(Struct, frozen=True):
    verbs: frozenset[str]
    group: str
    resources: frozenset[str]
    """"pods" or "pods/status"; "*" is any."""
    namespace: str = ""
    """"" is any."""

    def matches(self, attributes: Attributes) -> bool:
        resource = attributes.resource
        if attributes.subresource:
            resource = f"{resource}/{attributes.subresource}"
        return (
            attributes.group == self.group
            and (attributes.verb in self.verbs or "*" in self.verbs)
            and resource in self.resources
            and self.namespace in ("", attributes.namespace)
        )


def rule(verbs: str, group: str, resources: str, namespace: str = "") -> Rule:
    return Rule(frozenset(verbs.split()), group, frozenset(resources.split()), namespace)


ANY_USER_RULES = (
    rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
    rule("create", "authentication.k8s.io", "selfsubjectreviews"),
)
"""What every authenticated user may do (upstream's system:basic-user)."""

ANY_USER_PATHS = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*")
"""Paths every authenticated user may GET (upstream's system:discovery)."""

PUBLIC_PATHS = ("/healthz", "/livez", "/readyz", "/version", "/version/")
"""Paths anyone may GET, without authentication (upstream's system:public-info-viewer)."""


def is_public(attributes: Attributes) -> bool:
    return not attributes.resource and attributes.verb in ("get", "head") and _covered(attributes.path, PUBLIC_PATHS)


class UserAuthorizer(Protocol):
    """An authorizer for some kind of users, beside the fixed rules."""

    def authorize(self, user: User, attributes: Attributes) -> Decision | None:
        """Return the decision, or None for users of another kind."""


class Authorizer:
    """Allows what the fixed rules or one of `others` allow."""

    def __init__(self, others: Sequence[UserAuthorizer] = ()) -> None:
        self._others = tuple(others)

    def authorize(self, user: User, attributes: Attributes) -> Decision:
        if MASTERS in user.groups or is_public(attributes):
            return Decision(True)
        reason = ""
        for other in self._others:
            decision = other.authorize(user, attributes)
            if decision is not None and decision.allowed:
                return decision
            reason = reason or (decision.reason if decision is not None else "")
        return Decision(_any_user_may(user, attributes), reason)


def _any_user_may(user: User, attributes: Attributes) -> bool:
    if ALL_AUTHENTICATED not in user.groups:
        return False
    if not attributes.resource:
        return attributes.verb in ("get", "head") and _covered(attributes.path, ANY_USER_PATHS)
    return any(rule.matches(attributes) for rule in ANY_USER_RULES)


def denial(user: User, attributes: Attributes, reason: str = "") -> str:
    """Return upstream's words for an action that was not allowed."""
    refused = _refused(user, attributes)
    return f"{refused}: {reason}" if reason else refused


def _refused(user: User, attributes: Attributes) -> str:
    if not attributes.resource:
        return f'User "{user.name}" cannot {attributes.verb} path "{attributes.path}"'
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    where = f'in the namespace "{attributes.namespace}"' if attributes.namespace else "at the cluster scope"
    return (
        f'User "{user.name}" cannot {attributes.verb} resource "{resource}" in API group "{attributes.group}" {where}'
    )


def _covered(path: str, patterns: tuple[str, ...]) -> bool:
    return any(path == pattern or (pattern[-1] == "*" and path.startswith(pattern[:-1])) for pattern in patterns)
