"""Endpoints of Services that have a selector: the addresses of the Pods it selects, ready and not ready ones."""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from podling.api.core.v1 import (
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    ObjectReference,
    Pod,
    Service,
    ServicePort,
)
from podling.api.meta.v1 import ObjectMeta
from podling.api.status import ApiError
from podling.client.client import Client, EventType
from podling.client.informer import InformerSet
from podling.controllers.service_account import namespace_is_gone
from podling.controllers.work_queue import WorkQueue

HEADLESS_LABEL = "service.kubernetes.io/headless"
MANAGED_BY_LABEL = "endpoints.kubernetes.io/managed-by"
MANAGED_BY = "endpoint-controller"

_LEADER_ANNOTATION = "control-plane.alpha.kubernetes.io/leader"

Key = tuple[str, str]


class EndpointsController:
    def __init__(self, client: Client, informers: InformerSet) -> None:
        self._client = client
        self._services = informers.of(Service)
        self._endpoints = informers.of(Endpoints)
        self._pods = informers.of(Pod)
        self._queue: WorkQueue[Key] = WorkQueue("endpoints", self._sync, workers=2)
        self._services.add_handler(self._on_service)
        self._endpoints.add_handler(self._on_endpoints)
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        await self._services.synced()
        await self._endpoints.synced()
        await self._pods.synced()
        # Their Service may have gone while no controller ran. Later only the end of a Service takes its Endpoints along:
        # those that a user makes first, or without a Service, are left alone, as by upstream.
        for endpoints in self._endpoints.list():
            self._queue.add((endpoints.metadata.namespace, endpoints.metadata.name))
        await self._queue.run()

    def _on_service(self, type: EventType, service: Service, old: Service | None) -> None:
        self._queue.add((service.metadata.namespace, service.metadata.name))

    def _on_endpoints(self, type: EventType, endpoints: Endpoints, old: Endpoints | None) -> None:
        if type is EventType.DELETED:  # by hand, perhaps: then they are made again
            self._queue.add((endpoints.metadata.namespace, endpoints.metadata.name))

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        if type is EventType.MODIFIED and old is not None and _footprint(old) == _footprint(pod):
            return
        namespace = pod.metadata.namespace
        for service in self._services.list(namespace):
            selector = service.spec.selector
            if selector and (_selects(selector, pod) or (old is not None and _selects(selector, old))):
                self._queue.add((namespace, service.metadata.name))

    async def _sync(self, key: Key) -> None:
        namespace, name = key
        service = self._services.get(namespace, name)
        current = self._endpoints.get(namespace, name)
        try:
            if service is None:
                if current is not None and _LEADER_ANNOTATION not in current.metadata.annotations:
                    await self._client.delete(Endpoints, name, namespace, uid=current.metadata.uid)
            elif service.spec.selector and service.spec.type != "ExternalName":
                selected = [pod for pod in self._pods.list(namespace) if _selects(service.spec.selector, pod)]
                await self._write(service, current, subsets(service, selected))
        except ApiError as error:
            if error.code != 404 and error.reason != "AlreadyExists" and not namespace_is_gone(error):
                raise

    async def _write(self, service: Service, current: Endpoints | None, wanted: list[EndpointSubset]) -> None:
        meta = service.metadata
        own_labels = {**meta.labels, MANAGED_BY_LABEL: MANAGED_BY}
        if service.spec.cluster_ip == "None":
            own_labels[HEADLESS_LABEL] = ""
        if current is None:
            fresh = ObjectMeta(name=meta.name, namespace=meta.namespace, labels=own_labels)
            await self._client.create(Endpoints(metadata=fresh, subsets=wanted))
        elif current.subsets != wanted or current.metadata.labels != own_labels:
            changed = replace(current, metadata=replace(current.metadata, labels=own_labels), subsets=wanted)
            await self._client.update(changed)


def subsets(service: Service, pods: list[Pod]) -> list[EndpointSubset]:
    """The subsets of a Service's Endpoints: Pods with the same port numbers share one."""
    groups: dict[tuple[tuple[str, str, int], ...], EndpointSubset] = {}
    for pod in pods:
        if not pod.status.pod_ip or pod.status.phase in ("Succeeded", "Failed"):
            continue
        not_ready_counts = bool(service.spec.publish_not_ready_addresses)
        if pod.metadata.deletion_timestamp and not not_ready_counts:
            continue
        ports = _ports(service, pod)
        if ports is None:
            continue
        key = tuple((port.name, port.protocol, port.port) for port in ports)
        subset = groups.setdefault(key, EndpointSubset(ports=ports))
        address = _address(service, pod)
        ready = not_ready_counts or any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
        (subset.addresses if ready else subset.not_ready_addresses).append(address)
    for subset in groups.values():
        subset.addresses.sort(key=_order)
        subset.not_ready_addresses.sort(key=_order)
    return [groups[key] for key in sorted(groups)]


def _ports(service: Service, pod: Pod) -> list[EndpointPort] | None:
    """The numbers behind the Service's ports in this Pod; None if it has none of them."""
    if not service.spec.ports:
        return [] if service.spec.cluster_ip == "None" else None
    found = []
    for port in service.spec.ports:
        number = target_port(port, pod)
        if number is not None:
            found.append(
                EndpointPort(
                    name=port.name, port=number, protocol=port.protocol or "TCP", app_protocol=port.app_protocol
                )
            )
    return sorted(found, key=lambda p: (p.name, p.protocol, p.port)) or None


def target_port(port: ServicePort, pod: Pod) -> int | None:
    """The number of a Service's target port in a Pod; None if the Pod has no port of that name."""
    target = port.target_port
    if isinstance(target, int):
        return target or port.port
    if not target:
        return port.port
    protocol = port.protocol or "TCP"
    sidecars = [c for c in pod.spec.init_containers if c.restart_policy == "Always"]
    for container in pod.spec.containers + sidecars:
        for candidate in container.ports:
            if candidate.name == target and (candidate.protocol or "TCP") == protocol:
                return candidate.container_port
    return None


def _address(service: Service, pod: Pod) -> EndpointAddress:
    meta = pod.metadata
    in_domain = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    return EndpointAddress(
        ip=pod.status.pod_ip,
        node_name=pod.spec.node_name or None,
        hostname=pod.spec.hostname if in_domain else "",
        target_ref=ObjectReference(kind="Pod", namespace=meta.namespace, name=meta.name, uid=meta.uid),
    )


def _order(address: EndpointAddress) -> tuple[int, int, str]:
    ip = ipaddress.ip_address(address.ip)
    return ip.version, int(ip), address.target_ref.uid if address.target_ref else ""


def _selects(selector: dict[str, str], pod: Pod) -> bool:
    return selector.items() <= pod.metadata.labels.items()


def _footprint(pod: Pod) -> tuple[object, ...]:
    """All that Endpoints show of a Pod."""
    ready = any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)
    meta, status = pod.metadata, pod.status
    return (meta.uid, meta.labels, bool(meta.deletion_timestamp), status.pod_ip, status.phase, ready)
