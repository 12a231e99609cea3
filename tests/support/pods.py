"""Manifests of Pods for tests: small scripts in BusyBox."""

from __future__ import annotations

from typing import Any

RUN = "trap 'exit 0' TERM; sleep 3600 & wait"
"""Runs until SIGTERM, then ends at once."""


def container(name: str = "main", script: str = RUN, **fields: Any) -> dict[str, Any]:
    """A container that runs the script with BusyBox's shell; `fields` in wire names."""
    return {
        "name": name,
        "image": "busybox",
        "imagePullPolicy": "IfNotPresent",
        "command": ["sh", "-c", script],
        **fields,
    }


def pod(name: str, *containers: dict[str, Any], metadata: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A Pod of these containers, or of one that just runs; `spec` in wire names."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, **(metadata or {})},
        "spec": {
            "terminationGracePeriodSeconds": 1,
            "containers": list(containers) or [container()],
            **spec,
        },
    }


def mount(name: str, path: str, **fields: Any) -> dict[str, Any]:
    """A volume mount."""
    return {"name": name, "mountPath": path, **fields}


def object_(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    """A core/v1 object other than a Pod: object_("ConfigMap", "c", data={...})."""
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **fields}


def items(*objects: dict[str, Any]) -> dict[str, Any]:
    """Several manifests as one."""
    return {"apiVersion": "v1", "kind": "List", "items": list(objects)}
