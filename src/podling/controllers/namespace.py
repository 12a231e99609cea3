"""Deletion of namespaces: first everything in them, then themselves.

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
        remaining: dict[str, int] = {}
        finalizers: Counter[str] = Counter()
        failures: list[str] = []
        for resource in _contents():
            try:
                left = await self._empty(resource, name)
            except ApiError as error:
                failures.append(str(error))
                continue
            if left:
                remaining[f"{resource.plural}.{resource.group}"] = len(left)
                finalizers.update(finalizer for item in left for finalizer in item.metadata.finalizers)
        if not remaining and not failures:
            await self._finalize(namespace)
            return
        await self._report(namespace, _conditions(remaining, finalizers, failures))
        self._queue.add_after(name, _RECHECK)

    async def _empty(self, resource: Resource, namespace: str) -> list[_Item]:
        """Deletes all objects of a kind. Returns those that are still there."""
        # Also where a list shows none: the server then removes what it cannot read, which no list shows.
        await self._client.request("DELETE", resource.path(namespace))
        return await self._list(resource, namespace)

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


def _contents() -> list[Resource]:
    """Every kind that a namespace may hold, Pods last: their configuration goes while they stop. Both Event APIs show the
    same objects, so that the second finds nothing."""
    kinds = [r for r in scheme.RESOURCES if r.namespaced and "deletecollection" in r.verbs]
    return sorted(kinds, key=lambda resource: resource.plural == "pods")


def _conditions(remaining: dict[str, int], finalizers: Counter[str], failures: list[str]) -> list[NamespaceCondition]:
    def condition(type: str, status: bool, reason: str, message: str) -> NamespaceCondition:
        return NamespaceCondition(type=type, status=str(status), reason=reason, message=message)

    if failures:
        text = f"Failed to delete all resource types, {len(failures)} remaining: {', '.join(sorted(failures))}"
        content = condition("NamespaceDeletionContentFailure", True, "ContentDeletionFailed", text)
    else:
        text = "All content successfully deleted, may be waiting on finalization"
        content = condition("NamespaceDeletionContentFailure", False, "ContentDeleted", text)
    if remaining:
        counts = ", ".join(f"{kind} has {count} resource instances" for kind, count in sorted(remaining.items()))
        left = condition(
            "NamespaceContentRemaining", True, "SomeResourcesRemain", f"Some resources are remaining: {counts}"
        )
    else:
        left = condition("NamespaceContentRemaining", False, "ContentRemoved", "All content successfully removed")
    if finalizers:
        counts = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(finalizers.items()))
        text = f"Some content in the namespace has finalizers remaining: {counts}"
        held = condition("NamespaceFinalizersRemaining", True, "SomeFinalizersRemain", text)
    else:
        text = "All content-preserving finalizers finished"
        held = condition("NamespaceFinalizersRemaining", False, "ContentHasNoFinalizers", text)
    return [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            False,
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            False,
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        content,
        left,
        held,
    ]
