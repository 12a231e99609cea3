"""Manifests to be refused: as text, where their kind is posted, and what the API and `kubectl apply` say of them."""

from __future__ import annotations

from tests.support.cluster import Cluster

COLLECTIONS = {
    "Pod": "/api/v1/namespaces/default/pods",
    "ConfigMap": "/api/v1/namespaces/default/configmaps",
    "Secret": "/api/v1/namespaces/default/secrets",
    "Service": "/api/v1/namespaces/default/services",
    "ServiceAccount": "/api/v1/namespaces/default/serviceaccounts",
    "Namespace": "/api/v1/namespaces",
    "Node": "/api/v1/nodes",
    "Lease": "/apis/coordination.k8s.io/v1/namespaces/default/leases",
}


def apply(cluster: Cluster, text: str, *argv: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `kubectl apply`."""
    done = cluster.try_kubectl("apply", "-f", "-", *argv, stdin=text)
    return done.returncode, done.stdout, done.stderr


def strip(causes: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Reason, field and message of each cause."""
    return [(cause["reason"], cause["field"], cause["message"]) for cause in causes]


def pod(spec: str, metadata: str = "name: web") -> str:
    """A Pod's manifest; spec in YAML, metadata without its braces."""
    return f"apiVersion: v1\nkind: Pod\nmetadata: {{{metadata}}}\nspec: {spec}"
