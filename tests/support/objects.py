"""Short ways to write API objects in tests."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from podling.api import codec
from podling.api.core.v1 import Node, Pod


def make_pod(
    name: str = "web",
    namespace: str = "default",
    *,
    uid: str = "",
    labels: Mapping[str, str] = {},
    requests: Mapping[str, str] = {},
    status: Mapping[str, Any] = {},
    **spec: Any,
) -> Pod:
    """A Pod of one container that requests what is given; `spec` in wire names."""
    container = {"name": "main", "image": "busybox", "resources": {"requests": dict(requests)}}
    document = {
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "labels": dict(labels)},
        "spec": {"containers": [container], "schedulerName": "default-scheduler", **spec},
        "status": dict(status),
    }
    return codec.convert(document, Pod)


def make_node(
    name: str = "node-1",
    *,
    cpu: str = "4",
    memory: str = "8Gi",
    pods: str = "110",
    labels: Mapping[str, str] = {},
    extra: Mapping[str, str] = {},
    ready: str = "True",
    **spec: Any,
) -> Node:
    """A Node that posted a status; `extra` are more resources, `spec` in wire names."""
    resources = {"cpu": cpu, "memory": memory, "pods": pods, "ephemeral-storage": "10Gi", **extra}
    document = {
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, **labels}},
        "spec": spec,
        "status": {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [{"type": "Ready", "status": ready, "reason": "KubeletReady"}],
        },
    }
    return codec.convert(document, Node)
