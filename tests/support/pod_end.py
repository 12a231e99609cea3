"""Pods that come to an end: made and waited for through the API, which is quicker than kubectl for many small ones."""

from __future__ import annotations

import json
from typing import Any

from tests.support.https import Https

SECONDS = 60


def create(client: Https, namespace: str, pod: dict[str, Any]) -> dict[str, Any]:
    """Create the Pod and return it as the server stored it."""
    answer = client.request("POST", f"/api/v1/namespaces/{namespace}/pods", pod)
    assert answer.code == 201, answer.message
    created: dict[str, Any] = answer.json
    return created


def ended(client: Https, namespace: str, name: str) -> dict[str, Any]:
    """Return the Pod once its phase is Succeeded or Failed; from a watch, so that nothing is polled."""
    connection = client.open()
    connection.timeout = SECONDS + 10
    try:
        query = f"watch=true&timeoutSeconds={SECONDS}&fieldSelector=metadata.name={name}"
        connection.request("GET", f"/api/v1/namespaces/{namespace}/pods?{query}")
        pod: dict[str, Any] = {}
        for line in connection.getresponse():
            pod = json.loads(line)["object"]
            if pod["status"].get("phase") in ("Succeeded", "Failed"):
                return pod
        raise AssertionError(f"pod {name} has not ended: {pod.get('status')}")
    finally:
        connection.close()
