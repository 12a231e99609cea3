"""Deletion of namespaces: first their Pods, then everything else in them, then themselves.

Until the Pods are gone nothing else is touched, so that they stop with their Secrets, their policies and their Services in
place (KEP-5080, Ordered Namespace Deletion).

Conditions, reasons and messages are those of upstream's namespace controller (the "why does it not go" of kubectl users).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from msgspec import Struct, field

from podling.api import codec, scheme
from podling.api.core.v1 import Namespace, NamespaceCondition, Pod
from podling.api.meta.v1 import ListMeta, ObjectMeta
from podling.api.scheme import Resource
from podling.api.status import ApiError
from podling.api.time import now
from podling.client.client import Client, EventType
from podling.client.informer import InformerSet
from podling.controllers.work_queue import WorkQueue

FINALIZER = "kubernetes"

_RECHECK = 10.0
"""Seconds until content that a finalizer holds is looked at again; Pods that go are noticed at once."""


def is_terminating(namespace: Namespace) -> bool:
    return bool(namespace.metadata.deletion_timestamp)


class _Item(Struct):
    metadata: ObjectMeta


class _Items(Struct):
    """A list of whatever kind: only what matters here is decoded."""

    metadata: ListMeta = field(default_factory=ListMeta)
    items: list[_Item] = field(default_factory=list)


class _Left(Struct):
    """What a pass over a namespace could not remove."""

    counts: dict[str, int] = field(default_factory=dict)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.counts or self.failures)

    def add(self, resource: Resource, items: list[_Item]) -> None:
        if items:
            self.counts[f"{resource.plural}.{resource.group}"] = len(items)
            self.finalizers.update(finalizer for item in items for finalizer in item.metadata.finalizers)

    def conditions(self) -> list[NamespaceCondition]:
        """Upstream's five conditions, in its words."""
        if self.failures:
            text = f"Failed to delete all resource types, {len(self.failures)} remaining: "
            text += ", ".join(sorted(self.failures))
            content = _condition("NamespaceDeletionContentFailure", True, "ContentDeletionFailed", text)
        else:
            text = "All content successfully deleted, may be waiting on finalization"
            content = _condition("NamespaceDeletionContentFailure", False, "ContentDeleted", text)
        if self.counts:
            counts = ", ".join(f"{kind} has {count} resource instances" for kind, count in sorted(self.counts.items()))
            text = f"Some resources are remaining: {counts}"
            remaining = _condition("NamespaceContentRemaining", True, "SomeResourcesRemain", text)
        else:
            text = "All content successfully removed"
            remaining = _condition("NamespaceContentRemaining", False, "ContentRemoved", text)
        if self.finalizers:
            counts = ", ".join(
                f"{name} in {count} resource instances" for name, count in sorted(self.finalizers.items())
            )
            text = f"Some content in the namespace has finalizers remaining: {counts}"
            held = _condition("NamespaceFinalizersRemaining", True, "SomeFinalizersRemain", text)
        else:
            text = "All content-preserving finalizers finished"
            held = _condition("NamespaceFinalizersRemaining", False, "ContentHasNoFinalizers", text)
        discovered = _condition(
            "NamespaceDeletionDiscoveryFailure",
            False,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        )
        parsed = _condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        )
        return [discovered, parsed, content, remaining, held]


def _condition(type: str, status: bool, reason: str, message: str) -> NamespaceCondition:
    return NamespaceCondition(type=type, status=str(status), reason=reason, message=message)


class NamespaceController:
    def __init__(self, client: Client, informers: InformerSet) -> None:
        self._client = client
        self._namespaces = informers.of(Namespace)
        self._pods = informers.of(Pod)
        self._queue: WorkQueue[str] = WorkQueue("namespace", self._sync, workers=2)
        self._namespaces.add_handler(self._on_namespace)
        self._pods.add_handler(self._on_pod)

    async def run(self) -> None:
        await self._namespaces.synced()
        await self._queue.run()

    def _on_namespace(self, type: EventType, namespace: Namespace, old: Namespace | None) -> None:
        if type is EventType.DELETED:
            self._queue.cancel(namespace.metadata.name)
        elif is_terminating(namespace) and (old is None or not is_terminating(old)):
            self._queue.add(namespace.metadata.name)

    def _on_pod(self, type: EventType, pod: Pod, old: Pod | None) -> None:
        if type is EventType.DELETED:
            namespace = self._namespaces.get("", pod.metadata.namespace)
            if namespace is not None and is_terminating(namespace):
                self._queue.add(namespace.metadata.name)

    async def _sync(self, name: str) -> None:
        namespace = self._namespaces.get("", name)
        if namespace is None or not is_terminating(namespace) or FINALIZER not in namespace.spec.finalizers:
            return
        left = _Left()
        for resources in _contents():
            for resource in resources:
                await self._empty(resource, name, left)
            if left:
                await self._report(namespace, left.conditions())
                self._queue.add_after(name, _RECHECK)
                return
        await self._finalize(namespace)

    async def _empty(self, resource: Resource, namespace: str, left: _Left) -> None:
        """Deletes all objects of a kind, and notes those that are still there."""
        # Background, as upstream: it also ends the wait of objects that were deleted in the foreground before.
        options = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        try:
            # Also where a list shows none: the server then removes what it cannot read, which no list shows.
            await self._client.request("DELETE", resource.path(namespace), body=codec.encode(options))
            left.add(resource, await self._list(resource, namespace))
        except ApiError as error:
            left.failures.append(str(error))

    async def _list(self, resource: Resource, namespace: str) -> list[_Item]:
        return codec.decode(_Items, await self._client.request("GET", resource.path(namespace))).items

    async def _finalize(self, namespace: Namespace) -> None:
        """Takes the finalizer away, whereupon the API server deletes the namespace."""
        name = namespace.metadata.name
        try:
            fresh = await self._client.get(Namespace, name)
            if fresh.metadata.uid != namespace.metadata.uid:
                return
            fresh.spec.finalizers = [item for item in fresh.spec.finalizers if item != FINALIZER]
            await self._client.update(fresh, "finalize")
        except ApiError as error:
            if error.code != 404:
                raise

    async def _report(self, namespace: Namespace, conditions: list[NamespaceCondition]) -> None:
        old = {condition.type: condition for condition in namespace.status.conditions}
        changed: list[Any] = []
        for condition in conditions:
            before = old.get(condition.type)
            if before and (before.status, before.reason, before.message) == (
                condition.status,
                condition.reason,
                condition.message,
            ):
                continue
            same_status = before is not None and before.status == condition.status
            condition.last_transition_time = before.last_transition_time if before and same_status else now()
            changed.append(codec.to_builtins(condition))
        if changed:
            patch = {"status": {"conditions": changed}}
            await self._client.patch(
                Namespace, namespace.metadata.name, "", patch, content_type="strategic", subresource="status"
            )


def _contents() -> tuple[list[Resource], list[Resource]]:
    """Every kind that a namespace may hold: Pods, then the others. Both Event APIs show the same objects, so that the second
    finds nothing."""
    kinds = [r for r in scheme.RESOURCES if r.namespaced and "deletecollection" in r.verbs]
    return [r for r in kinds if r.type is Pod], [r for r in kinds if r.type is not Pod]
