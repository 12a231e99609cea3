"""NodeRestriction: what a kubelet writes is about its own node and the Pods bound to it.

Source: upstream plugin/pkg/admission/noderestriction; messages are upstream's. Which requests come this far is up to
node_authorizer.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from podling.api import pod_references, status
from podling.api.authentication.v1 import TokenRequest
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Node, Pod, ServiceAccount
from podling.api.go import quote
from podling.apiserver.admission.chain import Lookup, Operation, Review, refuse
from podling.apiserver.admission.service_account import MIRROR_ANNOTATION
from podling.apiserver.user import node_name

_LEASE_NAMESPACE = "kube-node-lease"
_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "kubernetes.io/os",
        "kubernetes.io/arch",
    }
)
_KUBELET_LABEL_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")


class NodeRestriction:
    """api_audience: the audience of tokens for this server."""

    def __init__(self, lookup: Lookup, *, api_audience: str) -> None:
        self._lookup = lookup
        self._api_audience = api_audience

    async def admit(self, review: Review) -> None:
        node = node_name(review.user)
        if node is None:
            return
        if not node:
            raise refuse(review, f"could not determine node from user {quote(review.user.name)}")
        kind = review.resource.type
        if kind is Pod:
            self._admit_pod(review, node)
        elif kind is Node:
            _admit_node(review, node)
        elif kind is ServiceAccount:
            self._admit_token(review, node)
        elif kind is Lease:
            _admit_lease(review, node)

    # -- Pods

    def _admit_pod(self, review: Review, node: str) -> None:
        match review.subresource, review.operation:
            case "", Operation.CREATE:
                self._admit_mirror_pod(review, review.obj, node)
            case "", Operation.DELETE:
                if self._pod(review, review.name).spec.node_name != node:
                    raise refuse(review, f"node {quote(node)} can only delete pods with spec.nodeName set to itself")
            case "", operation:
                text = f"node {quote(node)} can only create and delete mirror pods"
                raise refuse(review, f"unexpected operation {quote(operation)}, {text}")
            case "status", Operation.UPDATE:
                _admit_pod_status(review, review.obj, review.old, node)
            case "eviction", Operation.CREATE:
                if self._pod(review, review.name).spec.node_name != node:
                    raise refuse(review, f"node {node} can only evict pods with spec.nodeName set to itself")
            case subresource, _:
                text = "only 'status' and 'eviction' are allowed"
                raise refuse(review, f"unexpected pod subresource {quote(subresource)}, {text}")

    def _admit_mirror_pod(self, review: Review, pod: Pod, node: str) -> None:
        if MIRROR_ANNOTATION not in pod.metadata.annotations:
            text = f"node {quote(node)} can only create mirror pods"
            raise refuse(review, f"pod does not have {quote(MIRROR_ANNOTATION)} annotation, {text}")
        if pod.spec.node_name != node:
            raise refuse(review, f"node {quote(node)} can only create pods with spec.nodeName set to itself")
        self._check_owner(review, pod, node)
        refers_to = ""
        if pod.spec.service_account_name:
            refers_to = "a service account"
        elif pod_references.secrets(pod):
            refers_to = "secrets"
        elif pod_references.config_maps(pod):
            refers_to = "configmaps"
        elif _has_trust_bundle(pod):
            refers_to = "clustertrustbundles"
        elif pod_references.claims(pod):
            refers_to = "persistentvolumeclaims"
        if refers_to:
            raise refuse(review, f"node {quote(node)} can not create pods that reference {refers_to}")

    def _check_owner(self, review: Review, pod: Pod, node: str) -> None:
        owners, only = pod.metadata.owner_references, f"node {quote(node)} can only create pods with"
        if len(owners) > 1:
            raise refuse(review, f"{only} a single owner reference set to itself")
        if not owners:
            raise refuse(review, f"{only} an owner reference set to itself")
        owner = owners[0]
        if (owner.api_version, owner.kind, owner.name) != ("v1", "Node", node):
            raise refuse(review, f"{only} an owner reference set to itself")
        if not owner.controller:
            raise refuse(review, f"{only} a controller owner reference set to itself")
        if owner.block_owner_deletion:
            raise refuse(review, f"node {quote(node)} must not set blockOwnerDeletion on an owner reference")
        found: Node | None = self._lookup(Node, "", node)
        if found is None:
            raise status.not_found("node", node)
        if owner.uid != found.metadata.uid:
            raise refuse(review, f"node {node} UID mismatch: expected {owner.uid} got {found.metadata.uid}")

    def _pod(self, review: Review, name: str) -> Pod:
        """Raises ApiError (404)."""
        found: Pod | None = self._lookup(Pod, review.namespace, name)
        if found is None:
            raise status.not_found("pod", name)
        return found

    # -- tokens

    def _admit_token(self, review: Review, node: str) -> None:
        if review.operation is not Operation.CREATE or review.subresource != "token":
            return
        request: TokenRequest = review.obj
        bound = request.spec.bound_object_ref
        if bound is None or (bound.api_version, bound.kind) != ("v1", "Pod") or not bound.name:
            raise refuse(review, "node requested token not bound to a pod")
        if not bound.uid:
            raise refuse(review, "node requested token with a pod binding without a uid")
        pod = self._pod(review, bound.name)
        if bound.uid != pod.metadata.uid:
            raise refuse(
                review,
                f"the UID in the bound object reference ({bound.uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if pod.spec.node_name != node:
            raise refuse(review, "node requested token bound to a pod scheduled on a different node")
        self._check_audiences(review, request.spec.audiences, pod)

    def _check_audiences(self, review: Review, asked: list[str], pod: Pod) -> None:
        if len(asked) > 1:
            raise refuse(review, "node may only request 0 or 1 audiences")
        for audience in {*asked} - {"", self._api_audience} - pod_references.token_audiences(pod):
            raise refuse(
                review,
                f"audience {quote(audience)} not found in pod spec volume, {review.user.name} is not authorized "
                "to request tokens for this audience",
            )


def _admit_pod_status(review: Review, pod: Pod, old: Pod, node: str) -> None:
    if old.spec.node_name != node:
        text = "can only update pod status for pods with spec.nodeName set to itself"
        raise refuse(review, f"node {quote(node)} {text}")
    if pod.metadata.labels != old.metadata.labels:
        raise refuse(review, f"node {quote(node)} cannot update labels through pod status")
    if pod.status.resource_claim_statuses != old.status.resource_claim_statuses:
        raise refuse(review, f"node {quote(node)} cannot update resource claim statues")


def _has_trust_bundle(pod: Pod) -> bool:
    return any(
        projection.cluster_trust_bundle is not None
        for volume in pod.spec.volumes
        for projection in (volume.projected.sources if volume.projected is not None else ())
    )


def _admit_node(review: Review, node: str) -> None:
    if review.name != node:
        raise refuse(review, f"node {quote(node)} is not allowed to modify node {quote(review.name)}")
    new: Node | None = review.obj
    if new is None:
        return
    config, old = new.spec.config_source, review.old
    if review.operation is Operation.CREATE:
        if config is not None:
            raise refuse(review, f"node {quote(node)} is not allowed to create pods with a non-nil configSource")
        if forbidden := _forbidden(_changed(new.metadata.labels, {})):
            raise refuse(review, f"node {quote(node)} is not allowed to set the following labels: {forbidden}")
        return
    if config is not None and config != old.spec.config_source:
        raise refuse(review, f"node {quote(node)} is not allowed to update configSource to a new non-nil configSource")
    if new.spec.taints != old.spec.taints:
        raise refuse(review, f"node {quote(node)} is not allowed to modify taints")
    if forbidden := _forbidden(_changed(new.metadata.labels, old.metadata.labels)):
        raise refuse(review, f"is not allowed to modify labels: {forbidden}")


def _changed(labels: Mapping[str, str], old: Mapping[str, str]) -> set[str]:
    return {key for key, _ in labels.items() ^ old.items()}


def _forbidden(keys: Iterable[str]) -> str:
    """Return those of the labels that a kubelet may not change, as a message lists them."""
    return ", ".join(sorted(key for key in keys if not _may_change(key)))


def _may_change(key: str) -> bool:
    namespace, slash, _ = key.partition("/")
    if not slash:
        return True
    if _within(namespace, (_RESTRICTED,)):
        return False
    if not _within(namespace, ("kubernetes.io", "k8s.io")):
        return True
    return key in _KUBELET_LABELS or _within(namespace, _KUBELET_LABEL_NAMESPACES)


def _within(namespace: str, domains: tuple[str, ...]) -> bool:
    return any(namespace == domain or namespace.endswith(f".{domain}") for domain in domains)


def _admit_lease(review: Review, node: str) -> None:
    if review.namespace != _LEASE_NAMESPACE:
        raise refuse(review, f'can only access leases in the "{_LEASE_NAMESPACE}" system namespace')
    if review.name != node:
        raise refuse(review, "can only access node lease with the same name as the requesting node")
