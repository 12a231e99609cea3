"""Objects as rows of a table: the columns of `kubectl get`, for every resource of the scheme.

Columns, cells and their texts are those of upstream's printers (pkg/printers/internalversion). Rows always hold all
cells: clients hide the columns of priority 1 unless asked for wide output.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from podling.api.coordination import v1 as coordination
from podling.api.core import v1 as core
from podling.api.events import v1 as events
from podling.api.go import human_duration
from podling.api.meta.v1 import TableColumnDefinition, TableRow, TableRowCondition
from podling.api.pod_columns import pod_cells
from podling.api.time import to_seconds

Cells = Callable[[Any, float], list[Any]]


@dataclass(frozen=True, slots=True)
class Printer:
    """How one kind is printed. `cells` takes an object and the time in seconds since the epoch."""

    columns: tuple[TableColumnDefinition, ...]
    cells: Cells
    conditions: Callable[[Any], list[TableRowCondition]]

    def row(self, obj: Any, now: float | None = None) -> TableRow:
        """The row of `obj`, whose `object` the caller has to set."""
        return TableRow(cells=self.cells(obj, time.time() if now is None else now), conditions=self.conditions(obj))


def of(type: type[Any]) -> Printer:
    """The printer of a kind's type; kinds without one of their own show name and age."""
    return _PRINTERS.get(type, _DEFAULT)


def age(timestamp: str, now: float) -> str:
    """How long ago a Time or MicroTime was, "5m3s"; "<unknown>" when there is none."""
    try:
        return human_duration(now - to_seconds(timestamp)) if timestamp else "<unknown>"
    except ValueError:
        return "<unknown>"


def format_labels(labels: Mapping[str, str]) -> str:
    """ "a=b,c=d" in the order of the keys, "<none>" without any."""
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels)) or "<none>"


def _column(name: str, description: str, *, type: str = "string", format: str = "", wide: bool = False) -> Any:
    return TableColumnDefinition(name=name, type=type, format=format, description=description, priority=int(wide))


_NAME = _column("Name", "Name of the object, unique among its kind in its namespace.", format="name")
_AGE = _column("Age", "Time since the object was created.")


def _no_conditions(obj: Any) -> list[TableRowCondition]:
    return []


def _printer(columns: Iterable[Any], cells: Cells) -> Printer:
    return Printer(tuple(columns), cells, _no_conditions)


def _pod_conditions(pod: core.Pod) -> list[TableRowCondition]:
    message = {"Succeeded": "The pod has completed successfully.", "Failed": "The pod failed."}.get(pod.status.phase)
    if message is None:
        return []
    return [TableRowCondition(type="Completed", status="True", reason=pod.status.phase, message=message)]


def _pod(pod: core.Pod, now: float) -> list[Any]:
    return pod_cells(pod, lambda timestamp: age(timestamp, now))


def _node(node: core.Node, now: float) -> list[Any]:
    ready = next((item for item in node.status.conditions if item.type == "Ready"), None)
    status = "Unknown" if ready is None else "Ready" if ready.status == "True" else "NotReady"
    if node.spec.unschedulable:
        status += ",SchedulingDisabled"
    roles = set()
    for key, value in node.metadata.labels.items():
        if key.startswith("node-role.kubernetes.io/"):
            roles.add(key.removeprefix("node-role.kubernetes.io/"))
        elif key == "kubernetes.io/role":
            roles.add(value)
    info = node.status.node_info
    return [
        node.metadata.name,
        status,
        ",".join(sorted(roles - {""})) or "<none>",
        age(node.metadata.creation_timestamp, now),
        info.kubelet_version,
        _address(node, "InternalIP"),
        _address(node, "ExternalIP"),
        info.os_image or "<unknown>",
        info.kernel_version or "<unknown>",
        info.container_runtime_version or "<unknown>",
    ]


def _address(node: core.Node, type: str) -> str:
    return next((item.address for item in node.status.addresses if item.type == type), "<none>")


def _namespace(namespace: core.Namespace, now: float) -> list[Any]:
    meta = namespace.metadata
    return [meta.name, namespace.status.phase, age(meta.creation_timestamp, now)]


def _config_map(config_map: core.ConfigMap, now: float) -> list[Any]:
    meta = config_map.metadata
    return [meta.name, len(config_map.data) + len(config_map.binary_data), age(meta.creation_timestamp, now)]


def _secret(secret: core.Secret, now: float) -> list[Any]:
    meta = secret.metadata
    return [meta.name, secret.type, len(secret.data), age(meta.creation_timestamp, now)]


def _service_account(account: core.ServiceAccount, now: float) -> list[Any]:
    return [account.metadata.name, len(account.secrets), age(account.metadata.creation_timestamp, now)]


def _service(service: core.Service, now: float) -> list[Any]:
    spec = service.spec
    return [
        service.metadata.name,
        spec.type,
        spec.cluster_ips[0] if spec.cluster_ips else "<none>",
        _external_ip(service),
        ",".join(map(_service_port, spec.ports)) or "<none>",
        age(service.metadata.creation_timestamp, now),
        format_labels(spec.selector),
    ]


def _service_port(port: core.ServicePort) -> str:
    node_port = f":{port.node_port}" if port.node_port else ""
    return f"{port.port}{node_port}/{port.protocol}"


def _external_ip(service: core.Service) -> str:
    spec = service.spec
    match spec.type:
        case "ClusterIP" | "NodePort":
            return ",".join(spec.external_ips) or "<none>"
        case "LoadBalancer":
            balancers = {item.ip or item.hostname for item in service.status.load_balancer.ingress} - {""}
            return ",".join([*sorted(balancers), *spec.external_ips]) or "<pending>"
        case "ExternalName":
            return spec.external_name
    return "<unknown>"


def _endpoints(endpoints: core.Endpoints, now: float) -> list[Any]:
    found = []
    for subset in endpoints.subsets:
        if not subset.ports:
            found += [address.ip for address in subset.addresses]
        for port in subset.ports:
            found += [_host_port(address.ip, port.port) for address in subset.addresses]
    text = ",".join(found[:3])
    if len(found) > 3:
        text += f" + {len(found) - 3} more..."
    meta = endpoints.metadata
    return [meta.name, text if endpoints.subsets else "<none>", age(meta.creation_timestamp, now)]


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


def _lease(lease: coordination.Lease, now: float) -> list[Any]:
    return [lease.metadata.name, lease.spec.holder_identity or "", age(lease.metadata.creation_timestamp, now)]


def _core_event(event: core.Event, now: float) -> list[Any]:
    first = age(event.first_timestamp or event.event_time or "", now)
    last = age(event.last_timestamp, now) if event.last_timestamp else first
    count = event.count or 1
    if event.series is not None:
        last, count = age(event.series.last_observed_time, now), event.series.count
    source = _source(event.source.component or event.reporting_component, event.source.host or event.reporting_instance)
    target = event.involved_object
    return _event_cells(event, target, source, event.message, first, last, count)


def _event(event: events.Event, now: float) -> list[Any]:
    first = age(event.deprecated_first_timestamp or event.event_time or "", now)
    last = age(event.deprecated_last_timestamp, now) if event.deprecated_last_timestamp else first
    count = event.deprecated_count or 1
    if event.series is not None:
        last, count = age(event.series.last_observed_time, now), event.series.count
    source = _source(
        event.deprecated_source.component or event.reporting_controller,
        event.deprecated_source.host or event.reporting_instance,
    )
    return _event_cells(event, event.regarding, source, event.note, first, last, count)


def _source(component: str, instance: str) -> str:
    return f"{component}, {instance}" if instance else component


def _event_cells(
    event: core.Event | events.Event,
    target: core.ObjectReference,
    source: str,
    message: str,
    first: str,
    last: str,
    count: int,
) -> list[Any]:
    kind = target.kind.lower()
    return [
        last,
        event.type,
        event.reason,
        f"{kind}/{target.name}" if target.name else kind,
        target.field_path,
        source,
        message.strip(),
        first,
        count,
        event.metadata.name,
    ]


def _object(obj: Any, now: float) -> list[Any]:
    return [obj.metadata.name, age(obj.metadata.creation_timestamp, now)]


_DEFAULT = _printer((_NAME, _column("Age", "Time since the object was created.")), _object)

_EVENT_COLUMNS = (
    _column("Last Seen", "Time since the event was last observed."),
    _column("Type", "Normal or Warning."),
    _column("Reason", "Why the event was written, a word for machines."),
    _column("Object", "What the event is about."),
    _column("Subobject", "The part of the object that the event is about.", wide=True),
    _column("Source", "The component that wrote the event.", wide=True),
    _column("Message", "What happened, a sentence for people."),
    _column("First Seen", "Time since the event was first observed.", wide=True),
    _column("Count", "How often the event was observed.", wide=True),
    _column("Name", "Name of the event.", format="name", wide=True),
)

_PRINTERS: dict[type[Any], Printer] = {
    core.Pod: Printer(
        (
            _NAME,
            _column("Ready", "Containers that are ready, of all containers."),
            _column("Status", "The phase of the pod, or what keeps it from the next one."),
            _column("Restarts", "How often containers were restarted, and when last."),
            _AGE,
            _column("IP", "Address of the pod.", wide=True),
            _column("Node", "Node that the pod is bound to.", wide=True),
            _column("Nominated Node", "Node that is to run the pod once others made room.", wide=True),
            _column("Readiness Gates", "Readiness gates that are passed, of all gates.", wide=True),
        ),
        _pod,
        _pod_conditions,
    ),
    core.Node: _printer(
        (
            _NAME,
            _column("Status", "Whether the node is ready and takes pods."),
            _column("Roles", "Roles of the node, from its labels."),
            _AGE,
            _column("Version", "Version of the kubelet."),
            _column("Internal-IP", "Address of the node inside the cluster.", wide=True),
            _column("External-IP", "Address of the node for others.", wide=True),
            _column("OS-Image", "Operating system of the node.", wide=True),
            _column("Kernel-Version", "Kernel of the node.", wide=True),
            _column("Container-Runtime", "Container runtime and its version.", wide=True),
        ),
        _node,
    ),
    core.Namespace: _printer((_NAME, _column("Status", "Whether the namespace is in use or going."), _AGE), _namespace),
    core.ConfigMap: _printer((_NAME, _column("Data", "Number of keys."), _AGE), _config_map),
    core.Secret: _printer(
        (_NAME, _column("Type", "What the secret is for."), _column("Data", "Number of keys."), _AGE), _secret
    ),
    core.ServiceAccount: _printer((_NAME, _column("Secrets", "Number of secrets."), _AGE), _service_account),
    core.Service: _printer(
        (
            _NAME,
            _column("Type", "How the service is reached."),
            _column("Cluster-IP", "Address of the service inside the cluster."),
            _column("External-IP", "Addresses of the service for others."),
            _column("Port(s)", "Ports of the service, with their ports on nodes."),
            _AGE,
            _column("Selector", "Labels of the pods that serve it.", wide=True),
        ),
        _service,
    ),
    core.Endpoints: _printer(
        (_NAME, _column("Endpoints", "Addresses and ports behind the service."), _AGE), _endpoints
    ),
    core.Event: _printer(_EVENT_COLUMNS, _core_event),
    events.Event: _printer(_EVENT_COLUMNS, _event),
    coordination.Lease: _printer((_NAME, _column("Holder", "Who holds the lease."), _AGE), _lease),
}
