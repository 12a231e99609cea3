"""A second node that an attacker holds: its client certificate, and a cluster with something to steal.

Nothing runs on it; what counts is its credential. `Scene` names what belongs to it and what belongs to others.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.api import Answer
from tests.support.cluster import Cluster
from tests.support.https import Https

from podling.apiserver.pki import PKI, KeyPair

NODE = "foreign"
NAMESPACE = "foreign-node"
MINE, THEIRS = "mine", "theirs"
"""Names of objects that the foreign node's Pods use, and that only Pods of other nodes use."""


def client_certificate(pki: PKI, directory: Path, name: str, organization: str) -> KeyPair:
    """A client certificate signed by the cluster's authority."""
    authority = x509.load_pem_x509_certificate(pki.ca.cert.read_bytes())
    authority_key = serialization.load_pem_private_key(pki.ca.key.read_bytes(), None)
    assert isinstance(authority_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, name),
    ]
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pair = KeyPair(directory / f"{organization}.crt", directory / f"{organization}.key")
    pair.cert.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pair.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return pair


@dataclass
class Scene:
    """What the attacker stands before."""

    node: Https
    """Sends requests as the foreign node."""
    admin: Https
    cluster: Cluster
    pair: KeyPair
    uids: dict[str, str]
    """Of the foreign Node ("node") and of the Pods, by name."""

    def fill(self, text: str) -> str:
        """Puts the scene's names into {ns}, {other} (the cluster's own node), {node} and {uid:...}."""
        for name, uid in self.uids.items():
            text = text.replace(f"{{uid:{name}}}", uid)
        return text.replace("{ns}", NAMESPACE).replace("{other}", self.cluster.node).replace("{node}", NODE)

    def fill_body(self, body: Any) -> Any:
        if isinstance(body, dict):
            return {self.fill(key): self.fill_body(value) for key, value in body.items()}
        if isinstance(body, list):
            return [self.fill_body(item) for item in body]
        return self.fill(body) if isinstance(body, str) else body

    def attempt(self, method: str, path: str, body: Any = None, content_type: str = "application/json") -> Answer:
        """A request as the foreign node."""
        return self.node.request(method, self.fill(path), self.fill_body(body), content_type=content_type)

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """A request of the administrator that has to succeed."""
        answer = self.admin.request(method, self.fill(path), self.fill_body(body))
        assert answer.code < 300, answer.raw
        return answer.json


def _pod(name: str, node: str, uses: str, **spec: Any) -> dict[str, Any]:
    """A Pod that refers to the objects named `uses` in every way there is."""
    environment = [
        {"name": "S", "valueFrom": {"secretKeyRef": {"name": f"{uses}-env", "key": "k"}}},
        {"name": "C", "valueFrom": {"configMapKeyRef": {"name": f"{uses}-env", "key": "k"}}},
    ]
    sources = [
        {"secret": {"name": f"{uses}-projected"}},
        {"configMap": {"name": f"{uses}-projected"}},
    ]
    container = {
        "name": "main",
        "image": "registry.invalid/none:1",
        "env": environment,
        "envFrom": [{"secretRef": {"name": f"{uses}-from"}}, {"configMapRef": {"name": f"{uses}-from"}}],
    }
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "serviceAccountName": uses,
            "imagePullSecrets": [{"name": f"{uses}-pull"}],
            "containers": [container],
            "volumes": [
                {"name": "s", "secret": {"secretName": uses}},
                {"name": "c", "configMap": {"name": uses}},
                {"name": "p", "projected": {"sources": sources}},
            ],
            **({"nodeName": node} if node else {}),
            **spec,
        },
    }


@pytest.fixture(scope="module")
def scene(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    https = cluster.https()
    pair = client_certificate(https.pki, tmp_path_factory.mktemp("foreign"), f"system:node:{NODE}", "system:nodes")
    made = Scene(https.identify(pair), cluster.https().administrator(), cluster, pair, {})
    root = f"/api/v1/namespaces/{NAMESPACE}"
    made.must("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    node = {
        "metadata": {"name": NODE},
        "spec": {"taints": [{"key": "theirs", "value": "only", "effect": "NoSchedule"}]},
    }
    made.uids["node"] = made.must("POST", "/api/v1/nodes", node)["metadata"]["uid"]
    for owner in (MINE, THEIRS):
        made.must("POST", f"{root}/serviceaccounts", {"metadata": {"name": owner}})
        for name in (owner, *(f"{owner}-{use}" for use in ("env", "from", "projected", "pull"))):
            made.must("POST", f"{root}/secrets", {"metadata": {"name": name}, "stringData": {"k": owner}})
            made.must("POST", f"{root}/configmaps", {"metadata": {"name": name}, "data": {"k": owner}})
    for pod in (
        _pod("on-foreign", NODE, MINE),
        _pod("on-other", cluster.node, THEIRS),
        _pod("pending", "", THEIRS, schedulingGates=[{"name": "example.com/wait"}]),
    ):
        created = made.must("POST", f"{root}/pods", pod)
        made.uids[pod["metadata"]["name"]] = created["metadata"]["uid"]
    yield made
    for name in ("on-foreign", "on-other", "pending"):
        made.admin.request("DELETE", f"{root}/pods/{name}?gracePeriodSeconds=0")
    made.must("DELETE", f"/api/v1/nodes/{NODE}")
    cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=60s")
