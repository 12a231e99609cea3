"""Nodes."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from podling.api import codec, field, names
from podling.api.core.v1 import ConfigMapNodeConfigSource, Node, NodeConfigSource, Taint
from podling.api.field import FieldError, Path
from podling.api.quantity import Quantity
from podling.api.validation import ip, meta, resource, scheduling

_METADATA = Path("metadata")
_SPEC = Path("spec")
_STATUS = Path("status")
_TAINTS_ANNOTATION = "scheduler.alpha.kubernetes.io/taints"
_FEATURE = re.compile(r"([A-Z][a-zA-Z0-9]*)(/[a-zA-Z0-9]+)*\Z")
_FEATURE_MAX = 253


def validate_create(node: Node) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(node.metadata, errors, namespaced=False)
    _annotations(node.metadata.annotations, errors)
    # Upstream reports taints below metadata.
    scheduling.taints(node.spec.taints, _METADATA.child("taints"), errors)
    _resources(node, errors)
    swap = node.status.node_info.swap
    if swap is not None and swap.capacity is not None and swap.capacity <= 0:
        at = _METADATA.child("nodeSwapStatus").child("capacity")
        errors.append(field.invalid(at, swap.capacity, "must be greater than zero"))
    _declared_features(node, errors)
    at = _SPEC.child("podCIDRs")
    for i, cidr in enumerate(node.spec.pod_cidrs):
        ip.valid_cidr(cidr, at.index(i), errors)
    if len(node.spec.pod_cidrs) > 1:
        networks = [ip.parse_cidr(cidr) for cidr in node.spec.pod_cidrs]
        families = {isinstance(network, ipaddress.IPv6Network) for network in networks}
        if len(families) != 2 or len(networks) > 2:
            message = "may specify no more than one CIDR for each IP family"
            errors.append(field.invalid(at, node.spec.pod_cidrs, message))
    return errors


def validate_update(new: Node, old: Node) -> list[FieldError]:
    """Of metadata and spec, and of status: upstream checks both alike."""
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    _annotations(new.metadata.annotations, errors)
    _resources(new, errors)
    _declared_features(new, errors)
    seen: set[tuple[str, str]] = set()
    for i, address in enumerate(new.status.addresses):
        key = (address.type, address.address)
        if key in seen:
            errors.append(field.duplicate(_STATUS.child("addresses").index(i), address))
        seen.add(key)
    if old.spec.pod_cidrs and old.spec.pod_cidrs != new.spec.pod_cidrs:
        message = 'node updates may not change podCIDR except from "" to valid'
        errors.append(field.forbidden(_SPEC.child("podCIDRs"), message))
    if old.spec.provider_id and old.spec.provider_id != new.spec.provider_id:
        message = 'node updates may not change providerID except from "" to valid'
        errors.append(field.forbidden(_SPEC.child("providerID"), message))
    if new.spec.config_source is not None:
        _config_source(new.spec.config_source, _SPEC.child("configSource"), errors, in_status=False)
    if (config := new.status.config) is not None:
        at = _STATUS.child("config")
        for wire, source in (
            ("assigned", config.assigned),
            ("active", config.active),
            ("lastKnownGood", config.last_known_good),
        ):
            if source is not None:
                _config_source(source, at.child(wire), errors, in_status=True)
    scheduling.taints(new.spec.taints, _METADATA.child("taints"), errors)
    if new.spec.external_id != old.spec.external_id:
        errors.append(field.forbidden(_SPEC.child("externalID"), "may not be updated"))
    return errors


def _annotations(values: Mapping[str, str], errors: list[FieldError]) -> None:
    encoded = values.get(_TAINTS_ANNOTATION)
    if not encoded:
        return
    at = _METADATA.child("annotations")
    try:
        taints = codec.decode(list[Taint], encoded)
    except codec.DecodeError as error:
        errors.append(field.invalid(at, _TAINTS_ANNOTATION, str(error)))
    else:
        scheduling.taints(taints, at.child(_TAINTS_ANNOTATION), errors)


def _quantities(values: Mapping[str, Quantity], path: Path, errors: list[FieldError]) -> None:
    for name, quantity in values.items():
        resource.quantity(name, quantity, path.child(name), errors)


def _resources(node: Node, errors: list[FieldError]) -> None:
    _quantities(node.status.capacity, _STATUS.child("capacity"), errors)
    _quantities(node.status.allocatable, _STATUS.child("allocatable"), errors)


def _declared_features(node: Node, errors: list[FieldError]) -> None:
    at = _STATUS.child("declaredFeatures")
    features = node.status.declared_features
    for i, feature in enumerate(features):
        problem = ""
        if len(feature) > _FEATURE_MAX:
            problem = f"must be no more than {_FEATURE_MAX} characters"
        elif not _FEATURE.match(feature):
            problem = (
                "must start with an UpperCamelCase segment, with subsequent segments separated by '/' (e.g., MyFeature "
                "or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            )
        if problem:
            errors.append(field.invalid(at.index(i), feature, f'invalid feature name "{feature}": {problem}'))
        if i and features[i - 1] == feature:
            errors.append(field.duplicate(at.index(i), feature))
        elif i and features[i - 1] > feature:
            errors.append(field.invalid(at.index(i), feature, "list must be sorted alphabetically"))


def _config_source(source: NodeConfigSource, path: Path, errors: list[FieldError], *, in_status: bool) -> None:
    if source.config_map is None:
        message = "exactly one reference subfield must be non-nil"
        errors.append(field.invalid(path, source, message))
    else:
        _config_map(source.config_map, path.child("configMap"), errors, in_status=in_status)


def _config_map(source: ConfigMapNodeConfigSource, path: Path, errors: list[FieldError], *, in_status: bool) -> None:
    for wire, value in (("uid", source.uid), ("resourceVersion", source.resource_version)):
        if in_status and not value:
            errors.append(field.required(path.child(wire), ""))
        elif value and not in_status:
            errors.append(field.forbidden(path.child(wire), f"{wire} must not be set in spec"))
    for wire, value, check in (
        ("namespace", source.namespace, names.dns1123_label),
        ("name", source.name, names.dns1123_subdomain),
        ("kubeletConfigKey", source.kubelet_config_key, names.config_map_key),
    ):
        if not value:
            errors.append(field.required(path.child(wire), ""))
        else:
            errors.extend(field.invalid(path.child(wire), value, message) for message in check(value))
