"""Services: cluster IPs and node ports are allocated when a Service is written.

Source: upstream pkg/registry/core/service (strategy and storage/alloc.go). One address family.
"""

from __future__ import annotations

from collections.abc import Callable

from podling.api import field, status
from podling.api.core.v1 import Service, ServicePort
from podling.api.scheme import Resource
from podling.apiserver.cluster_ip import AllocationError, ClusterIPs
from podling.apiserver.node_port import NodePorts
from podling.apiserver.strategy import Strategy, Undo

HEADLESS = "None"
_EXTERNAL_NAME = "ExternalName"
_NO_TRAFFIC = (
    "the Service carries no traffic: its addresses and its DNS name are not implemented by Podling yet, "
    "use the addresses in its Endpoints"
)


class ServiceStrategy(Strategy[Service]):
    returns_deleted = True

    def __init__(self, resource: Resource, cluster_ips: ClusterIPs, node_ports: NodePorts) -> None:
        super().__init__(resource)
        self._cluster_ips = cluster_ips
        self._node_ports = node_ports

    def shortcomings(self, obj: Service) -> list[str]:
        return [_NO_TRAFFIC]

    def assume(self, obj: Service) -> None:
        """Marks what a stored Service has as taken."""
        for address in _addresses(obj):
            self._cluster_ips.assume(address)
        for port in _ports(obj):
            self._node_ports.assume(port)

    def prepare_for_create(self, obj: Service) -> None:
        super().prepare_for_create(obj)
        spec = obj.spec
        if spec.cluster_ip and not spec.cluster_ips:
            spec.cluster_ips = [spec.cluster_ip]
        if spec.type != _EXTERNAL_NAME and not spec.ip_families:
            spec.ip_families = ["IPv6" if self._cluster_ips.network.version == 6 else "IPv4"]
        if spec.type != _EXTERNAL_NAME and spec.ip_family_policy is None:
            spec.ip_family_policy = "SingleStack"

    def prepare_for_update(self, obj: Service, old: Service) -> None:
        super().prepare_for_update(obj, old)
        spec, was = obj.spec, old.spec
        if spec.type == _EXTERNAL_NAME:
            if was.type != _EXTERNAL_NAME and spec.cluster_ip == was.cluster_ip:
                spec.cluster_ip, spec.cluster_ips = "", []
                spec.ip_families, spec.ip_family_policy = [], None
                spec.internal_traffic_policy = None
            return
        if not spec.cluster_ip and not spec.cluster_ips:
            spec.cluster_ip, spec.cluster_ips = was.cluster_ip, list(was.cluster_ips)
        elif spec.cluster_ip != was.cluster_ip and spec.cluster_ips == was.cluster_ips:
            spec.cluster_ips = [spec.cluster_ip] if spec.cluster_ip else []
        if not spec.ip_families:
            spec.ip_families = list(was.ip_families) or ["IPv4"]
        spec.ip_family_policy = spec.ip_family_policy or was.ip_family_policy or "SingleStack"
        if _has_node_ports(obj):
            _keep_node_ports(spec.ports, was.ports)

    def begin_create(self, obj: Service) -> Undo:
        return self._allocate(obj, set(), set())

    def begin_update(self, obj: Service, old: Service) -> Undo:
        return self._allocate(obj, set(_addresses(old)), set(_ports(old)))

    def after_update(self, obj: Service, old: Service) -> None:
        for address in set(_addresses(old)) - set(_addresses(obj)):
            self._cluster_ips.give_back(address)
        for port in set(_ports(old)) - set(_ports(obj)):
            self._node_ports.give_back(port)

    def after_delete(self, obj: Service) -> None:
        for address in _addresses(obj):
            self._cluster_ips.give_back(address)
        for port in _ports(obj):
            self._node_ports.give_back(port)

    def _allocate(self, obj: Service, had_addresses: set[str], had_ports: set[int]) -> Undo:
        """Takes what the Service needs and does not have. Raises ApiError (422, 500) and takes nothing then."""
        taken: list[Callable[[], None]] = []

        def undo() -> None:
            while taken:
                taken.pop()()

        try:
            self._allocate_address(obj, had_addresses, taken)
            self._allocate_ports(obj, had_ports, taken)
        except status.ApiError:
            undo()
            raise
        return undo

    def _allocate_address(self, obj: Service, had: set[str], taken: list[Callable[[], None]]) -> None:
        spec = obj.spec
        if spec.type == _EXTERNAL_NAME or spec.cluster_ip == HEADLESS or spec.cluster_ip in had:
            return
        wanted = spec.cluster_ip
        try:
            if wanted:
                self._cluster_ips.take(wanted)
            else:
                spec.cluster_ip = self._cluster_ips.take_next()
                spec.cluster_ips = [spec.cluster_ip]
        except AllocationError as error:
            if not wanted:
                raise status.internal(f"failed to allocate a serviceIP: {error}") from error
            reason = f"failed to allocate IP {wanted}: {error}"
            problem = field.invalid("spec.clusterIPs", spec.cluster_ips, reason)
            raise status.invalid(self.resource, obj.metadata.name, [problem]) from error
        address = spec.cluster_ip
        taken.append(lambda: self._release_address(obj, address, given=not wanted))

    def _release_address(self, obj: Service, address: str, *, given: bool) -> None:
        self._cluster_ips.give_back(address)
        if given:  # a second attempt under another generated name takes a new one
            obj.spec.cluster_ip, obj.spec.cluster_ips = "", []

    def _allocate_ports(self, obj: Service, had: set[int], taken: list[Callable[[], None]]) -> None:
        if not _has_node_ports(obj):
            return
        own: dict[int, set[str]] = {}
        for index, port in enumerate(obj.spec.ports):
            wanted = port.node_port
            if wanted in had or (wanted in own and port.protocol not in own[wanted]):
                own.setdefault(wanted, set()).add(port.protocol)
                continue
            try:
                if wanted:
                    self._node_ports.take(wanted)
                    number = wanted
                else:
                    number = port.node_port = self._node_ports.take_next()
            except AllocationError as error:
                if not wanted:
                    raise status.internal(f"failed to allocate a nodePort: {error}") from error
                path = f"spec.ports[{index}].nodePort"
                problem = field.invalid(path, wanted, str(error))
                raise status.invalid(self.resource, obj.metadata.name, [problem]) from error
            own.setdefault(number, set()).add(port.protocol)
            taken.append(lambda number=number: self._node_ports.give_back(number))  # type: ignore[misc]


def _addresses(service: Service) -> list[str]:
    return [address for address in (service.spec.cluster_ip,) if address and address != HEADLESS]


def _ports(service: Service) -> list[int]:
    return [port.node_port for port in service.spec.ports if port.node_port]


def _has_node_ports(service: Service) -> bool:
    if service.spec.type == "LoadBalancer":
        return service.spec.allocate_load_balancer_node_ports is not False
    return service.spec.type == "NodePort"


def _keep_node_ports(new: list[ServicePort], old: list[ServicePort]) -> None:
    """Ports that an update names without their node port keep it."""
    known = {(port.protocol, port.port): port.node_port for port in old if port.node_port}
    asked = {port.node_port for port in new if port.node_port}
    for port in new:
        kept = known.get((port.protocol, port.port))
        if not port.node_port and kept and kept not in asked:
            port.node_port = kept
