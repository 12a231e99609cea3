"""The Node authorizer: kubelets read what the Pods on their node use, and write what describes their node and its Pods.

Source: upstream plugin/pkg/auth/authorizer/node and the rules of the role system:node; reasons are upstream's. What an
authorizer cannot see, the contents of a write, is checked by admission/node_restriction.py.
"""

from __future__ import annotations

from podling.apiserver.authorization import Attributes, Decision, rule
from podling.apiserver.node_graph import NodeGraph
from podling.apiserver.user import User, node_name

_READ = ("get", "list", "watch")
_LEASE_NAMESPACE = "kube-node-lease"
_LEASE_VERBS = ("get", "create", "update", "patch", "delete")

_RULES = (
    rule("create update patch", "", "events"),
    rule("create update patch", "events.k8s.io", "events"),
    rule("create", "authentication.k8s.io", "tokenreviews"),
    rule("create", "authorization.k8s.io", "subjectaccessreviews localsubjectaccessreviews"),
    rule("get list watch", "", "services"),
    rule("get", "", "endpoints"),
    rule("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    rule("get list watch", "node.k8s.io", "runtimeclasses"),
    rule("get list watch", "storage.k8s.io", "csidrivers"),
)
"""What every kubelet may do with resources that are not told apart object by object; what it does most comes first."""

ALLOWED = Decision(True)
_REFUSED = Decision(False)


class NodeAuthorizer:
    def __init__(self, graph: NodeGraph) -> None:
        self._graph = graph

    def authorize(self, user: User, attributes: Attributes) -> Decision | None:
        """Return the decision, or None for users who are not nodes."""
        node = node_name(user)
        if node is None:
            return None
        if not node:
            return Decision(False, f'unknown node for user "{user.name}"')
        match attributes.group, attributes.resource:
            case "", "secrets" | "configmaps":
                return self._read(node, attributes)
            case "", "persistentvolumeclaims":
                return self._get(node, attributes)
            case "", "serviceaccounts":
                return self._create_token(node, attributes)
            case "", "nodes":
                return _node(node, attributes)
            case "", "pods":
                return self._pod(node, attributes)
            case "coordination.k8s.io", "leases":
                return _lease(node, attributes)
        return Decision(any(item.matches(attributes) for item in _RULES))

    def _read(self, node: str, attributes: Attributes) -> Decision:
        if attributes.verb not in _READ:
            return Decision(False, "can only read resources of this type")
        if attributes.subresource:
            return Decision(False, "cannot read subresource")
        if not attributes.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, attributes)

    def _get(self, node: str, attributes: Attributes) -> Decision:
        if attributes.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if attributes.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, attributes)

    def _create_token(self, node: str, attributes: Attributes) -> Decision:
        if attributes.verb != "create" or not attributes.name:
            return Decision(False, "can only create tokens for individual service accounts")
        if attributes.subresource != "token":
            return Decision(False, "can only create token subresource of serviceaccount")
        return self._related(node, attributes)

    def _pod(self, node: str, attributes: Attributes) -> Decision:
        match attributes.subresource, attributes.verb:
            case "", "get":
                return self._related(node, attributes)
            case "", "list" | "watch":
                if any(
                    (item.field, item.value, item.negated) == ("spec.nodeName", node, False)
                    for item in attributes.field_selector.requirements
                ):
                    return ALLOWED
                if attributes.name:
                    return self._related(node, attributes)
                return Decision(False, "can only list/watch pods with spec.nodeName field selector")
            case ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create"):
                return ALLOWED
        return _REFUSED

    def _related(self, node: str, attributes: Attributes) -> Decision:
        if not attributes.name:
            return Decision(False, "No Object name found")
        if self._graph.uses(node, attributes.resource, attributes.namespace, attributes.name):
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")


def _node(node: str, attributes: Attributes) -> Decision:
    match attributes.subresource, attributes.verb:
        case ("", "create" | "update" | "patch") | ("status", "update" | "patch"):
            return ALLOWED
        case "", "get" | "list" | "watch":
            if attributes.name == node:
                return ALLOWED
            if not attributes.name:
                return Decision(False, f"node '{node}' cannot read all nodes, only its own Node object")
            return Decision(False, f"node '{node}' cannot read '{attributes.name}', only its own Node object")
    return _REFUSED


def _lease(node: str, attributes: Attributes) -> Decision:
    if attributes.verb not in _LEASE_VERBS:
        return Decision(False, "can only get, create, update, patch, or delete a node lease")
    if attributes.namespace != _LEASE_NAMESPACE:
        return Decision(False, f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace')
    if attributes.verb != "create" and attributes.name != node:
        return Decision(False, "can only access node lease with the same name as the requesting node")
    return ALLOWED
