"""Which strategy serves which resource."""

from __future__ import annotations

from typing import Any

from podling.api.apps.v1 import DaemonSet, Deployment, ReplicaSet, StatefulSet
from podling.api.batch.v1 import CronJob, Job
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Endpoints, Event, Namespace, Node, Pod, Secret, Service, ServiceAccount
from podling.api.discovery.v1 import EndpointSlice
from podling.api.events.v1 import Event as NewEvent
from podling.api.policy.v1 import PodDisruptionBudget
from podling.api.scheduling.v1 import PriorityClass
from podling.api.scheme import Resource
from podling.apiserver.cluster_ip import ClusterIPs
from podling.apiserver.conversion import stored_resource
from podling.apiserver.node_port import NodePorts
from podling.apiserver.strategies.event import NewEventStrategy
from podling.apiserver.strategies.generic import Counted, CreatedOnUpdate, Returned
from podling.apiserver.strategies.namespace import NamespaceStrategy
from podling.apiserver.strategies.node import NodeStrategy
from podling.apiserver.strategies.pod import PodStrategy
from podling.apiserver.strategies.secret import SecretStrategy
from podling.apiserver.strategies.service import ServiceStrategy
from podling.apiserver.strategy import Strategy

_BY_TYPE: dict[type[Any], type[Strategy[Any]]] = {
    CronJob: Counted,
    DaemonSet: Counted,
    Deployment: Counted,
    EndpointSlice: Counted,
    Endpoints: CreatedOnUpdate,
    Event: CreatedOnUpdate,
    NewEvent: NewEventStrategy,
    Job: Counted,
    Lease: CreatedOnUpdate,
    Namespace: NamespaceStrategy,
    Node: NodeStrategy,
    Pod: PodStrategy,
    PodDisruptionBudget: Counted,
    PriorityClass: Counted,
    ReplicaSet: Counted,
    Secret: SecretStrategy,
    ServiceAccount: Returned,
    StatefulSet: Counted,
}


def strategy_for(resource: Resource, cluster_ips: ClusterIPs, node_ports: NodePorts) -> Strategy[Any]:
    if resource.type is Service:
        return ServiceStrategy(resource, cluster_ips, node_ports)
    return _BY_TYPE.get(resource.type, Strategy)(stored_resource(resource))
