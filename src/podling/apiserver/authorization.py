"""Who may do what. One function decides; a role-based authorizer can take its place."""

from __future__ import annotations

from msgspec import Struct

from podling.apiserver.user import ALL_AUTHENTICATED, MASTERS, NODES, User


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


class Decision(Struct, frozen=True):
    allowed: bool
    reason: str = ""


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


def _rule(verbs: str, group: str, resources: str, namespace: str = "") -> Rule:
    return Rule(frozenset(verbs.split()), group, frozenset(resources.split()), namespace)


ANY_USER_RULES = (
    _rule("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
    _rule("create", "authentication.k8s.io", "selfsubjectreviews"),
)
"""What every authenticated user may do (upstream's system:basic-user)."""

ANY_USER_PATHS = ("/api", "/api/*", "/apis", "/apis/*", "/openapi", "/openapi/*")
"""Paths every authenticated user may GET (upstream's system:discovery)."""

PUBLIC_PATHS = ("/healthz", "/healthz/*", "/livez", "/livez/*", "/readyz", "/readyz/*", "/version", "/version/")
"""Paths anyone may GET, without authentication."""

NODE_RULES = (
    _rule("create", "authentication.k8s.io", "tokenreviews"),
    _rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    _rule("get list watch", "", "services endpoints configmaps secrets serviceaccounts namespaces"),
    _rule("get list watch", "", "persistentvolumes persistentvolumeclaims"),
    _rule("create get list watch", "", "nodes"),
    _rule("update patch", "", "nodes nodes/status"),
    _rule("get list watch create delete", "", "pods"),
    _rule("update patch", "", "pods/status"),
    _rule("create", "", "pods/eviction serviceaccounts/token"),
    _rule("create update patch", "", "events"),
    _rule("create update patch", "events.k8s.io", "events"),
    _rule("get list watch", "discovery.k8s.io", "endpointslices"),
    _rule("get list watch", "node.k8s.io", "runtimeclasses"),
    _rule("get list watch", "storage.k8s.io", "csidrivers volumeattachments"),
    _rule("get create update patch delete", "storage.k8s.io", "csinodes"),
    _rule("get create update patch delete", "coordination.k8s.io", "leases", "kube-node-lease"),
)
"""What kubelets may do (upstream's system:node)."""


def rules_for(user: User) -> tuple[Rule, ...]:
    """The rules that hold for a user who is not in system:masters."""
    rules: tuple[Rule, ...] = ()
    if ALL_AUTHENTICATED in user.groups:
        rules += ANY_USER_RULES
    if NODES in user.groups and user.name.startswith("system:node:"):
        rules += NODE_RULES
    return rules


def is_public(attributes: Attributes) -> bool:
    return not attributes.resource and attributes.verb in ("get", "head") and _covered(attributes.path, PUBLIC_PATHS)


def authorize(user: User, attributes: Attributes) -> Decision:
    if MASTERS in user.groups or is_public(attributes):
        return Decision(True)
    if not attributes.resource:
        readable = attributes.verb in ("get", "head") and _covered(attributes.path, ANY_USER_PATHS)
        return Decision(readable and ALL_AUTHENTICATED in user.groups)
    return Decision(any(rule.matches(attributes) for rule in rules_for(user)))


def denial(user: User, attributes: Attributes) -> str:
    """Upstream's words for an action that was not allowed."""
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
