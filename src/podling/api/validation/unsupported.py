"""What Podling does not implement yet. Such a field is refused instead of being accepted and ignored.

TABLE is the whole policy: implementing a feature deletes its line. A path names a field as in manifests, `[*]` being
every element of a list; the optional condition narrows the values that are refused (by default: any that is set, other
than false).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from podling.api.core.v1 import Pod
from podling.api.field import FieldError, Path, forbidden

DETAIL = "is not implemented by Podling yet"

SYSTEM_PRIORITY_CLASSES = ("system-cluster-critical", "system-node-critical")


class Unsupported(NamedTuple):
    """A field, and which of its values are meant."""

    path: str
    when: Callable[[Any], bool] = bool


def _is_false(value: object) -> bool:
    return value is False


def _is(*values: object) -> Callable[[object], bool]:
    return lambda value: value in values


def _is_not(*values: object) -> Callable[[object], bool]:
    return lambda value: value not in values


def _every_container(*fields: str | tuple[str, Callable[[Any], bool]]) -> tuple[Unsupported, ...]:
    lines = []
    for entry in fields:
        name, when = (entry, bool) if isinstance(entry, str) else entry
        lines += [Unsupported(f"spec.{kind}[*].{name}", when) for kind in ("initContainers", "containers")]
    return tuple(lines)


TABLE: tuple[Unsupported, ...] = (
    # Containers.
    *_every_container(
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "lifecycle.postStart",
        "lifecycle.preStop",
        "resizePolicy",
        "restartPolicyRules",
        "volumeDevices",
        "env[*].valueFrom.fileKeyRef",
        "resources.claims",
        "securityContext.appArmorProfile",
        ("securityContext.seccompProfile.type", _is("Localhost")),
    ),
    Unsupported("spec.containers[*].restartPolicy"),
    Unsupported("spec.initContainers[*].restartPolicy", _is_not("Always")),
    Unsupported("spec.ephemeralContainers"),
    # The Pod's own security.
    Unsupported("spec.hostUsers", _is_false),
    Unsupported("spec.securityContext.appArmorProfile"),
    Unsupported("spec.securityContext.seccompProfile.type", _is("Localhost")),
    # Resources.
    Unsupported("spec.resources"),
    Unsupported("spec.resourceClaims"),
    Unsupported("spec.overhead"),
    Unsupported("spec.runtimeClassName"),
    # Scheduling.
    Unsupported("spec.schedulingGroup"),
    Unsupported("spec.priorityClassName", _is_not(*SYSTEM_PRIORITY_CLASSES)),
    # Volumes.
    Unsupported("spec.volumes[*].emptyDir.medium", _is_not("Memory")),
    *(
        Unsupported(f"spec.volumes[*].{source}")
        for source in (
            "awsElasticBlockStore",
            "azureDisk",
            "azureFile",
            "cephfs",
            "cinder",
            "csi",
            "ephemeral",
            "fc",
            "flexVolume",
            "flocker",
            "gcePersistentDisk",
            "gitRepo",
            "glusterfs",
            "iscsi",
            "nfs",
            "persistentVolumeClaim",
            "photonPersistentDisk",
            "portworxVolume",
            "projected.sources[*].clusterTrustBundle",
            "projected.sources[*].podCertificate",
            "quobyte",
            "rbd",
            "scaleIO",
            "storageos",
            "vsphereVolume",
        )
    ),
)


_NOT_THE_NODES = ("schedulingGroup", "priorityClassName", "resizePolicy")
"""Ends of paths whose fields are a scheduler's, or change nothing for a node that does not resize.
An API server fills in resizePolicy for every container with resources."""

NODE_TABLE = tuple(line for line in TABLE if not line.path.endswith(_NOT_THE_NODES))
"""What an agent cannot do for a Pod of another API server, which knows nothing of TABLE."""


def errors(pod: Pod, table: tuple[Unsupported, ...] = TABLE) -> list[FieldError]:
    """One Forbidden for every unimplemented field that the Pod uses."""
    return [forbidden(path, DETAIL) for path in _walk(pod, _tree(table), Path())]


class _Node:
    """A part of the paths: below it further names, or conditions on the value here."""

    __slots__ = ("below", "bound", "conditions", "in_list")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.in_list = False
        self.conditions: list[Callable[[Any], bool]] = []
        self.bound: dict[type, list[tuple[str, str, _Node]]] = {}

    def members(self, kind: type) -> list[tuple[str, str, _Node]]:
        """Attribute, wire name and node of every field below, for structs of this type. KeyError for a wrong path."""
        found = self.bound.get(kind)
        if found is None:
            fields = zip(kind.__struct_encode_fields__, kind.__struct_fields__, strict=True)  # type: ignore[attr-defined]
            attributes: dict[str, str] = dict(fields)
            found = [(attributes[wire], wire, node) for wire, node in self.below.items()]
            self.bound[kind] = found
        return found


@cache
def _tree(table: tuple[Unsupported, ...]) -> _Node:
    root = _Node()
    for line in table:
        node = root
        for part in line.path.split("."):
            node = node.below.setdefault(part.removesuffix("[*]"), _Node())
            node.in_list |= part.endswith("[*]")
        node.conditions.append(line.when)
    return root


def _walk(value: Any, node: _Node, path: Path) -> Iterator[str]:
    for attribute, wire, child in node.members(type(value)):
        given = getattr(value, attribute)
        if given is None or given == "" or given == [] or given == {}:
            continue
        at = path.child(wire) if path else Path(wire)
        if child.conditions and any(when(given) for when in child.conditions):
            yield at
        elif child.in_list:
            for i, element in enumerate(given):
                yield from _walk(element, child, at.index(i))
        elif child.below:
            yield from _walk(given, child, at)
