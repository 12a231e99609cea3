"""A node's credential reads what the Pods on that node use, and nothing else.

The attacker holds the client certificate of a second node. Expected messages are upstream's.
"""

from __future__ import annotations

import http.client
import ssl
from typing import Any

import pytest
from tests.support.foreign_node import MINE, NAMESPACE, THEIRS, Scene

UNRELATED = "no relationship found between node '{node}' and this object"
UNNAMED = "No Object name found"
UNSCOPED = "can only list/watch pods with spec.nodeName field selector"
LEASES = "coordination.k8s.io/v1"
PLAIN = 'User "system:node:{node}" cannot'

READS = {
    # Secrets and ConfigMaps
    "all secrets": ("/api/v1/secrets", "can only read namespaced object of this type"),
    "secrets of a namespace": ("/api/v1/namespaces/{ns}/secrets", UNNAMED),
    "secrets, a page": ("/api/v1/namespaces/{ns}/secrets?limit=1", UNNAMED),
    "secrets by label": ("/api/v1/namespaces/{ns}/secrets?labelSelector=a%3Db", UNNAMED),
    "secrets, watched": ("/api/v1/namespaces/{ns}/secrets?watch=1", UNNAMED),
    "secrets, watched by the old path": ("/api/v1/watch/namespaces/{ns}/secrets", UNNAMED),
    "secrets by type": ("/api/v1/namespaces/{ns}/secrets?fieldSelector=type%3DOpaque", UNNAMED),
    "all but one secret": ("/api/v1/namespaces/{ns}/secrets?fieldSelector=metadata.name%21%3Dmine", UNNAMED),
    "a volume's secret": ("/api/v1/namespaces/{ns}/secrets/theirs", UNRELATED),
    "a variable's secret": ("/api/v1/namespaces/{ns}/secrets/theirs-env", UNRELATED),
    "a pull secret": ("/api/v1/namespaces/{ns}/secrets/theirs-pull", UNRELATED),
    "an escaped path": ("/api/v1/namespaces/{ns}/%73ecrets/%74heirs", UNRELATED),
    "a secret by field": ("/api/v1/namespaces/{ns}/secrets?fieldSelector=metadata.name%3Dtheirs", UNRELATED),
    "a secret watched": ("/api/v1/namespaces/{ns}/secrets?watch=1&fieldSelector=metadata.name%3Dtheirs", UNRELATED),
    "a secret by the old path": ("/api/v1/watch/namespaces/{ns}/secrets/theirs", UNRELATED),
    "the name of an own secret elsewhere": ("/api/v1/namespaces/default/secrets/mine", UNRELATED),
    "a secret that does not exist": ("/api/v1/namespaces/{ns}/secrets/nothing", UNRELATED),
    "all configmaps": ("/api/v1/configmaps", "can only read namespaced object of this type"),
    "configmaps of a namespace": ("/api/v1/namespaces/{ns}/configmaps", UNNAMED),
    "a volume's configmap": ("/api/v1/namespaces/{ns}/configmaps/theirs", UNRELATED),
    "a variable's configmap": ("/api/v1/namespaces/{ns}/configmaps/theirs-env", UNRELATED),
    "a configmap watched": (
        "/api/v1/namespaces/{ns}/configmaps?watch=1&fieldSelector=metadata.name%3Dtheirs",
        UNRELATED,
    ),
    # Pods
    "all pods": ("/api/v1/pods", UNSCOPED),
    "pods of a namespace": ("/api/v1/namespaces/{ns}/pods", UNSCOPED),
    "pods, watched": ("/api/v1/pods?watch=1", UNSCOPED),
    "pods of the other node": ("/api/v1/pods?fieldSelector=spec.nodeName%3D{other}", UNSCOPED),
    "pods of no node": ("/api/v1/pods?fieldSelector=spec.nodeName%3D", UNSCOPED),
    "pods not of the other node": ("/api/v1/pods?fieldSelector=spec.nodeName%21%3D{other}", UNSCOPED),
    "pods by phase": ("/api/v1/pods?fieldSelector=status.phase%3DPending", UNSCOPED),
    "pods of the other node first": (
        "/api/v1/pods?fieldSelector=spec.nodeName%3D{other}&fieldSelector=spec.nodeName%3D{node}",
        UNSCOPED,
    ),
    "a pod of the other node": ("/api/v1/namespaces/{ns}/pods/on-other", UNRELATED),
    "a pod of no node": ("/api/v1/namespaces/{ns}/pods/pending", UNRELATED),
    "a pod's log": ("/api/v1/namespaces/{ns}/pods/on-other/log", PLAIN),
    "a pod's status": ("/api/v1/namespaces/{ns}/pods/on-other/status", PLAIN),
    # Nodes and Leases
    "all nodes": ("/api/v1/nodes", "node '{node}' cannot read all nodes, only its own Node object"),
    "nodes, watched": ("/api/v1/nodes?watch=1", "node '{node}' cannot read all nodes, only its own Node object"),
    "the other node": ("/api/v1/nodes/{other}", "node '{node}' cannot read '{other}', only its own Node object"),
    "leases": (
        f"/apis/{LEASES}/namespaces/kube-node-lease/leases",
        "can only get, create, update, patch, or delete a node lease",
    ),
    "the other node's lease": (
        f"/apis/{LEASES}/namespaces/kube-node-lease/leases/{{other}}",
        "can only access node lease with the same name as the requesting node",
    ),
    "a lease elsewhere": (
        f"/apis/{LEASES}/namespaces/kube-system/leases/{{node}}",
        'can only access leases in the "kube-node-lease" system namespace',
    ),
    # The rest
    "a service account": (
        "/api/v1/namespaces/{ns}/serviceaccounts/mine",
        "can only create tokens for individual service accounts",
    ),
    "service accounts": ("/api/v1/serviceaccounts", "can only create tokens for individual service accounts"),
    "namespaces": ("/api/v1/namespaces", PLAIN),
    "events": ("/api/v1/events", PLAIN),
    "metrics": ("/metrics", PLAIN),
}


@pytest.mark.parametrize("case", READS.values(), ids=READS.keys())
def test_what_others_have_is_not_read(scene: Scene, case: tuple[str, str]) -> None:
    path, reason = case
    answer = scene.attempt("GET", path)
    assert (answer.code, answer.json["reason"]) == (403, "Forbidden"), answer.raw
    assert scene.fill(reason) in answer.message


def test_the_first_of_two_field_selectors_decides_and_selects(scene: Scene) -> None:
    path = "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}&fieldSelector=spec.nodeName%3D{other}"
    answer = scene.attempt("GET", path)
    assert answer.code == 200
    assert {pod["spec"]["nodeName"] for pod in answer.json["items"]} == {"foreign"}


def test_what_only_a_former_pod_used_is_read_no_more(scene: Scene) -> None:
    root = f"/api/v1/namespaces/{NAMESPACE}"
    scene.must("POST", f"{root}/secrets", {"metadata": {"name": "former"}})
    volume = {"name": "s", "secret": {"secretName": "former"}}
    spec = {
        "nodeName": "{node}",
        "volumes": [volume],
        "containers": [{"name": "c", "image": "registry.invalid/none:1"}],
    }
    scene.must("POST", f"{root}/pods", {"metadata": {"name": "former"}, "spec": {**spec, "serviceAccountName": MINE}})
    assert scene.attempt("GET", f"{root}/secrets/former").code == 200
    scene.must("DELETE", f"{root}/pods/former?gracePeriodSeconds=0")
    answer = scene.attempt("GET", f"{root}/secrets/former")
    assert answer.code == 403, answer.raw


@pytest.mark.parametrize("path", ["/pods", f"/containerLogs/{NAMESPACE}/on-other/main", "/metrics"])
def test_another_nodes_agent_answers_only_the_api_server(scene: Scene, path: str) -> None:
    context = ssl.create_default_context(cafile=str(scene.node.pki.ca.cert))
    context.load_cert_chain(scene.pair.cert, scene.pair.key)
    connection = http.client.HTTPSConnection("localhost", scene.cluster.agent_port, context=context, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    assert response.status in (401, 403), response.read()
    connection.close()


def test_the_agents_serving_certificate_is_no_credential(scene: Scene) -> None:
    thief = scene.cluster.https().identify(scene.node.pki.kubelet)
    with pytest.raises((ssl.SSLError, ConnectionError)):
        thief.request("GET", "/api/v1/nodes")


OWN = {
    "its node": "/api/v1/nodes/{node}",
    "its node by field": "/api/v1/nodes?fieldSelector=metadata.name%3D{node}",
    "its pods": "/api/v1/pods?fieldSelector=spec.nodeName%3D{node}",
    "one of its pods": "/api/v1/namespaces/{ns}/pods/on-foreign",
    "one of its pods by field": "/api/v1/namespaces/{ns}/pods?fieldSelector=metadata.name%3Don-foreign",
    "services": "/api/v1/services",
    "discovery": "/apis",
    **{
        f"{kind} {name}": f"/api/v1/namespaces/{{ns}}/{kind}/{name}"
        for kind in ("secrets", "configmaps")
        for name in (MINE, f"{MINE}-env", f"{MINE}-from", f"{MINE}-projected")
    },
    "a pull secret": f"/api/v1/namespaces/{{ns}}/secrets/{MINE}-pull",
    "a secret by field": f"/api/v1/namespaces/{{ns}}/secrets?fieldSelector=metadata.name%3D{MINE}",
}


@pytest.mark.parametrize("path", OWN.values(), ids=OWN.keys())
def test_what_its_pods_use_is_read(scene: Scene, path: str) -> None:
    answer = scene.attempt("GET", path)
    assert answer.code == 200, answer.raw


@pytest.mark.parametrize("kind", ["secrets", "configmaps"])
def test_what_its_pods_use_is_watched(scene: Scene, kind: str) -> None:
    query = f"watch=1&timeoutSeconds=1&fieldSelector=metadata.name%3D{MINE}"
    answer = scene.attempt("GET", f"/api/v1/namespaces/{{ns}}/{kind}?{query}")
    assert answer.code == 200, answer.raw
    assert f'"name":"{MINE}"'.encode() in answer.raw
    assert THEIRS.encode() not in answer.raw


def test_it_may_ask_what_it_may(scene: Scene) -> None:
    def allowed(**attributes: str) -> Any:
        body = {"spec": {"resourceAttributes": attributes}}
        answer = scene.attempt("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        assert answer.code == 201, answer.raw
        return answer.json["status"]

    about = {"verb": "get", "resource": "secrets", "namespace": NAMESPACE}
    assert allowed(**about, name=MINE)["allowed"]
    refused = allowed(**about, name=THEIRS)
    assert not refused["allowed"]
    assert refused["reason"] == scene.fill(UNRELATED)
