"""A node's credential writes its own Node, its Lease and the statuses of its own Pods, and nothing else.

The attacker holds the client certificate of a second node. Expected messages are upstream's.
"""

from __future__ import annotations

from typing import Any

import pytest
from tests.support.api import MERGE, STRATEGIC
from tests.support.foreign_node import MINE, NAMESPACE, Scene

ROOT = f"/api/v1/namespaces/{NAMESPACE}"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
ME = 'node "foreign"'
PLAIN = 'User "system:node:foreign" cannot'
OWNER = {"apiVersion": "v1", "kind": "Node", "name": "{node}", "uid": "{uid:node}", "controller": True}
MIRROR = {"kubernetes.io/config.mirror": "x"}


def mirror(
    *, name: str = "static", owners: Any = (OWNER,), annotations: Any = None, metadata: Any = None, **spec: Any
) -> dict[str, Any]:
    """A mirror Pod as a kubelet makes them, with changes."""
    container = {"name": "main", "image": "registry.invalid/none:1", **spec.pop("container", {})}
    return {
        "metadata": {
            "name": name,
            "annotations": MIRROR if annotations is None else annotations,
            "ownerReferences": list(owners),
            **(metadata or {}),
        },
        "spec": {"nodeName": "{node}", "containers": [container], "tolerations": [{"operator": "Exists"}], **spec},
    }


def volume(**source: Any) -> dict[str, Any]:
    return {"volumes": [{"name": "v", **source}]}


ONLY_OWNER = f"{ME} can only create pods with an owner reference set to itself"
CREATED_PODS = {
    "plain pod": (mirror(annotations={}), f'pod does not have "kubernetes.io/config.mirror" annotation, {ME} can only'),
    "on the other node": (mirror(nodeName="{other}"), f"{ME} can only create pods with spec.nodeName set to itself"),
    "on no node": (mirror(nodeName=""), f"{ME} can only create pods with spec.nodeName set to itself"),
    "without owner": (mirror(owners=()), ONLY_OWNER),
    "two owners": (
        mirror(owners=(OWNER, {**OWNER, "uid": "x", "controller": False})),
        f"{ME} can only create pods with a single owner reference set to itself",
    ),
    "another owner": (mirror(owners=({**OWNER, "name": "{other}"},)), ONLY_OWNER),
    "an owner of another kind": (mirror(owners=({**OWNER, "kind": "ConfigMap"},)), ONLY_OWNER),
    "an owner that does not control": (
        mirror(owners=({**OWNER, "controller": False},)),
        f"{ME} can only create pods with a controller owner reference set to itself",
    ),
    "an owner that it blocks": (
        mirror(owners=({**OWNER, "blockOwnerDeletion": True},)),
        f"{ME} must not set blockOwnerDeletion on an owner reference",
    ),
    "a former node's uid": (mirror(owners=({**OWNER, "uid": "old"},)), "node foreign UID mismatch: expected old got"),
    "a service account": (mirror(serviceAccountName=MINE), "a mirror pod may not reference service accounts"),
    "a secret in a volume": (
        mirror(**volume(secret={"secretName": "theirs"})),
        "a mirror pod may not reference secrets",
    ),
    "a secret in a variable": (
        mirror(container={"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "theirs", "key": "k"}}}]}),
        f"{ME} can not create pods that reference secrets",
    ),
    "a secret in envFrom": (
        mirror(container={"envFrom": [{"secretRef": {"name": "theirs"}}]}),
        f"{ME} can not create pods that reference secrets",
    ),
    "a projected secret": (
        mirror(**volume(projected={"sources": [{"secret": {"name": "theirs"}}]})),
        f"{ME} can not create pods that reference secrets",
    ),
    "a pull secret": (
        mirror(imagePullSecrets=[{"name": "theirs-pull"}]),
        f"{ME} can not create pods that reference secrets",
    ),
    "a configmap in a volume": (
        mirror(**volume(configMap={"name": "theirs"})),
        f"{ME} can not create pods that reference configmaps",
    ),
    "a configmap in envFrom": (
        mirror(container={"envFrom": [{"configMapRef": {"name": "theirs"}}]}),
        f"{ME} can not create pods that reference configmaps",
    ),
}


@pytest.mark.parametrize("case", CREATED_PODS.values(), ids=CREATED_PODS.keys())
def test_only_mirror_pods_of_its_own_are_created(scene: Scene, case: tuple[Any, str]) -> None:
    body, reason = case
    answer = scene.attempt("POST", f"{ROOT}/pods", body)
    assert answer.code == 403, answer.raw
    assert reason in answer.message


EVICTION = {"apiVersion": "policy/v1", "kind": "Eviction"}
BINDING = {"apiVersion": "v1", "kind": "Binding", "target": {"kind": "Node", "name": "{node}"}}
RUNNING = {"status": {"phase": "Running"}}
ONLY_OWN_STATUS = f"{ME} can only update pod status for pods with spec.nodeName set to itself"
WRITES: dict[str, tuple[str, str, Any, str]] = {
    # Pods
    "deletes a pod of the other node": (
        "DELETE",
        f"{ROOT}/pods/on-other",
        None,
        f"{ME} can only delete pods with spec.nodeName set to itself",
    ),
    "deletes a pod of no node": (
        "DELETE",
        f"{ROOT}/pods/pending",
        None,
        f"{ME} can only delete pods with spec.nodeName set to itself",
    ),
    "deletes by force": (
        "DELETE",
        f"{ROOT}/pods/on-other?gracePeriodSeconds=0",
        None,
        f"{ME} can only delete pods with spec.nodeName set to itself",
    ),
    "deletes all pods": ("DELETE", f"{ROOT}/pods", None, PLAIN),
    "deletes its pods at once": ("DELETE", f"{ROOT}/pods?fieldSelector=spec.nodeName%3D{{node}}", None, PLAIN),
    "changes its pod's image": (
        "PATCH",
        f"{ROOT}/pods/on-foreign",
        {"spec": {"containers": [{"name": "main", "image": "evil"}]}},
        PLAIN,
    ),
    "labels its pod": ("PATCH", f"{ROOT}/pods/on-foreign", {"metadata": {"labels": {"a": "b"}}}, PLAIN),
    "adds a container": ("PATCH", f"{ROOT}/pods/on-foreign/ephemeralcontainers", {"spec": {}}, PLAIN),
    "resizes its pod": ("PATCH", f"{ROOT}/pods/on-foreign/resize", {"spec": {}}, PLAIN),
    "reports another's pod": ("PATCH", f"{ROOT}/pods/on-other/status", RUNNING, ONLY_OWN_STATUS),
    "reports a pod of no node": ("PATCH", f"{ROOT}/pods/pending/status", RUNNING, ONLY_OWN_STATUS),
    "labels through the status": (
        "PATCH",
        f"{ROOT}/pods/on-foreign/status",
        {"metadata": {"labels": {"app": "theirs"}}},
        f"{ME} cannot update labels through pod status",
    ),
    "evicts another's pod": (
        "POST",
        f"{ROOT}/pods/on-other/eviction",
        {**EVICTION, "metadata": {"name": "on-other"}},
        "node foreign can only evict pods with spec.nodeName set to itself",
    ),
    "binds a pod to itself": (
        "POST",
        f"{ROOT}/pods/pending/binding",
        {**BINDING, "metadata": {"name": "pending"}},
        PLAIN,
    ),
    "binds by the old path": ("POST", f"{ROOT}/bindings", {**BINDING, "metadata": {"name": "pending"}}, PLAIN),
    "runs a command": ("POST", f"{ROOT}/pods/on-other/exec?command=id", None, PLAIN),
    # Nodes
    "deletes its node": ("DELETE", "/api/v1/nodes/{node}", None, PLAIN),
    "deletes all nodes": ("DELETE", "/api/v1/nodes", None, PLAIN),
    "labels the other node": (
        "PATCH",
        "/api/v1/nodes/{other}",
        {"metadata": {"labels": {"a": "b"}}},
        f'{ME} is not allowed to modify node "{{other}}"',
    ),
    "reports the other node": (
        "PATCH",
        "/api/v1/nodes/{other}/status",
        {"status": {"conditions": []}},
        f'{ME} is not allowed to modify node "{{other}}"',
    ),
    "makes a node": (
        "POST",
        "/api/v1/nodes",
        {"metadata": {"name": "ghost"}},
        f'{ME} is not allowed to modify node "ghost"',
    ),
    "removes its taint": (
        "PATCH",
        "/api/v1/nodes/{node}",
        {"spec": {"taints": []}},
        f"{ME} is not allowed to modify taints",
    ),
    "takes a reserved label": (
        "PATCH",
        "/api/v1/nodes/{node}",
        {"metadata": {"labels": {"node-restriction.kubernetes.io/pci": "true"}}},
        "is not allowed to modify labels: node-restriction.kubernetes.io/pci",
    ),
    "takes a reserved label through the status": (
        "PATCH",
        "/api/v1/nodes/{node}/status",
        {"metadata": {"labels": {"node-restriction.kubernetes.io/pci": "true"}}},
        "is not allowed to modify labels: node-restriction.kubernetes.io/pci",
    ),
    "takes a role": (
        "PATCH",
        "/api/v1/nodes/{node}",
        {"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}}},
        "is not allowed to modify labels: node-role.kubernetes.io/control-plane",
    ),
    "takes an unknown k8s.io label": (
        "PATCH",
        "/api/v1/nodes/{node}",
        {"metadata": {"labels": {"a.k8s.io/b": "c"}}},
        "is not allowed to modify labels: a.k8s.io/b",
    ),
    # Leases
    "takes the other node's lease": (
        "PATCH",
        f"{LEASES}/{{other}}",
        {"spec": {"holderIdentity": "foreign"}},
        "can only access node lease with the same name as the requesting node",
    ),
    "deletes the other node's lease": (
        "DELETE",
        f"{LEASES}/{{other}}",
        None,
        "can only access node lease with the same name as the requesting node",
    ),
    "makes another lease": (
        "POST",
        LEASES,
        {"metadata": {"name": "ghost"}},
        "can only access node lease with the same name as the requesting node",
    ),
    "makes a lease elsewhere": (
        "POST",
        "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases",
        {"metadata": {"name": "{node}"}},
        'can only access leases in the "kube-node-lease" system namespace',
    ),
    # The rest
    "makes a secret": ("POST", f"{ROOT}/secrets", {"metadata": {"name": "x"}}, "can only read resources of this type"),
    "changes its secret": (
        "PATCH",
        f"{ROOT}/secrets/mine",
        {"data": {"k": "eA=="}},
        "can only read resources of this type",
    ),
    "deletes its secret": ("DELETE", f"{ROOT}/secrets/mine", None, "can only read resources of this type"),
    "changes its configmap": (
        "PATCH",
        f"{ROOT}/configmaps/mine",
        {"data": {"k": "x"}},
        "can only read resources of this type",
    ),
    "makes a namespace": ("POST", "/api/v1/namespaces", {"metadata": {"name": "x"}}, PLAIN),
    "deletes a namespace": ("DELETE", "/api/v1/namespaces/{ns}", None, PLAIN),
    "makes a service": (
        "POST",
        f"{ROOT}/services",
        {"metadata": {"name": "x"}, "spec": {"ports": [{"port": 1}]}},
        PLAIN,
    ),
    "changes the API server's endpoints": (
        "PATCH",
        "/api/v1/namespaces/default/endpoints/kubernetes",
        {"subsets": []},
        PLAIN,
    ),
    "makes a service account": (
        "POST",
        f"{ROOT}/serviceaccounts",
        {"metadata": {"name": "x"}},
        "can only create tokens for individual service accounts",
    ),
    "deletes events": ("DELETE", f"{ROOT}/events", None, PLAIN),
}


@pytest.mark.parametrize("case", WRITES.values(), ids=WRITES.keys())
def test_what_others_have_is_not_changed(scene: Scene, case: tuple[str, str, Any, str]) -> None:
    method, path, body, reason = case
    content_type = STRATEGIC if method == "PATCH" else "application/json"
    if method == "PATCH" and path.startswith("/apis/"):
        content_type = MERGE
    answer = scene.attempt(method, path, body, content_type)
    assert (answer.code, answer.json["reason"]) == (403, "Forbidden"), answer.raw
    assert scene.fill(reason) in answer.message


def bound(pod: str = "on-foreign", **changes: Any) -> dict[str, Any]:
    reference = {"kind": "Pod", "apiVersion": "v1", "name": pod, "uid": f"{{uid:{pod}}}", **changes}
    return {key: value for key, value in reference.items() if value}


UNBOUND = "node requested token not bound to a pod"
TOKENS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bound to nothing": (MINE, {}, UNBOUND),
    "bound to a secret": (MINE, {"boundObjectRef": bound(kind="Secret", name="mine", uid="")}, UNBOUND),
    "bound to a node": (MINE, {"boundObjectRef": bound(kind="Node", name="{node}", uid="")}, UNBOUND),
    "bound to a pod without uid": (
        MINE,
        {"boundObjectRef": bound(uid="")},
        "node requested token with a pod binding without a uid",
    ),
    "bound to a former pod": (
        MINE,
        {"boundObjectRef": bound(uid="old")},
        "the UID in the bound object reference (old) does not match the UID in record. The object might have been",
    ),
    "bound to another node's pod": (
        MINE,
        {"boundObjectRef": bound("on-other")},
        "node requested token bound to a pod scheduled on a different node",
    ),
    "bound to a pod of no node": (
        MINE,
        {"boundObjectRef": bound("pending")},
        "node requested token bound to a pod scheduled on a different node",
    ),
    "for another node's account": (
        "theirs",
        {"boundObjectRef": bound("on-other")},
        "no relationship found between node 'foreign' and this object",
    ),
    "for the default account": (
        "default",
        {"boundObjectRef": bound()},
        "no relationship found between node 'foreign' and this object",
    ),
    "for an audience that no volume names": (
        MINE,
        {"boundObjectRef": bound(), "audiences": ["elsewhere"]},
        'audience "elsewhere" not found in pod spec volume, system:node:foreign is not authorized to request tokens '
        "for this audience",
    ),
    "for two audiences": (
        MINE,
        {"boundObjectRef": bound(), "audiences": ["a", "b"]},
        "node may only request 0 or 1 audiences",
    ),
}


@pytest.mark.parametrize("case", TOKENS.values(), ids=TOKENS.keys())
def test_only_its_pods_tokens_are_given(scene: Scene, case: tuple[str, dict[str, Any], str]) -> None:
    account, spec, reason = case
    answer = scene.attempt("POST", f"{ROOT}/serviceaccounts/{account}/token", {"spec": spec})
    assert answer.code == 403, answer.raw
    assert reason in answer.message


@pytest.mark.parametrize(
    "headers",
    [
        {"Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters"},
        {"Impersonate-User": "system:node:{other}", "Impersonate-Group": "system:nodes"},
        {"Impersonate-User": "system:serviceaccount:kube-system:default"},
    ],
)
def test_it_acts_as_nobody_else(scene: Scene, headers: dict[str, str]) -> None:
    answer = scene.node.request("GET", "/api/v1/nodes", headers=scene.fill_body(headers))
    assert answer.code == 403
    assert "cannot impersonate resource" in answer.message


def test_its_own_things_are_written(scene: Scene) -> None:
    def allowed(method: str, path: str, body: Any = None, content_type: str = "application/json") -> Any:
        answer = scene.attempt(method, path, body, content_type)
        assert answer.code in (200, 201), answer.raw
        return answer.json

    allowed(
        "PATCH", "/api/v1/nodes/{node}", {"metadata": {"labels": {"kubernetes.io/arch": "amd64", "mine": "x"}}}, MERGE
    )
    allowed("PATCH", "/api/v1/nodes/{node}/status", {"status": {"capacity": {"cpu": "2"}}}, STRATEGIC)
    allowed("PATCH", f"{ROOT}/pods/on-foreign/status", RUNNING, STRATEGIC)
    allowed("POST", LEASES, {"metadata": {"name": "{node}"}, "spec": {"holderIdentity": "{node}"}})
    allowed("PATCH", f"{LEASES}/{{node}}", {"spec": {"leaseDurationSeconds": 40}}, MERGE)
    about = {"kind": "Pod", "name": "on-foreign", "namespace": NAMESPACE}
    event = {
        "metadata": {"name": "e", "namespace": NAMESPACE},
        "involvedObject": about,
        "reason": "R",
        "type": "Normal",
    }
    allowed("POST", f"{ROOT}/events", event)
    token = allowed("POST", f"{ROOT}/serviceaccounts/{MINE}/token", {"spec": {"boundObjectRef": bound()}})
    assert token["status"]["token"]
    allowed("POST", f"{ROOT}/pods", mirror())
    allowed("DELETE", f"{ROOT}/pods/static?gracePeriodSeconds=0")
    allowed("POST", f"{ROOT}/pods", mirror(name="evicted"))
    allowed("POST", f"{ROOT}/pods/evicted/eviction", {**EVICTION, "metadata": {"name": "evicted"}})
    allowed("DELETE", f"{LEASES}/{{node}}")
