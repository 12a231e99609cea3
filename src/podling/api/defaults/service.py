"""Defaults of Services."""

from __future__ import annotations

from podling.api.core.v1 import ClientIPConfig, Service, ServicePort, SessionAffinityConfig

_AFFINITY_SECONDS = 10800
_WITH_CLUSTER_IP = ("ClusterIP", "NodePort", "LoadBalancer")


def apply_service(service: Service) -> None:
    """In place."""
    spec = service.spec
    spec.session_affinity = spec.session_affinity or "None"
    if spec.session_affinity == "None":
        spec.session_affinity_config = None
    elif spec.session_affinity == "ClientIP":
        config = spec.session_affinity_config
        if config is None or config.client_ip is None or config.client_ip.timeout_seconds is None:
            client_ip = ClientIPConfig(timeout_seconds=_AFFINITY_SECONDS)
            spec.session_affinity_config = SessionAffinityConfig(client_ip=client_ip)
    spec.type = spec.type or "ClusterIP"
    for port in spec.ports:
        _port(port)
    external = spec.type in ("NodePort", "LoadBalancer") or (spec.type == "ClusterIP" and spec.external_ips)
    if external and not spec.external_traffic_policy:
        spec.external_traffic_policy = "Cluster"
    if spec.internal_traffic_policy is None and spec.type in _WITH_CLUSTER_IP:
        spec.internal_traffic_policy = "Cluster"
    if spec.type == "LoadBalancer":
        if spec.allocate_load_balancer_node_ports is None:
            spec.allocate_load_balancer_node_ports = True
        for ingress in service.status.load_balancer.ingress:
            if ingress.ip and ingress.ip_mode is None:
                ingress.ip_mode = "VIP"


def _port(port: ServicePort) -> None:
    port.protocol = port.protocol or "TCP"
    if not port.target_port:
        port.target_port = port.port
