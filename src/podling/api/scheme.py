"""The resources that the API server serves: names, verbs, types and paths.

Names, short names, categories and verbs are upstream's discovery documents (`kubectl api-resources -o wide`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from podling.api.authentication import v1 as authentication
from podling.api.authorization import v1 as authorization
from podling.api.coordination import v1 as coordination
from podling.api.core import v1 as core
from podling.api.events import v1 as events
from podling.api.policy import v1 as policy
from podling.api.types import Object

# The dataclasses below have an attribute `type`, which hides the builtin from their later annotations.
ObjectType: TypeAlias = type[Object]

ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True, slots=True)
class Subresource:
    """A part of a resource with its own verbs. group, version and kind are those of its body, not of the resource."""

    name: str
    kind: str
    verbs: tuple[str, ...]
    type: ObjectType
    group: str = ""
    version: str = "v1"


@dataclass(frozen=True, slots=True)
class Resource:
    """A served resource. `verbs` is empty where only subresources are served."""

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    type: ObjectType
    list_type: ObjectType
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    verbs: tuple[str, ...] = ALL_VERBS
    subresources: tuple[Subresource, ...] = field(default=(), repr=False)
    deprecation: str = field(default="", repr=False)
    """A warning that goes with every answer."""

    @property
    def api_version(self) -> str:
        """The apiVersion of its objects: "v1", "apps/v1"."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """The name in errors: "pods", "leases.coordination.k8s.io"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def qualified_kind(self) -> str:
        """The kind in errors about invalid objects: "Pod", "Lease.coordination.k8s.io"."""
        return f"{self.kind}.{self.group}" if self.group else self.kind

    @property
    def key_prefix(self) -> str:
        """Where its objects are stored. Both Event APIs share one place, for they show the same objects."""
        return f"/registry/{self.plural}/"

    @property
    def root(self) -> str:
        """The path of its API version: "/api/v1", "/apis/coordination.k8s.io/v1"."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def key(self, namespace: str, name: str) -> str:
        """The storage key of one object."""
        return f"{self.key_prefix}{namespace}/{name}" if self.namespaced else f"{self.key_prefix}{name}"

    def path(self, namespace: str = "", name: str = "", subresource: str = "") -> str:
        """The URL path of an object, or of the collection when `name` is empty (of all namespaces without one)."""
        parts = [self.root]
        if self.namespaced and namespace:
            parts += ["namespaces", namespace]
        parts.append(self.plural)
        if name:
            parts.append(name)
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def subresource(self, name: str) -> Subresource | None:
        return next((item for item in self.subresources if item.name == name), None)


def _status(kind: str, type: ObjectType) -> Subresource:
    return Subresource("status", kind, ("get", "patch", "update"), type)


RESOURCES: tuple[Resource, ...] = (
    Resource(
        "", "v1", "ConfigMap", "configmaps", "configmap", True, core.ConfigMap, core.ConfigMapList, short_names=("cm",)
    ),
    Resource(
        "",
        "v1",
        "Endpoints",
        "endpoints",
        "endpoints",
        True,
        core.Endpoints,
        core.EndpointsList,
        short_names=("ep",),
        deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    ),
    Resource("", "v1", "Event", "events", "event", True, core.Event, core.EventList, short_names=("ev",)),
    Resource(
        "",
        "v1",
        "Namespace",
        "namespaces",
        "namespace",
        False,
        core.Namespace,
        core.NamespaceList,
        short_names=("ns",),
        verbs=tuple(verb for verb in ALL_VERBS if verb != "deletecollection"),
        subresources=(
            Subresource("finalize", "Namespace", ("update",), core.Namespace),
            _status("Namespace", core.Namespace),
        ),
    ),
    Resource(
        "",
        "v1",
        "Node",
        "nodes",
        "node",
        False,
        core.Node,
        core.NodeList,
        short_names=("no",),
        subresources=(_status("Node", core.Node),),
    ),
    Resource(
        "",
        "v1",
        "Pod",
        "pods",
        "pod",
        True,
        core.Pod,
        core.PodList,
        short_names=("po",),
        categories=("all",),
        subresources=(
            Subresource("binding", "Binding", ("create",), core.Binding),
            Subresource("eviction", "Eviction", ("create",), policy.Eviction, "policy"),
            Subresource("log", "Pod", ("get",), core.Pod),
            _status("Pod", core.Pod),
        ),
    ),
    Resource("", "v1", "Secret", "secrets", "secret", True, core.Secret, core.SecretList),
    Resource(
        "",
        "v1",
        "ServiceAccount",
        "serviceaccounts",
        "serviceaccount",
        True,
        core.ServiceAccount,
        core.ServiceAccountList,
        short_names=("sa",),
        subresources=(
            Subresource("token", "TokenRequest", ("create",), authentication.TokenRequest, "authentication.k8s.io"),
        ),
    ),
    Resource(
        "",
        "v1",
        "Service",
        "services",
        "service",
        True,
        core.Service,
        core.ServiceList,
        short_names=("svc",),
        categories=("all",),
        subresources=(_status("Service", core.Service),),
    ),
    Resource(
        "coordination.k8s.io",
        "v1",
        "Lease",
        "leases",
        "lease",
        True,
        coordination.Lease,
        coordination.LeaseList,
    ),
    Resource(
        "events.k8s.io",
        "v1",
        "Event",
        "events",
        "event",
        True,
        events.Event,
        events.EventList,
        short_names=("ev",),
    ),
)


def _transient(group: str, kind: str, type: ObjectType, *, namespaced: bool = False) -> Resource:
    singular = kind.lower()
    return Resource(group, "v1", kind, f"{singular}s", singular, namespaced, type, type, verbs=("create",))


TRANSIENT: tuple[Resource, ...] = (
    _transient("", "Binding", core.Binding, namespaced=True),
    _transient("authentication.k8s.io", "SelfSubjectReview", authentication.SelfSubjectReview),
    _transient("authentication.k8s.io", "TokenReview", authentication.TokenReview),
    _transient(
        "authorization.k8s.io", "LocalSubjectAccessReview", authorization.LocalSubjectAccessReview, namespaced=True
    ),
    _transient("authorization.k8s.io", "SelfSubjectAccessReview", authorization.SelfSubjectAccessReview),
    _transient("authorization.k8s.io", "SelfSubjectRulesReview", authorization.SelfSubjectRulesReview),
    _transient("authorization.k8s.io", "SubjectAccessReview", authorization.SubjectAccessReview),
)
"""Resources whose objects are created and answered, and never stored; they have no lists."""

SERVED = RESOURCES + TRANSIENT
"""What clients discover."""

_BY_PLURAL = {(item.group, item.version, item.plural): item for item in RESOURCES}
_BY_KIND = {(item.group, item.version, item.kind): item for item in RESOURCES}
_BY_TYPE = {item.type: item for item in RESOURCES}


def by_plural(group: str, version: str, plural: str) -> Resource | None:
    return _BY_PLURAL.get((group, version, plural))


def by_kind(group: str, version: str, kind: str) -> Resource | None:
    return _BY_KIND.get((group, version, kind))


def by_type(type: type[object]) -> Resource:
    """The resource whose objects have this type. Raises KeyError for other types."""
    return _BY_TYPE[type]  # type: ignore[index]
