"""Pods that come to an end: made and waited for through the API, which is quicker than kubectl for many small ones."""

from __future__ import annotations

import json
from collections.abc import Set
from typing import Any

from tests.support.cluster import Cluster
from tests.support.https import Https

SECONDS = 60


def create(client: Https, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Create the Pod and return it as the server stored it."""
    answer = client.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert answer.code == 201, answer.message
    created: dict[str, Any] = answer.json
    return created


def ended(client: Https, namespace: str, name: str, stuck: Set[str] = frozenset()) -> dict[str, Any]:
    """Return the Pod once its phase is Succeeded or Failed, or a container of it waits for a reason among `stuck`.

    It follows a watch, so that nothing is polled.
    """
    connection = client.open()
    connection.timeout = SECONDS + 10
    try:
        query = f"watch=true&timeoutSeconds={SECONDS}&fieldSelector=metadata.name={name}"
        connection.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")
        pod: dict[str, Any] = {}
        for line in connection.getresponse():
            pod = json.loads(line)["object"]
            status = pod["status"]
            waiting = [one["state"].get("waiting", {}).get("reason") for one in status.get("containerStatuses", [])]
            if status.get("phase") in ("Succeeded", "Failed") or not stuck.isdisjoint(waiting):
                return pod
        raise AssertionError(f"pod {name} has not ended: {pod.get('status')}")
    finally:
        connection.close()


FATAL = {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"}


def end_of(cluster: Cluster, admin: Https, body: dict[str, Any]) -> tuple[str, str]:
    """The Pod's phase, or the reason for which its container cannot start, and its output; then the Pod goes."""
    name = body["metadata"]["name"]
    create(admin, "default", {**body, "spec": {"restartPolicy": "Never", **body["spec"]}})
    try:
        status = ended(admin, "default", name, stuck=FATAL)["status"]
        for one in status.get("containerStatuses", []):
            if waiting := one["state"].get("waiting"):
                return waiting["reason"], waiting.get("message", "")
            if (over := one["state"].get("terminated")) and over["reason"] == "StartError":
                return "StartError", over["message"]
        return status["phase"], cluster.try_kubectl("logs", name).stdout
    finally:
        admin.request("DELETE", f"/api/v1/namespaces/default/pods/{name}?gracePeriodSeconds=0")
