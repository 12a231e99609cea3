"""Services: ports, types, cluster addresses and what may change of them.

Source: validateService and ValidateServiceUpdate of Kubernetes 1.36. Names follow RelaxedServiceNameValidation.
"""

from __future__ import annotations

from podling.api import field
from podling.api.core.v1 import Service, ServicePort, ServiceSpec
from podling.api.field import FieldError, Path
from podling.api.validation import ip, meta
from podling.api.validation.ports import port_number, port_number_or_name, protocol

SPEC = Path("spec")

_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_AFFINITIES = ("ClientIP", "None")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("PreferDualStack", "RequireDualStack", "SingleStack")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_IP_MODES = ("Proxy", "VIP")
_MAX_AFFINITY_SECONDS = 86400
_SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_TOPOLOGY_HINTS = "service.kubernetes.io/topology-aware-hints"
_TOPOLOGY_MODE = "service.kubernetes.io/topology-mode"
_ONLY_LOAD_BALANCER = "may only be used when `type` is 'LoadBalancer'"
_ONCE = "may not change once set"


def validate_create(service: Service) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta(service.metadata, errors, name_check=meta.dns_label_name)
    _service(service, None, errors)
    return errors


def validate_update(new: Service, old: Service) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    _cluster_ips_update(new.spec, old.spec, errors)
    _families_update(new.spec, old.spec, errors)
    both = new.spec.type == old.spec.type == "LoadBalancer"
    if both and new.spec.load_balancer_class != old.spec.load_balancer_class:
        errors.append(field.invalid(SPEC.child("loadBalancerClass"), new.spec.load_balancer_class, _ONCE))
    checked = needs_health_check(new.spec) and needs_health_check(old.spec)
    if checked and new.spec.health_check_node_port != old.spec.health_check_node_port:
        errors.append(field.forbidden(SPEC.child("healthCheckNodePort"), meta.IMMUTABLE))
    _service(new, old, errors)
    return errors


def validate_status_update(new: Service, old: Service) -> list[FieldError]:
    errors: list[FieldError] = []
    meta.object_meta_update(new.metadata, old.metadata, errors)
    at = Path("status").child("loadBalancer").child("ingress")
    ingress = new.status.load_balancer.ingress
    if ingress and new.spec.type != "LoadBalancer":
        errors.append(field.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'"))
        return errors
    stored = [each.ip for each in old.status.load_balancer.ingress]
    for i, each in enumerate(ingress):
        to = at.index(i)
        if each.ip:
            ip.valid_ip(each.ip, to.child("ip"), errors, stored)
        mode = each.ip_mode
        if mode is None:
            if each.ip:
                errors.append(field.required(to.child("ipMode"), "must be specified when `ip` is set"))
        elif not each.ip:
            errors.append(field.forbidden(to.child("ipMode"), "may not be specified when `ip` is not set"))
        elif mode not in _IP_MODES:
            errors.append(field.not_supported(to.child("ipMode"), mode, _IP_MODES))
        if each.hostname:
            meta.dns1123_subdomain(each.hostname, to.child("hostname"), errors)
            if ip.parse(each.hostname) is not None:
                message = "must be a DNS name, not an IP address"
                errors.append(field.invalid(to.child("hostname"), each.hostname, message))
    return errors


def is_headless(spec: ServiceSpec) -> bool:
    return spec.cluster_ips == ["None"]


def externally_accessible(spec: ServiceSpec) -> bool:
    """Whether traffic from outside the cluster reaches it."""
    return spec.type in ("LoadBalancer", "NodePort") or (spec.type == "ClusterIP" and bool(spec.external_ips))


def needs_health_check(spec: ServiceSpec) -> bool:
    return spec.type == "LoadBalancer" and spec.external_traffic_policy == "Local"


def _service(service: Service, old: Service | None, errors: list[FieldError]) -> None:
    spec = service.spec
    annotations = service.metadata.annotations
    hints, mode = annotations.get(_TOPOLOGY_HINTS), annotations.get(_TOPOLOGY_MODE)
    if hints is not None and mode is not None and hints != mode:
        at = Path("metadata").child("annotations").key(_TOPOLOGY_MODE)
        message = f"must match annotations[{_TOPOLOGY_HINTS}] when both are specified"
        errors.append(field.invalid(at, mode, message))
    if not spec.ports and not is_headless(spec) and spec.type != "ExternalName":
        errors.append(field.required(SPEC.child("ports"), ""))
    if spec.type in ("LoadBalancer", "NodePort"):
        if is_headless(spec):
            message = f"may not be set to 'None' for {spec.type} services"
            errors.append(field.invalid(SPEC.child("clusterIPs").index(0), "None", message))
    elif spec.type == "ExternalName":
        _external_name(spec, errors)
    _ports(spec, errors)
    meta.labels(spec.selector, SPEC.child("selector"), errors)
    _session_affinity(spec, errors)
    _cluster_ips(spec, old.spec.cluster_ips if old is not None else [], errors)
    stored = old.spec.external_ips if old is not None else []
    for i, address in enumerate(spec.external_ips):
        at = SPEC.child("externalIPs").index(i)
        if ip.valid_ip(address, at, errors, stored):
            ip.endpoint_ip(address, at, errors)
    if not spec.type:
        errors.append(field.required(SPEC.child("type"), ""))
    elif spec.type not in _TYPES:
        errors.append(field.not_supported(SPEC.child("type"), spec.type, _TYPES))
    _port_conflicts(spec, errors)
    _load_balancer(service, old, errors)
    _traffic(spec, errors)


def _external_name(spec: ServiceSpec, errors: list[FieldError]) -> None:
    message = "may not be set for ExternalName services"
    for wire, value in (
        ("clusterIPs", spec.cluster_ips),
        ("ipFamilies", spec.ip_families),
        ("ipFamilyPolicy", spec.ip_family_policy is not None),
    ):
        if value:
            errors.append(field.forbidden(SPEC.child(wire), message))
    at = SPEC.child("externalName")
    name = spec.external_name.removesuffix(".")
    if name:
        meta.dns1123_subdomain(name, at, errors)
    else:
        errors.append(field.required(at, ""))


def _ports(spec: ServiceSpec, errors: list[FieldError]) -> None:
    seen: set[str] = set()
    for i, port in enumerate(spec.ports):
        at = SPEC.child("ports").index(i)
        if port.name:
            meta.dns1123_label(port.name, at.child("name"), errors)
            if port.name in seen:
                errors.append(field.duplicate(at.child("name"), port.name))
            seen.add(port.name)
        elif len(spec.ports) > 1:
            errors.append(field.required(at.child("name"), ""))
        port_number(port.port, at.child("port"), errors)
        protocol(port.protocol, at.child("protocol"), errors)
        port_number_or_name(port.target_port or 0, at.child("targetPort"), errors)
        if port.app_protocol is not None:
            meta.qualified_name(port.app_protocol, at.child("appProtocol"), errors)


def _port_conflicts(spec: ServiceSpec, errors: list[FieldError]) -> None:
    for i, port in enumerate(spec.ports):
        if port.node_port and spec.type == "ClusterIP":
            at = SPEC.child("ports").index(i).child("nodePort")
            errors.append(field.forbidden(at, "may not be used when `type` is 'ClusterIP'"))
    node_ports: set[tuple[str, int]] = set()
    for i, port in enumerate(spec.ports):
        if not port.node_port:
            continue
        if (port.protocol, port.node_port) in node_ports:
            errors.append(field.duplicate(SPEC.child("ports").index(i).child("nodePort"), port.node_port))
        node_ports.add((port.protocol, port.node_port))
    seen: set[tuple[str, int]] = set()
    for i, port in enumerate(spec.ports):
        if (port.protocol, port.port) in seen:
            key = ServicePort(protocol=port.protocol, port=port.port)
            errors.append(field.duplicate(SPEC.child("ports").index(i), key))
        seen.add((port.protocol, port.port))


def _session_affinity(spec: ServiceSpec, errors: list[FieldError]) -> None:
    at = SPEC.child("sessionAffinityConfig")
    config = spec.session_affinity_config
    match spec.session_affinity:
        case "":
            errors.append(field.required(SPEC.child("sessionAffinity"), ""))
        case "ClientIP":
            when = "when session affinity type is ClientIP"
            to = at.child("clientIP").child("timeoutSeconds")
            if config is None:
                errors.append(field.required(at, when))
            elif config.client_ip is None:
                errors.append(field.required(at.child("clientIP"), when))
            elif (seconds := config.client_ip.timeout_seconds) is None:
                errors.append(field.required(to, when))
            elif not 0 < seconds <= _MAX_AFFINITY_SECONDS:
                message = f"must be greater than 0 and less than {_MAX_AFFINITY_SECONDS}"
                errors.append(field.invalid(to, seconds, message))
        case "None":
            if config is not None:
                errors.append(field.forbidden(at, "must not be set when session affinity is None"))
        case affinity:
            errors.append(field.not_supported(SPEC.child("sessionAffinity"), affinity, _AFFINITIES))


def _cluster_ips(spec: ServiceSpec, stored: list[str], errors: list[FieldError]) -> None:
    if spec.type == "ExternalName":
        return
    at = SPEC.child("clusterIPs")
    addresses = spec.cluster_ips
    if spec.cluster_ip:
        if not addresses:
            errors.append(field.required(at, ""))
        elif addresses[0] != spec.cluster_ip:
            errors.append(field.invalid(at, addresses, "first value must match `clusterIP`"))
    elif addresses:
        errors.append(field.invalid(at, addresses, "must be empty when `clusterIP` is not specified"))
    seen: set[str] = set()
    for i, family in enumerate(spec.ip_families):
        to = SPEC.child("ipFamilies").index(i)
        if family not in _FAMILIES:
            errors.append(field.not_supported(to, family, _FAMILIES))
        if family in seen:
            errors.append(field.duplicate(to, family))
        seen.add(family)
    policy = spec.ip_family_policy
    if policy is not None and policy not in _FAMILY_POLICIES:
        errors.append(field.not_supported(SPEC.child("ipFamilyPolicy"), policy, _FAMILY_POLICIES))
    good = True
    for i, address in enumerate(addresses):
        if i == 0 and address == "None":
            if len(addresses) > 1:
                good = False
                errors.append(field.invalid(at, addresses, "'None' must be the first and only value"))
            continue
        good &= ip.valid_ip(address, at.index(i), errors, stored)
    if len(addresses) > 2:
        errors.append(field.invalid(at, addresses, "may only hold up to 2 values"))
    if not good:
        # What follows would only repeat the mistake in other words.
        return
    if len(addresses) > 1 and not ip.is_dual_stack(addresses):
        errors.append(field.invalid(at, addresses, "may specify no more than one IP for each IP family"))
    if is_headless(spec):
        return
    for i, (address, family) in enumerate(zip(addresses, spec.ip_families, strict=False)):
        if family in _FAMILIES and ip.is_ipv6(address) != (family == "IPv6"):
            message = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            errors.append(field.invalid(at.index(i), address, message))


def _load_balancer(service: Service, old: Service | None, errors: list[FieldError]) -> None:
    spec = service.spec
    balanced = spec.type == "LoadBalancer"
    # The capital is upstream's.
    at = SPEC.child("LoadBalancerSourceRanges")
    annotation = service.metadata.annotations.get(_SOURCE_RANGES)
    if spec.load_balancer_source_ranges:
        if not balanced:
            errors.append(field.forbidden(at, _ONLY_LOAD_BALANCER))
        stored = [each.strip() for each in old.spec.load_balancer_source_ranges] if old is not None else []
        for i, cidr in enumerate(spec.load_balancer_source_ranges):
            ip.valid_cidr(cidr.strip(), at.index(i), errors, stored)
    elif annotation is not None:
        to = Path("metadata").child("annotations").key(_SOURCE_RANGES)
        if not balanced:
            errors.append(field.forbidden(to, _ONLY_LOAD_BALANCER))
        changed = old is None or old.metadata.annotations.get(_SOURCE_RANGES) != annotation
        if changed and annotation.strip():
            for cidr in annotation.split(","):
                ip.valid_cidr(cidr.strip(), to, errors)
    if balanced:
        if spec.allocate_load_balancer_node_ports is None:
            errors.append(field.required(Path("allocateLoadBalancerNodePorts"), ""))
        if spec.load_balancer_class is not None:
            meta.qualified_name(spec.load_balancer_class, SPEC.child("loadBalancerClass"), errors)
    else:
        if spec.allocate_load_balancer_node_ports is not None:
            errors.append(field.forbidden(SPEC.child("allocateLoadBalancerNodePorts"), _ONLY_LOAD_BALANCER))
        if spec.load_balancer_class is not None:
            errors.append(field.forbidden(SPEC.child("loadBalancerClass"), _ONLY_LOAD_BALANCER))


def _traffic(spec: ServiceSpec, errors: list[FieldError]) -> None:
    at = SPEC.child("externalTrafficPolicy")
    policy = spec.external_traffic_policy
    if not externally_accessible(spec):
        if policy:
            errors.append(field.invalid(at, policy, "may only be set for externally-accessible services"))
    elif not policy:
        errors.append(field.required(at, ""))
    elif policy not in _POLICIES:
        errors.append(field.not_supported(at, policy, _POLICIES))
    at = SPEC.child("healthCheckNodePort")
    port = spec.health_check_node_port
    if not needs_health_check(spec):
        if port:
            message = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            errors.append(field.invalid(at, port, message))
    elif not port:
        errors.append(field.required(at, ""))
    else:
        port_number(port, at, errors)
    at = SPEC.child("internalTrafficPolicy")
    internal = spec.internal_traffic_policy
    if internal is None:
        if spec.type in ("NodePort", "LoadBalancer", "ClusterIP"):
            errors.append(field.required(at, ""))
    elif internal not in _POLICIES:
        errors.append(field.not_supported(at, internal, _POLICIES))
    distribution = spec.traffic_distribution
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        errors.append(field.not_supported(SPEC.child("trafficDistribution"), distribution, _DISTRIBUTIONS))


def _cluster_ips_update(new: ServiceSpec, old: ServiceSpec, errors: list[FieldError]) -> None:
    """A second address may come and go, the first stays, unless the Service is or was an ExternalName."""
    if "ExternalName" in (new.type, old.type) or (is_headless(new) and is_headless(old)):
        return
    at = SPEC.child("clusterIPs")
    after, before = new.cluster_ips, old.cluster_ips
    if len(after) == len(before):
        for i, (a, b) in enumerate(zip(after, before, strict=True)):
            if a != b:
                errors.append(field.invalid(at.index(i), after, _ONCE))
        return
    if before and not after:
        errors.append(field.invalid(at.index(0), after, "primary clusterIP can not be unset"))
    if before and after and after[0] != before[0]:
        errors.append(field.invalid(at.index(0), after, _ONCE))
    if len(before) > len(after) == 1 and new.ip_family_policy != "SingleStack":
        message = "must be set to 'SingleStack' when releasing the secondary clusterIP"
        errors.append(field.invalid(SPEC.child("ipFamilyPolicy"), new.ip_family_policy, message))


def _families_update(new: ServiceSpec, old: ServiceSpec, errors: list[FieldError]) -> None:
    if "ExternalName" in (new.type, old.type) or is_headless(new) or is_headless(old):
        return
    at = SPEC.child("ipFamilies").index(0)
    after, before = new.ip_families, old.ip_families
    if len(after) == len(before):
        for a, b in zip(after, before, strict=True):
            if a != b:
                errors.append(field.invalid(at, after, _ONCE))
        return
    if len(before) > len(after) and not new.cluster_ips:
        errors.append(field.invalid(at, after, "primary ipFamily can not be unset"))
    if before and after and after[0] != before[0]:
        # Upstream shows the addresses here, not the families.
        errors.append(field.invalid(at, new.cluster_ips, _ONCE))
    if len(before) > len(after) == 1 and new.ip_family_policy != "SingleStack":
        message = "must be set to 'SingleStack' when releasing the secondary ipFamily"
        errors.append(field.invalid(SPEC.child("ipFamilyPolicy"), new.ip_family_policy, message))
