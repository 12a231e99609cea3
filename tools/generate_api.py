"""Generate src/podling/api/<group>/v1.py from the Kubernetes OpenAPI definitions.

Run it by hand after changing a table below: `.venv/bin/python tools/generate_api.py`. The definitions come from the
PyPI package kubernetes-validate, a development dependency; the product never reads them at run time.

What OpenAPI does not say about the Go types (which struct is a value, which string is a pointer) is in the tables here.
"""

from __future__ import annotations

import importlib.resources
import json
import keyword
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

VERSION = "v1.36.0-local"
OUT = Path(__file__).parent.parent / "src" / "podling" / "api"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."

# Package name -> (API group, prefix of its definitions).
GROUPS = {
    "meta": ("", META),
    "core": ("", "io.k8s.api.core.v1."),
    "apps": ("apps", "io.k8s.api.apps.v1."),
    "batch": ("batch", "io.k8s.api.batch.v1."),
    "coordination": ("coordination.k8s.io", "io.k8s.api.coordination.v1."),
    "discovery": ("discovery.k8s.io", "io.k8s.api.discovery.v1."),
    "events": ("events.k8s.io", "io.k8s.api.events.v1."),
    "policy": ("policy", "io.k8s.api.policy.v1."),
    "rbac": ("rbac.authorization.k8s.io", "io.k8s.api.rbac.v1."),
    "scheduling": ("scheduling.k8s.io", "io.k8s.api.scheduling.v1."),
    "node": ("node.k8s.io", "io.k8s.api.node.v1."),
    "storage": ("storage.k8s.io", "io.k8s.api.storage.v1."),
    "authentication": ("authentication.k8s.io", "io.k8s.api.authentication.v1."),
    "authorization": ("authorization.k8s.io", "io.k8s.api.authorization.v1."),
}

# Definitions that are aliases in podling.api.types (or nothing at all) instead of structs.
SCALARS = {
    META + "Time": "Time",
    META + "MicroTime": "MicroTime",
    META + "FieldsV1": "Any",
    META + "Patch": "Any",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "Any",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "IntOrString",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "Quantity",
}

# Optional fields whose Go type is a struct value, not a pointer: they are always there and always encoded.
# metadata, spec and status of every kind are values as well (VALUE_NAMES).
VALUE_NAMES = {"metadata", "spec", "status"}
TEMPLATES = {"PodTemplateSpec", "JobTemplateSpec", "PersistentVolumeClaimTemplate"}
VALUES = {
    "core.Container.resources",
    "core.EphemeralContainer.resources",
    "core.ContainerStatus.state",
    "core.ContainerStatus.lastState",
    "core.PersistentVolumeClaimSpec.resources",
    "core.NodeStatus.daemonEndpoints",
    "core.NodeStatus.nodeInfo",
    "core.NodeDaemonEndpoints.kubeletEndpoint",
    "core.ServiceStatus.loadBalancer",
    "core.Event.source",
    "core.PodTemplate.template",
    "core.ResourceFieldSelector.divisor",
    "apps.DeploymentSpec.strategy",
    "apps.DaemonSetSpec.updateStrategy",
    "apps.StatefulSetSpec.updateStrategy",
    "apps.ReplicaSetSpec.template",
    "authentication.TokenReviewStatus.user",
    "authentication.SelfSubjectReviewStatus.userInfo",
    "discovery.Endpoint.conditions",
    "events.Event.deprecatedSource",
    "events.Event.regarding",
    "meta.APIGroup.preferredVersion",
}
# Fields named like VALUE_NAMES or required by the schema that are pointers in Go.
POINTERS = {
    "apps.DaemonSetSpec.selector",
    "apps.DeploymentSpec.selector",
    "apps.ReplicaSetSpec.selector",
    "apps.StatefulSetSpec.selector",
    "core.ScaleIOVolumeSource.secretRef",
    "core.ScaleIOPersistentVolumeSource.secretRef",
    "core.EphemeralVolumeSource.volumeClaimTemplate",
    "core.ReplicationControllerSpec.template",
}

# Fields whose Go type is a pointer to a string, so that an empty one differs from an absent one.
STRING_POINTERS = {
    "batch.CronJobSpec.timeZone",
    "batch.JobSpec.completionMode",
    "batch.JobSpec.managedBy",
    "batch.JobSpec.podReplacementPolicy",
    "batch.JobStatus.failedIndexes",
    "batch.PodFailurePolicyOnExitCodesRequirement.containerName",
    "batch.SuccessPolicyRule.succeededIndexes",
    "coordination.LeaseSpec.holderIdentity",
    "coordination.LeaseSpec.preferredHolder",
    "coordination.LeaseSpec.strategy",
    "core.AppArmorProfile.localhostProfile",
    "core.AzureDiskVolumeSource.cachingMode",
    "core.AzureDiskVolumeSource.fsType",
    "core.AzureDiskVolumeSource.kind",
    "core.AzureFilePersistentVolumeSource.secretNamespace",
    "core.CSIVolumeSource.fsType",
    "core.ClusterTrustBundleProjection.name",
    "core.ClusterTrustBundleProjection.signerName",
    "core.Container.restartPolicy",
    "core.ContainerStatus.stopSignal",
    "core.EndpointAddress.nodeName",
    "core.EndpointPort.appProtocol",
    "core.EphemeralContainer.restartPolicy",
    "core.GRPCAction.service",
    "core.HostPathVolumeSource.type",
    "core.ISCSIPersistentVolumeSource.initiatorName",
    "core.ISCSIVolumeSource.initiatorName",
    "core.Lifecycle.stopSignal",
    "core.LoadBalancerIngress.ipMode",
    "core.LocalVolumeSource.fsType",
    "core.PersistentVolumeClaimSpec.storageClassName",
    "core.PersistentVolumeClaimSpec.volumeAttributesClassName",
    "core.PersistentVolumeClaimSpec.volumeMode",
    "core.PersistentVolumeClaimStatus.currentVolumeAttributesClassName",
    "core.PersistentVolumeSpec.volumeAttributesClassName",
    "core.PersistentVolumeSpec.volumeMode",
    "core.PodDNSConfigOption.value",
    "core.PodResourceClaim.resourceClaimName",
    "core.PodResourceClaim.resourceClaimTemplateName",
    "core.PodResourceClaimStatus.resourceClaimName",
    "core.PodSchedulingGroup.podGroupName",
    "core.PodSecurityContext.fsGroupChangePolicy",
    "core.PodSecurityContext.seLinuxChangePolicy",
    "core.PodSecurityContext.supplementalGroupsPolicy",
    "core.PodSpec.hostnameOverride",
    "core.PodSpec.preemptionPolicy",
    "core.PodSpec.runtimeClassName",
    "core.PortStatus.error",
    "core.SeccompProfile.localhostProfile",
    "core.SecurityContext.procMount",
    "core.ServicePort.appProtocol",
    "core.ServiceSpec.internalTrafficPolicy",
    "core.ServiceSpec.ipFamilyPolicy",
    "core.ServiceSpec.loadBalancerClass",
    "core.ServiceSpec.trafficDistribution",
    "core.TopologySpreadConstraint.nodeAffinityPolicy",
    "core.TopologySpreadConstraint.nodeTaintsPolicy",
    "core.TypedLocalObjectReference.apiGroup",
    "core.TypedObjectReference.apiGroup",
    "core.TypedObjectReference.namespace",
    "core.VolumeMount.mountPropagation",
    "core.VolumeMount.recursiveReadOnly",
    "core.VolumeMountStatus.recursiveReadOnly",
    "core.WindowsSecurityContextOptions.gmsaCredentialSpec",
    "core.WindowsSecurityContextOptions.gmsaCredentialSpecName",
    "core.WindowsSecurityContextOptions.runAsUserName",
    "discovery.Endpoint.hostname",
    "discovery.Endpoint.nodeName",
    "discovery.Endpoint.zone",
    "discovery.EndpointPort.appProtocol",
    "discovery.EndpointPort.name",
    "discovery.EndpointPort.protocol",
    "meta.DeleteOptions.propagationPolicy",
    "meta.Preconditions.resourceVersion",
    "meta.Preconditions.uid",
    "policy.PodDisruptionBudgetSpec.unhealthyPodEvictionPolicy",
    "scheduling.PriorityClass.preemptionPolicy",
    "storage.CSIDriverSpec.fsGroupPolicy",
    "storage.StorageClass.reclaimPolicy",
    "storage.StorageClass.volumeBindingMode",
    "storage.VolumeAttachmentSource.persistentVolumeName",
}

# Optional booleans that are no pointers in Go: false is the same as absent, and never written. Named by field; the paths
# in POINTER_BOOLEANS are the exceptions.
VALUE_BOOLEANS = {
    "authenticated",
    "chapAuthDiscovery",
    "chapAuthSession",
    "denied",
    "globalDefault",
    "hostIPC",
    "hostNetwork",
    "hostPID",
    "paused",
    "publishNotReadyAddresses",
    "readOnly",
    "sslEnabled",
    "stdin",
    "stdinOnce",
    "tty",
    "unschedulable",
}
POINTER_BOOLEANS = {"core.AzureDiskVolumeSource.readOnly", "core.CSIVolumeSource.readOnly"}

# Optional numbers that are no pointers in Go: zero is the same as absent, and never written.
VALUE_NUMBERS = {
    "apps.DaemonSetSpec.minReadySeconds",
    "apps.DaemonSetStatus.numberAvailable",
    "apps.DaemonSetStatus.numberUnavailable",
    "apps.DaemonSetStatus.observedGeneration",
    "apps.DaemonSetStatus.updatedNumberScheduled",
    "apps.DeploymentSpec.minReadySeconds",
    "apps.DeploymentStatus.availableReplicas",
    "apps.DeploymentStatus.observedGeneration",
    "apps.DeploymentStatus.readyReplicas",
    "apps.DeploymentStatus.replicas",
    "apps.DeploymentStatus.unavailableReplicas",
    "apps.DeploymentStatus.updatedReplicas",
    "apps.ReplicaSetSpec.minReadySeconds",
    "apps.ReplicaSetStatus.availableReplicas",
    "apps.ReplicaSetStatus.fullyLabeledReplicas",
    "apps.ReplicaSetStatus.observedGeneration",
    "apps.ReplicaSetStatus.readyReplicas",
    "apps.StatefulSetSpec.minReadySeconds",
    "apps.StatefulSetStatus.currentReplicas",
    "apps.StatefulSetStatus.observedGeneration",
    "apps.StatefulSetStatus.readyReplicas",
    "apps.StatefulSetStatus.updatedReplicas",
    "batch.JobStatus.active",
    "batch.JobStatus.failed",
    "batch.JobStatus.succeeded",
    "core.AWSElasticBlockStoreVolumeSource.partition",
    "core.ContainerImage.sizeBytes",
    "core.ContainerPort.hostPort",
    "core.ContainerStateTerminated.signal",
    "core.Event.count",
    "core.EventSeries.count",
    "core.GCEPersistentDiskVolumeSource.partition",
    "core.PodCondition.observedGeneration",
    "core.PodStatus.observedGeneration",
    "core.Probe.failureThreshold",
    "core.Probe.initialDelaySeconds",
    "core.Probe.periodSeconds",
    "core.Probe.successThreshold",
    "core.Probe.timeoutSeconds",
    "core.ReplicationControllerSpec.minReadySeconds",
    "core.ReplicationControllerStatus.availableReplicas",
    "core.ReplicationControllerStatus.fullyLabeledReplicas",
    "core.ReplicationControllerStatus.observedGeneration",
    "core.ReplicationControllerStatus.readyReplicas",
    "core.ServicePort.nodePort",
    "core.ServiceSpec.healthCheckNodePort",
    "events.Event.deprecatedCount",
    "meta.Condition.observedGeneration",
    "meta.ObjectMeta.generation",
    "meta.Status.code",
    "meta.StatusDetails.retryAfterSeconds",
    "policy.PodDisruptionBudgetStatus.observedGeneration",
}

# Times that are struct values in Go and that its encoder does not omit when they are zero: they are written as null.
NULL_TIMES = {
    "core.ContainerStateRunning.startedAt",
    "core.ContainerStateTerminated.finishedAt",
    "core.ContainerStateTerminated.startedAt",
    "core.Event.eventTime",
    "core.Event.firstTimestamp",
    "core.Event.lastTimestamp",
    "core.NodeCondition.lastHeartbeatTime",
    "core.NodeCondition.lastTransitionTime",
    "core.PodCondition.lastProbeTime",
    "core.PodCondition.lastTransitionTime",
    "events.Event.deprecatedFirstTimestamp",
    "events.Event.deprecatedLastTimestamp",
    "events.Event.eventTime",
}

# Optional strings that Go writes when they are empty, too.
WRITTEN_STRINGS = {
    "core.Event.reportingComponent",
    "core.Event.reportingInstance",
}

# The order of fields in Go, where PROTOBUF has none or another one.
ORDER = {
    "core.SecurityContext": (
        *("capabilities", "privileged", "seLinuxOptions", "windowsOptions", "runAsUser", "runAsGroup", "runAsNonRoot"),
        *("readOnlyRootFilesystem", "allowPrivilegeEscalation", "procMount", "seccompProfile", "appArmorProfile"),
    ),
    "core.ServicePort": ("name", "protocol", "appProtocol", "port", "targetPort", "nodePort"),
    "meta.APIGroup": ("name", "versions", "preferredVersion", "serverAddressByClientCIDRs"),
    "meta.ListMeta": ("selfLink", "resourceVersion", "continue", "remainingItemCount"),
    "meta.Status": ("metadata", "status", "message", "reason", "details", "code"),
    "meta.StatusCause": ("reason", "message", "field"),
    "meta.StatusDetails": ("name", "group", "kind", "uid", "causes", "retryAfterSeconds"),
}
PROTOBUF = Path(__file__).parent.parent / "src" / "podling" / "apiserver" / "protobuf_fields.json"

# Kinds of the meta group that are served but that the OpenAPI document leaves out (the documented meta.k8s.io API).
_OBJECT_META = {"$ref": "#/$defs/" + META + "ObjectMeta"}
_LIST_META = {"$ref": "#/$defs/" + META + "ListMeta"}
_STRING: dict[str, Any] = {"type": "string"}
EXTRA: dict[str, dict[str, Any]] = {
    META + "PartialObjectMetadata": {
        "properties": {"apiVersion": _STRING, "kind": _STRING, "metadata": _OBJECT_META},
        "x-kubernetes-group-version-kind": [{"group": "meta.k8s.io", "version": "v1", "kind": "PartialObjectMetadata"}],
    },
    META + "PartialObjectMetadataList": {
        "properties": {
            "apiVersion": _STRING,
            "kind": _STRING,
            "metadata": _LIST_META,
            "items": {"type": "array", "items": {"$ref": "#/$defs/" + META + "PartialObjectMetadata"}},
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": [
            {"group": "meta.k8s.io", "version": "v1", "kind": "PartialObjectMetadataList"}
        ],
    },
    META + "TableColumnDefinition": {
        "properties": {
            "name": _STRING,
            "type": _STRING,
            "format": _STRING,
            "description": _STRING,
            "priority": {"type": "integer", "format": "int32"},
        },
        "required": ["name", "type", "format", "description", "priority"],
    },
    META + "TableRowCondition": {
        "properties": {"type": _STRING, "status": _STRING, "reason": _STRING, "message": _STRING},
        "required": ["type", "status"],
    },
    META + "TableRow": {
        "properties": {
            "cells": {"type": "array", "items": {}},
            "conditions": {"type": "array", "items": {"$ref": "#/$defs/" + META + "TableRowCondition"}},
            "object": {"$ref": "#/$defs/io.k8s.apimachinery.pkg.runtime.RawExtension"},
        },
        "required": ["cells"],
    },
    META + "Table": {
        "properties": {
            "apiVersion": _STRING,
            "kind": _STRING,
            "metadata": _LIST_META,
            "columnDefinitions": {"type": "array", "items": {"$ref": "#/$defs/" + META + "TableColumnDefinition"}},
            "rows": {"type": "array", "items": {"$ref": "#/$defs/" + META + "TableRow"}},
        },
        "required": ["columnDefinitions", "rows"],
        "x-kubernetes-group-version-kind": [{"group": "meta.k8s.io", "version": "v1", "kind": "Table"}],
    },
}


def load() -> dict[str, dict[str, Any]]:
    root = importlib.resources.files("kubernetes_validate")
    text = (root / "kubernetes-json-schema" / VERSION / "_definitions.json").read_text()
    return {**json.loads(text)["$defs"], **EXTRA}


def snake(name: str) -> str:
    """The attribute of a wire name: podIP -> pod_ip, podIPs -> pod_ips, nonResourceURLs -> non_resource_urls."""
    name = name.lstrip("$")
    words = re.findall(r"[A-Z]+s(?![a-z])|[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)
    result = "_".join(words).lower()
    return result + "_" if keyword.iskeyword(result) or result in ("int", "str", "bool", "list", "dict") else result


def camel(name: str) -> str:
    """What msgspec's rename="camel" makes of an attribute."""
    head, *rest = name.split("_")
    return head + "".join(part.title() for part in rest)


class Group:
    """One module to be written."""

    def __init__(self, package: str, definitions: dict[str, dict[str, Any]]) -> None:
        self.package = package
        self.group, self.prefix = GROUPS[package]
        self.definitions = definitions
        self.numbers: dict[str, list[str]] = json.loads(PROTOBUF.read_text())
        self.imports: set[str] = set()
        self.types: set[str] = set()
        self.members = {
            name.removeprefix(self.prefix): schema
            for name, schema in definitions.items()
            if name.startswith(self.prefix) and name not in SCALARS
        }

    def reference(self, ref: str) -> str:
        name = ref.removeprefix("#/$defs/")
        if name in SCALARS:
            if SCALARS[name] != "Any":
                self.types.add(SCALARS[name])
            return SCALARS[name]
        if name.startswith(self.prefix):
            return name.removeprefix(self.prefix)
        for package, (_, prefix) in GROUPS.items():
            if name.startswith(prefix) and "." not in name.removeprefix(prefix):
                self.imports.add(package)
                return f"{package}.{name.removeprefix(prefix)}"
        raise KeyError(name)

    def annotation(self, schema: dict[str, Any]) -> str:
        if "$ref" in schema:
            return self.reference(schema["$ref"])
        types = schema.get("type", [])
        kinds = {types} if isinstance(types, str) else set(types)
        if "array" in kinds:
            return f"list[{self.annotation(schema['items'])}]"
        if "object" in kinds:
            extra = schema.get("additionalProperties")
            return f"dict[str, {self.annotation(extra)}]" if extra else "dict[str, Any]"
        if "integer" in kinds:
            name = "Int64" if schema.get("format") == "int64" else "Int32"
            self.types.add(name)
            return name
        if "number" in kinds:
            return "float"
        if "boolean" in kinds:
            return "bool"
        if "string" in kinds:
            return "bytes" if schema.get("format") == "byte" else "str"
        return "Any"

    def field(self, owner: str, name: str, schema: dict[str, Any], *, kind: str) -> tuple[str, str | None]:
        """The line of a field, and the struct of this module that its default needs."""
        path = f"{self.package}.{owner}.{name}"
        definition = self.members[owner]
        required = name in definition.get("required", [])
        attribute = snake(name)
        annotation = self.annotation(schema)
        needs: str | None = None
        options: list[str] = []
        if kind and name in ("apiVersion", "kind"):
            group = next(gvk for gvk in definition["x-kubernetes-group-version-kind"] if self.owns(gvk))["group"]
            constant = (f"{group}/v1" if group else "v1") if name == "apiVersion" else owner
            options.append(f'default_factory="{constant}".__str__')
        elif annotation.startswith(("list[", "dict[")):
            factory = "list" if annotation.startswith("list[") else "dict"
            if required:
                factory = f"empty_{factory}"
                self.types.add(factory)
            options.append(f"default_factory={factory}")
        elif path in NULL_TIMES:
            annotation += " | None"
            options.append("default_factory=null")
            self.types.add("null")
        elif annotation in ("Time", "MicroTime"):
            options.append('default=""')
        elif "$ref" in schema and annotation not in ("IntOrString", "Any"):
            named = name in VALUE_NAMES and (bool(kind) or owner in TEMPLATES)
            if path not in POINTERS and (required or named or path in VALUES):
                options.append(f"default_factory={annotation}")
                needs = annotation if annotation in self.members else None
            else:
                annotation += " | None"
                options.append("default=None")
        elif required or path in WRITTEN_STRINGS:
            factory = {"Int32": "int", "Int64": "int", "IntOrString": "int", "Any": "dict"}.get(annotation, annotation)
            if factory == "dict":
                annotation = "Any"
            options.append(f"default_factory={factory}")
        elif annotation == "str" and path not in STRING_POINTERS:
            options.append('default=""')
        elif annotation == "bool" and name in VALUE_BOOLEANS and path not in POINTER_BOOLEANS:
            options.append("default=False")
        elif path in VALUE_NUMBERS:
            options.append("default=0")
        elif annotation == "bytes":
            options.append('default=b""')
        elif annotation == "Any":
            options.append("default=None")
        else:
            annotation += " | None"
            options.append("default=None")
        if camel(attribute) != name:
            options.append(f'name="{name}"')
        if len(options) == 1 and options[0].startswith("default="):
            return f"    {attribute}: {annotation} = {options[0].removeprefix('default=')}", needs
        return f"    {attribute}: {annotation} = field({', '.join(options)})", needs

    def owns(self, gvk: dict[str, str]) -> bool:
        if self.package == "meta":
            return gvk["version"] == "v1" and gvk["group"] in ("", "meta.k8s.io")
        return gvk["group"] == self.group and gvk["version"] == "v1"

    def position(self, owner: str, kind: str) -> Callable[[str], int]:
        """Return the sort key that puts the fields of a struct into the order of Go's."""
        head = ("kind", "apiVersion", "metadata", "spec", "status") if kind else ()
        known = ORDER.get(f"{self.package}.{owner}") or self.numbered(f"{self.package}.v1.{owner}")
        order = {name: number for number, name in enumerate(dict.fromkeys((*head, *known)))}
        return lambda name: order.get(name, len(order))

    def numbered(self, struct: str) -> Iterator[str]:
        """Return the fields in the order of their protobuf numbers, which is nearly that of Go."""
        for name in self.numbers.get(struct, ()):
            if name.startswith("~"):
                yield from self.numbered(name[1:])
            else:
                yield name

    def struct(self, owner: str) -> tuple[list[str], set[str]]:
        definition = self.members[owner]
        kind = owner if any(map(self.owns, definition.get("x-kubernetes-group-version-kind", []))) else ""
        # DeleteOptions and WatchEvent are registered in every group, yet only kinds carry apiVersion and kind.
        if "kind" not in definition.get("properties", {}) or "apiVersion" not in definition["properties"]:
            kind = ""
        properties = definition["properties"]
        names = sorted(properties, key=self.position(owner, kind))
        lines = [f"class {owner}(Object, kw_only=True):"]
        needs: set[str] = set()
        for name in names:
            line, need = self.field(owner, name, properties[name], kind=kind)
            lines.append(line)
            if need:
                needs.add(need)
        if not names:
            lines.append("    pass")
        return lines, needs

    def merge_entry(self, schema: dict[str, Any]) -> str | None:
        """The constructor call of a field's Merge entry, or None where the defaults hold."""
        strategies = [s for s in schema.get("x-kubernetes-patch-strategy", "").split(",") if s]
        list_type = schema.get("x-kubernetes-list-type", "")
        map_type = schema.get("x-kubernetes-map-type", "")
        keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        arguments = []
        if strategies:
            arguments.append(f"strategies={tuple(strategies)!r}")
        if key := schema.get("x-kubernetes-patch-merge-key"):
            arguments.append(f"key={key!r}")
        if list_type and list_type != "atomic":
            arguments.append(f"list_type={list_type!r}")
        if keys:
            arguments.append(f"list_map_keys={keys!r}")
        if map_type:
            arguments.append(f"map_type={map_type!r}")
        return f"Merge({', '.join(arguments)})".replace("'", '"') if arguments else None

    def render(self) -> str:
        blocks: dict[str, list[str]] = {}
        needs: dict[str, set[str]] = {}
        for owner in sorted(self.members):
            blocks[owner], needs[owner] = self.struct(owner)
        order: list[str] = []

        def place(owner: str) -> None:
            if owner not in order:
                for need in sorted(needs[owner]):
                    place(need)
                order.append(owner)

        for owner in sorted(blocks):
            place(owner)

        merge: list[str] = []
        atomic: list[str] = []
        for owner in sorted(self.members):
            if self.members[owner].get("x-kubernetes-map-type") == "atomic":
                atomic.append(owner)
            entries = {
                snake(name): entry
                for name, schema in self.members[owner].get("properties", {}).items()
                if (entry := self.merge_entry(schema))
            }
            if entries:
                merge.append(f"    {owner}: {{")
                merge += [f'        "{name}": {entry},' for name, entry in entries.items()]
                merge.append("    },")

        title = self.group or ("the shared meta types" if self.package == "meta" else "the core group")
        body = "\n\n\n".join("\n".join(blocks[owner]) for owner in order)
        uses_any = "Any" in re.findall(r"\bAny\b", body)
        uses_field = "= field(" in body
        lines = [
            f'"""API types, {title}, version v1. Generated by tools/generate_api.py: do not edit."""',
            "",
            "from __future__ import annotations",
            "",
        ]
        if uses_any:
            lines += ["from typing import Any", ""]
        if uses_field:
            lines += ["from msgspec import field", ""]
        lines += [f"from podling.api.{package} import v1 as {package}" for package in sorted(self.imports)]
        if "Quantity" in self.types:
            lines.append("from podling.api.quantity import Quantity")
        names = sorted(self.types - {"Quantity"} | {"Object", "Merge"}, key=import_order)
        lines.append(f"from podling.api.types import {', '.join(names)}")
        lines += ["", "", body, "", ""]
        lines.append(
            "# How lists and maps merge, per struct and attribute. Lists that are not here are replaced as a whole,"
        )
        lines.append("# maps that are not here are merged by key.")
        if merge:
            lines += ["MERGE: dict[type[Object], dict[str, Merge]] = {", *merge, "}"]
        else:
            lines.append("MERGE: dict[type[Object], dict[str, Merge]] = {}")
        lines += ["", "# Structs that server-side apply replaces as a whole."]
        if atomic:
            lines += ["ATOMIC: frozenset[type[Object]] = frozenset(", "    {"]
            lines += [f"        {owner}," for owner in atomic]
            lines += ["    }", ")"]
        else:
            lines.append("ATOMIC: frozenset[type[Object]] = frozenset()")
        return "\n".join(lines) + "\n"


def import_order(name: str) -> tuple[bool, str]:
    """The order in which ruff wants imported names: classes first, then functions."""
    return (name.islower(), name)


def generate(out: Path) -> None:
    """Write every module below `out`, formatted."""
    definitions = load()
    seen: set[str] = set()
    for package in GROUPS:
        group = Group(package, definitions)
        for owner, definition in group.members.items():
            seen.update(f"{package}.{owner}.{name}" for name in definition.get("properties", {}))
        directory = out / package
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "__init__.py").write_text("")
        (directory / "v1.py").write_text(group.render())
    known = VALUES | POINTERS | STRING_POINTERS | POINTER_BOOLEANS | VALUE_NUMBERS | NULL_TIMES | WRITTEN_STRINGS
    if stale := known - seen:
        raise SystemExit(f"a table names fields that do not exist: {', '.join(sorted(stale))}")
    files = [str(out / package / "v1.py") for package in GROUPS]
    config = Path(__file__).parent.parent / "pyproject.toml"
    subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", "--config", str(config), *files], check=True)


if __name__ == "__main__":
    generate(OUT)
