"""Warnings that go with an accepted object: what is allowed but probably not meant, or has no effect here.

Source: pkg/api/pod/warnings.go and pkg/api/service/warnings.go of Kubernetes 1.36.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from podling.api import names
from podling.api.core.v1 import (
    ContainerPort,
    NodeSelectorTerm,
    Pod,
    PodAffinityTerm,
    PodSpec,
    Service,
    Volume,
    VolumeProjection,
)
from podling.api.field import Path
from podling.api.go import quote
from podling.api.quantity import Quantity
from podling.api.validation import ip, security
from podling.api.validation.scheduling import PREFERRED_DURING_SCHEDULING, REQUIRED_DURING_SCHEDULING
from podling.api.validation.visit import containers_with_path

_SPEC = Path("spec")
_ANNOTATIONS = Path("metadata").child("annotations")

_DEPRECATED_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}
_SYSCTLS_FIELD = 'non-functional in v1.11+; use the "sysctls" field instead'
_DEPRECATED_ANNOTATIONS = {
    "scheduler.alpha.kubernetes.io/critical-pod": (
        'non-functional in v1.16+; use the "priorityClassName" field instead'
    ),
    "security.alpha.kubernetes.io/sysctls": _SYSCTLS_FIELD,
    "security.alpha.kubernetes.io/unsafe-sysctls": _SYSCTLS_FIELD,
}
_COMPARED = 256
"""Ports of a Pod, or files of a volume, that are compared with one another, the first ones: a Pod may list a hundred thousand,
and each pair can be a warning. An answer has room for fewer."""
_SECCOMP_FIELD = 'non-functional in v1.27+; use the "seccompProfile" field instead'
_NULL_SELECTOR = "a null labelSelector results in matching no pod"


def warnings(obj: Any) -> list[str]:
    """The texts of Warning headers for a created or updated object. Empty for kinds that have none."""
    if isinstance(obj, Pod):
        return _pod(obj)
    return _service(obj) if isinstance(obj, Service) else []


def _pod(pod: Pod) -> list[str]:
    spec, annotations = pod.spec, pod.metadata.annotations
    found: list[str] = []
    _node_labels(spec, found)
    for i, constraint in enumerate(spec.topology_spread_constraints):
        at = _SPEC.child("topologySpreadConstraints").index(i)
        if message := _DEPRECATED_NODE_LABELS.get(constraint.topology_key):
            found.append(f"{at.child('topologyKey')}: {constraint.topology_key} is {message}")
        if constraint.label_selector is None:
            found.append(f"{at.child('labelSelector')}: {_NULL_SELECTOR}")
    for key, message in _DEPRECATED_ANNOTATIONS.items():
        if key in annotations:
            found.append(f"{_ANNOTATIONS.key(key)}: {message}")
    for volume in spec.volumes:
        found.extend(_overlaps(volume))
    _duplicates([alias.ip for alias in spec.host_aliases], _SPEC.child("hostAliases"), "ip", found)
    secrets = [secret.name for secret in spec.image_pull_secrets]
    _duplicates(secrets, _SPEC.child("imagePullSecrets"), "name", found)
    for i, name in enumerate(secrets):
        if not name:
            found.append(f'{_SPEC.child("imagePullSecrets").index(i).child("name")}: invalid empty name ""')
    _fractions(spec.overhead, _SPEC.child("overhead"), found)
    context = spec.security_context
    if security.SECCOMP_POD_ANNOTATION in annotations and (context is None or context.seccomp_profile is None):
        found.append(f"{_ANNOTATIONS.key(security.SECCOMP_POD_ANNOTATION)}: {_SECCOMP_FIELD}")
    _containers(spec, annotations, found)
    _ports(spec, found)
    grace = spec.termination_grace_period_seconds
    if grace is not None and grace < 0:
        at = _SPEC.child("terminationGracePeriodSeconds")
        found.append(f"{at}: must be >= 0; negative values are invalid and will be treated as 1")
    _pod_affinity(spec, found)
    if spec.dns_config is not None:
        at = _SPEC.child("dnsConfig").child("nameservers")
        for i, server in enumerate(spec.dns_config.nameservers):
            found.extend(ip.ip_warnings(server, at.index(i)))
    for i, alias in enumerate(spec.host_aliases):
        found.extend(ip.ip_warnings(alias.ip, _SPEC.child("hostAliases").index(i).child("ip")))
    return found


def _node_labels(spec: PodSpec, found: list[str]) -> None:
    found.extend(
        f"{_SPEC.child('nodeSelector').key(key)}: {_DEPRECATED_NODE_LABELS[key]}"
        for key in spec.node_selector
        if key in _DEPRECATED_NODE_LABELS
    )
    node = spec.affinity.node_affinity if spec.affinity is not None else None
    if node is None:
        return
    at = _SPEC.child("affinity").child("nodeAffinity")
    if (required := node.required_during_scheduling_ignored_during_execution) is not None:
        for i, term in enumerate(required.node_selector_terms):
            to = at.child(REQUIRED_DURING_SCHEDULING).child("nodeSelectorTerms").index(i)
            _node_term(term, to, found, check_values=False)
    for i, preferred in enumerate(node.preferred_during_scheduling_ignored_during_execution):
        to = at.child(PREFERRED_DURING_SCHEDULING).index(i).child("preference")
        _node_term(preferred.preference, to, found, check_values=True)


def _node_term(term: NodeSelectorTerm, path: Path, found: list[str], *, check_values: bool) -> None:
    for i, expression in enumerate(term.match_expressions):
        at = path.child("matchExpressions").index(i)
        if message := _DEPRECATED_NODE_LABELS.get(expression.key):
            found.append(f"{at.child('key')}: {expression.key} is {message}")
        if check_values:
            for j, value in enumerate(expression.values):
                to = at.child("values").index(j)
                found.extend(f"{to}: {value} is invalid, {message}" for message in names.label_value(value))


def _duplicates(values: Sequence[str], path: Path, name: str, found: list[str]) -> None:
    seen: set[str] = set()
    for i, value in enumerate(values):
        if value in seen:
            found.append(f"{path.index(i).child(name)}: duplicate {name} {quote(value)}")
        seen.add(value)


def _fractions(values: Mapping[str, Quantity], path: Path, found: list[str]) -> None:
    for name in ("memory", "ephemeral-storage"):
        value = values.get(name)
        if value is not None and value.milli_value() % 1000:
            found.append(f"{path.key(name)}: fractional byte value {quote(str(value))} is invalid, must be an integer")


def _containers(spec: PodSpec, annotations: Mapping[str, str], found: list[str]) -> None:
    for container, path in containers_with_path(spec, _SPEC):
        context = container.security_context
        key = security.SECCOMP_CONTAINER_PREFIX + container.name
        if key in annotations and (context is None or context.seccomp_profile is None):
            found.append(f"{_ANNOTATIONS.key(key)}: {_SECCOMP_FIELD}")
        _fractions(container.resources.limits, path.child("resources").child("limits"), found)
        _fractions(container.resources.requests, path.child("resources").child("requests"), found)
        seen: set[str] = set()
        for i, variable in enumerate(container.env):
            reference = f"$({variable.name})"
            if variable.name in seen and (
                variable.value_from is not None or variable.value == reference or reference not in variable.value
            ):
                found.append(
                    f"{path.child('env').index(i)}: hides previous definition of {quote(variable.name)}, "
                    "which may be dropped when using apply"
                )
            seen.add(variable.name)


def _ports(spec: PodSpec, found: list[str]) -> None:
    by_number: dict[tuple[int, str], list[tuple[Path, ContainerPort]]] = {}
    by_name: dict[str, Path] = {}
    compared = 0
    for container, path in containers_with_path(spec, _SPEC):
        for i, port in enumerate(container.ports):
            at = path.child("ports").index(i)
            host_port = port.host_port
            if port.host_ip and not host_port:
                shown = (
                    f"{{Name:{port.name} HostPort:0 ContainerPort:{port.container_port} Protocol:{port.protocol} "
                    f"HostIP:{port.host_ip}}}"
                )
                found.append(f"{at}: hostIP set without hostPort: {shown}")
            compared += 1
            if compared > _COMPARED:
                continue
            others = by_number.setdefault((port.container_port, port.protocol), [])
            for where, other in others:
                other_port = other.host_port
                if port.host_ip == other.host_ip and host_port == other_port:
                    found.append(f"{at}: duplicate port definition with {where}")
                elif not host_port or not other_port:
                    found.append(f"{at}: overlapping port definition with {where}")
                elif host_port == other_port and bool(port.host_ip) != bool(other.host_ip):
                    found.append(f"{at}: dangerously ambiguous port definition with {where}")
            others.append((at, port))
    for container, path in containers_with_path(spec, _SPEC):
        if container in spec.init_containers and container.restart_policy != "Always":
            continue
        for i, port in enumerate(container.ports):
            if not port.name:
                continue
            at = path.child("ports").index(i)
            if first := by_name.get(port.name):
                found.append(
                    f"{at}: duplicate port name {quote(port.name)} with {first}, services and probes that select "
                    f"ports by name will use {first}"
                )
            else:
                by_name[port.name] = at


def _pod_affinity(spec: PodSpec, found: list[str]) -> None:
    if spec.affinity is None:
        return
    at = _SPEC.child("affinity")
    for wire, pods in (
        ("podAffinity", spec.affinity.pod_affinity),
        ("podAntiAffinity", spec.affinity.pod_anti_affinity),
    ):
        if pods is None:
            continue
        _null_selectors(
            pods.required_during_scheduling_ignored_during_execution,
            at.child(wire).child(REQUIRED_DURING_SCHEDULING),
            "labelSelector",
            found,
        )
        _null_selectors(
            [each.pod_affinity_term for each in pods.preferred_during_scheduling_ignored_during_execution],
            at.child(wire).child(PREFERRED_DURING_SCHEDULING),
            "podAffinityTerm.labelSelector",
            found,
        )


def _null_selectors(terms: Sequence[PodAffinityTerm], path: Path, name: str, found: list[str]) -> None:
    for i, term in enumerate(terms):
        if term.label_selector is None:
            found.append(f"{path.index(i).child(name)}: {_NULL_SELECTOR}")


class _File(NamedTuple):
    """A path inside a volume, and what puts it there (empty where the volume has one source)."""

    path: str
    source: str

    def __str__(self) -> str:
        return f"{quote(self.path)} ({self.source})" if self.source else quote(self.path)


def _overlaps(volume: Volume) -> list[str]:
    """Files of a volume that lie in each other's way."""
    found: list[str] = []
    name = quote(volume.name)
    if volume.config_map is not None:
        files = [_File(item.path, "") for item in volume.config_map.items]
        found += _overlapping(files, f"volume {name} (ConfigMap {quote(volume.config_map.name)})")
    if volume.secret is not None:
        files = [_File(item.path, "") for item in volume.secret.items]
        found += _overlapping(files, f"volume {name} (Secret {quote(volume.secret.secret_name)})")
    if volume.downward_api is not None:
        files = [_File(item.path, "") for item in volume.downward_api.items]
        found += _overlapping(files, f"volume {name} (DownwardAPI)")
    if volume.projected is not None:
        empty = VolumeProjection()
        files = []
        for source in volume.projected.sources:
            if source == empty:
                found.append(f"volume {name} (Projected) has no sources provided")
            files += _projected_files(source)
        found += _overlapping(files, f"volume {name} (Projected)")
    return found


def _projected_files(source: VolumeProjection) -> list[_File]:
    if source.config_map is not None and source.config_map.items:
        return [_File(item.path, f"ConfigMap {quote(source.config_map.name)}") for item in source.config_map.items]
    if source.secret is not None and source.secret.items:
        return [_File(item.path, f"Secret {quote(source.secret.name)}") for item in source.secret.items]
    if source.downward_api is not None and source.downward_api.items:
        return [_File(item.path, "DownwardAPI") for item in source.downward_api.items]
    if source.service_account_token is not None:
        return [_File(source.service_account_token.path, "ServiceAccountToken")]
    if (bundle := source.cluster_trust_bundle) is not None:
        return [_File(bundle.path, f"ClusterTrustBundle {quote(bundle.name or bundle.signer_name or '')}")]
    if (certificate := source.pod_certificate) is not None:
        return [
            _File(certificate.certificate_chain_path, "PodCertificate chain"),
            _File(certificate.key_path, "PodCertificate key"),
            _File(certificate.credential_bundle_path, "PodCertificate credential bundle"),
        ]
    return []


def _overlapping(files: Iterable[_File], where: str) -> list[str]:
    found: list[str] = []
    seen: list[_File] = []
    for file in islice(files, _COMPARED):
        this = _File(file.path.rstrip("/"), file.source)
        if not this.path:
            continue
        inside = this.path + "/"
        found.extend(
            f"{where}: overlapping paths: {this} with {other}"
            for other in seen
            if inside.startswith(other.path + "/") or (other.path + "/").startswith(inside)
        )
        seen.append(this)
    return found


def _service(service: Service) -> list[str]:
    spec = service.spec
    found: list[str] = []
    if spec.session_affinity == "ClientIP" and spec.cluster_ips == ["None"]:
        found.append("spec.SessionAffinity is ignored for headless services")
    for wire, addresses in (("clusterIPs", spec.cluster_ips), ("externalIPs", spec.external_ips)):
        for i, address in enumerate(addresses):
            if address != "None":
                found.extend(ip.ip_warnings(address, _SPEC.child(wire).index(i)))
    if spec.load_balancer_ip:
        found.extend(ip.ip_warnings(spec.load_balancer_ip, _SPEC.child("loadBalancerIP")))
    if spec.type == "ExternalName" and spec.external_ips:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if spec.type != "ExternalName" and spec.external_name:
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    return found
