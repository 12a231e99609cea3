"""Tokens of service accounts in Pods: what a client inside the cluster finds, and what it may do with it."""

from __future__ import annotations

import json
from typing import Any

from tests.support.cluster import Cluster, unique
from tests.support.pods import container, mount, object_, pod

DIRECTORY = "/var/run/secrets/kubernetes.io/serviceaccount"


def access(**token: Any) -> dict[str, Any]:
    """The volume that API servers put into every Pod."""
    fields = [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]
    sources = [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607, **token}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": fields}},
    ]
    return {"name": "kube-api-access-abcde", "projected": {"defaultMode": 420, "sources": sources}}


def asked(cluster: Cluster, token: str, audience: str = "") -> tuple[int, dict[str, Any]]:
    """What the API server says of who the bearer is."""
    api = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    if audience:
        api["spec"] = {"token": token, "audiences": [audience]}
    found = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", stdin=json.dumps(api)))
    return found["status"].get("authenticated", False), found["status"].get("user", {})


def test_a_client_in_a_pod_finds_its_token_the_authority_its_namespace_and_the_server(
    cluster: Cluster, namespace: str
) -> None:
    account, name = unique("robot"), unique("client")
    cluster.kubectl("-n", namespace, "create", "serviceaccount", account)
    script = f"cd {DIRECTORY}; cat token; echo; cat namespace; echo; head -1 ca.crt; env | grep KUBERNETES_SERVICE; ls -ln .."
    one = container(script=f"{script}; exec sleep 3600", volumeMounts=[mount(access()["name"], DIRECTORY)])
    cluster.apply(pod(name, one, serviceAccountName=account, volumes=[access()]), "-n", namespace)
    cluster.wait(f"pod/{name}", "condition=Ready", "-n", namespace)
    with cluster.kubectl_lines("logs", "-f", name, "-n", namespace) as lines:
        token, place, authority, *rest = (next(lines) for _ in range(5))
    assert place == namespace
    assert authority == "-----BEGIN CERTIFICATE-----"
    assert {line.partition("=")[0] for line in rest} <= {
        "KUBERNETES_SERVICE_HOST",
        "KUBERNETES_SERVICE_PORT",
        "KUBERNETES_SERVICE_PORT_HTTPS",
    }
    known, user = asked(cluster, token)
    assert known
    assert user["username"] == f"system:serviceaccount:{namespace}:{account}"
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == [name]
    # The token goes with its Pod, and its file was never on a disk.
    uid = cluster.get("pod", name, "-n", namespace)["metadata"]["uid"]
    volume = f"{cluster.data_dir}/pods/{uid}/volumes/kubernetes.io~projected/{access()['name']}"
    with open("/proc/self/mountinfo") as mounts:
        assert any(f" {volume} " in line and " - tmpfs " in line for line in mounts)
    cluster.kubectl("-n", namespace, "delete", "pod", name, "--timeout=30s")
    assert not asked(cluster, token)[0]


def test_a_token_for_others_is_read_by_the_user_of_the_pod_alone(cluster: Cluster, namespace: str) -> None:
    name = unique("vault")
    script = f"cat {DIRECTORY}/token; echo; stat -Lc '%a %u %g' {DIRECTORY}/token; exec sleep 3600"
    one = container(script=script, volumeMounts=[mount(access()["name"], DIRECTORY)])
    context = {"runAsUser": 1000, "fsGroup": 2000}
    volumes = [access(audience="vault", expirationSeconds=600)]
    cluster.apply(pod(name, one, securityContext=context, volumes=volumes), "-n", namespace)
    cluster.wait(f"pod/{name}", "condition=Ready", "-n", namespace)
    with cluster.kubectl_lines("logs", "-f", name, "-n", namespace) as lines:
        token, owner = next(lines), next(lines)
    assert owner == "640 1000 2000"
    assert not asked(cluster, token)[0]
    assert asked(cluster, token, "vault")[0]


def test_a_token_of_an_account_that_goes_keeps_a_pod_from_starting_and_says_why(
    cluster: Cluster, namespace: str
) -> None:
    account, name = unique("gone"), unique("waiting")
    cluster.kubectl("-n", namespace, "create", "serviceaccount", account)
    # It waits for a ConfigMap, which its volume shows first, while its account goes.
    volume = access()
    volume["projected"]["sources"].insert(0, {"configMap": {"name": "later"}})
    one = container(volumeMounts=[mount(volume["name"], DIRECTORY)])
    cluster.apply(pod(name, one, serviceAccountName=account, volumes=[volume]), "-n", namespace)
    events = ("get", "events", "-n", namespace, "-w", "-o", "custom-columns=M:.message", "--field-selector")
    with cluster.kubectl_lines(*events, f"involvedObject.name={name},reason=FailedMount") as lines:
        assert next(line for line in lines if '"later" not found' in line)
        cluster.kubectl("-n", namespace, "delete", "serviceaccount", account)
        cluster.apply(object_("ConfigMap", "later", data={"a": "b"}), "-n", namespace)
        said = next(line for line in lines if "token" in line)
    assert f'MountVolume.SetUp failed for volume "{volume["name"]}" : failed to fetch token: ' in said
    assert f'serviceaccounts "{account}" not found' in said
    cluster.kubectl("-n", namespace, "create", "serviceaccount", account)
    cluster.wait(f"pod/{name}", "condition=Ready", "-n", namespace)
