"""What list and watch select by: labels, and the fields that upstream makes selectable for each kind.

Only the selectable parts of a stored object are decoded, so selecting costs a few microseconds an object.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from podling.api import fields, labels, status
from podling.api.go import quote


class _Base(Struct, rename="camel", gc=False):
    """A part of a stored object."""


class _Metadata(_Base):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = {}


class Selectable(_Base):
    """The part of every object that can be selected by."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)

    def fields(self) -> dict[str, str]:
        return {}


def _text(value: bool | None) -> str:
    return "true" if value else "false"


class _PodSpec(_Base):
    node_name: str = ""
    restart_policy: str = ""
    scheduler_name: str = ""
    service_account_name: str = ""
    host_network: bool | None = None


class _PodStatus(_Base):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")
    nominated_node_name: str = ""


class _Pod(Selectable):
    spec: _PodSpec = msgspec.field(default_factory=_PodSpec)
    status: _PodStatus = msgspec.field(default_factory=_PodStatus)

    def fields(self) -> dict[str, str]:
        return {
            "spec.nodeName": self.spec.node_name,
            "spec.restartPolicy": self.spec.restart_policy,
            "spec.schedulerName": self.spec.scheduler_name,
            "spec.serviceAccountName": self.spec.service_account_name,
            "spec.hostNetwork": _text(self.spec.host_network),
            "status.phase": self.status.phase,
            "status.podIP": self.status.pod_ip,
            "status.nominatedNodeName": self.status.nominated_node_name,
        }


class _NodeSpec(_Base):
    unschedulable: bool | None = None


class _Node(Selectable):
    spec: _NodeSpec = msgspec.field(default_factory=_NodeSpec)

    def fields(self) -> dict[str, str]:
        return {"spec.unschedulable": _text(self.spec.unschedulable)}


class _Phase(_Base):
    phase: str = ""


class _Namespace(Selectable):
    status: _Phase = msgspec.field(default_factory=_Phase)

    def fields(self) -> dict[str, str]:
        return {"name": self.metadata.name, "status.phase": self.status.phase}


class _Secret(Selectable):
    type: str = ""

    def fields(self) -> dict[str, str]:
        return {"type": self.type}


class _ServiceSpec(_Base):
    cluster_ip: str = msgspec.field(default="", name="clusterIP")
    type: str = ""


class _Service(Selectable):
    spec: _ServiceSpec = msgspec.field(default_factory=_ServiceSpec)

    def fields(self) -> dict[str, str]:
        return {"spec.clusterIP": self.spec.cluster_ip, "spec.type": self.spec.type}


class _Reference(_Base):
    kind: str = ""
    namespace: str = ""
    name: str = ""
    uid: str = ""
    api_version: str = ""
    resource_version: str = ""
    field_path: str = ""


class _Source(_Base):
    component: str = ""


class _Event(Selectable):
    involved_object: _Reference = msgspec.field(default_factory=_Reference)
    source: _Source = msgspec.field(default_factory=_Source)
    reporting_component: str = ""
    reason: str = ""
    type: str = ""

    def fields(self) -> dict[str, str]:
        involved = self.involved_object
        return {
            "involvedObject.kind": involved.kind,
            "involvedObject.namespace": involved.namespace,
            "involvedObject.name": involved.name,
            "involvedObject.uid": involved.uid,
            "involvedObject.apiVersion": involved.api_version,
            "involvedObject.resourceVersion": involved.resource_version,
            "involvedObject.fieldPath": involved.field_path,
            "reason": self.reason,
            "reportingComponent": self.reporting_component or self.source.component,
            "source": self.source.component or self.reporting_component,
            "type": self.type,
        }


class _NewEvent(_Event):
    """The same stored Event under the names of events.k8s.io."""

    def fields(self) -> dict[str, str]:
        stored = super().fields()
        regarding = {
            f"regarding.{field.removeprefix('involvedObject.')}": value
            for field, value in stored.items()
            if field.startswith("involvedObject.")
        }
        return {
            **regarding,
            "reason": stored["reason"],
            "reportingController": stored["reportingComponent"],
            "type": stored["type"],
        }


class _Replicas(_Base):
    replicas: int = 0


class _Replicated(Selectable):
    status: _Replicas = msgspec.field(default_factory=_Replicas)

    def fields(self) -> dict[str, str]:
        return {"status.replicas": str(self.status.replicas)}


class _Succeeded(_Base):
    succeeded: int = 0


class _Job(Selectable):
    status: _Succeeded = msgspec.field(default_factory=_Succeeded)

    def fields(self) -> dict[str, str]:
        return {"status.successful": str(self.status.succeeded)}


_BY_RESOURCE: dict[tuple[str, str], type[Selectable]] = {
    ("", "pods"): _Pod,
    ("", "nodes"): _Node,
    ("", "namespaces"): _Namespace,
    ("", "secrets"): _Secret,
    ("", "services"): _Service,
    ("", "events"): _Event,
    ("events.k8s.io", "events"): _NewEvent,
    ("", "replicationcontrollers"): _Replicated,
    ("apps", "replicasets"): _Replicated,
    ("batch", "jobs"): _Job,
}

Predicate = Callable[[bytes], bool]


def predicate(group: str, resource: str, label_selector: str, field_selector: str) -> Predicate | None:
    """Whether a stored object is selected; None where every object is. Raises ApiError (400)."""
    if not label_selector and not field_selector:
        return None
    try:
        by_label = labels.parse(label_selector)
    except ValueError as error:
        raise status.bad_request(str(error)) from error
    try:
        by_field = fields.parse(field_selector)
    except ValueError as error:
        raise status.bad_request(str(error)) from error
    kind = _BY_RESOURCE.get((group, resource), Selectable)
    _check_fields(by_field, kind)
    decode = msgspec.json.Decoder(kind).decode

    def selected(value: bytes) -> bool:
        obj = decode(value)
        if label_selector and not by_label.matches(obj.metadata.labels):
            return False
        if not field_selector:
            return True
        known = obj.fields()
        known["metadata.name"] = obj.metadata.name
        known["metadata.namespace"] = obj.metadata.namespace
        return by_field.matches(known)

    return selected


def _check_fields(selector: Any, kind: type[Selectable]) -> None:
    known = {"metadata.name", "metadata.namespace", *kind().fields()}
    for requirement in selector.requirements:
        if requirement.field in known:
            continue
        if kind is Selectable:
            text = (
                f'{quote(requirement.field)} is not a known field selector: only "metadata.name", "metadata.namespace"'
            )
        else:
            text = f"field label not supported: {requirement.field}"
        raise status.bad_request(text)
