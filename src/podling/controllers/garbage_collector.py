"""Objects go with their owners: metadata.ownerReferences and the three ways to delete an owner.

Background: dependents go after the owner. Foreground: the owner waits for those that block it. Orphan: dependents lose
the reference and stay. Source: Kubernetes documentation, "Garbage Collection" and "Owners and Dependents".
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from functools import partial
from typing import Any

from msgspec import Struct

from podling.api import codec, scheme
from podling.api.core.v1 import Endpoints, Event, Namespace, Node, Pod, Service
from podling.api.meta.v1 import ObjectMeta, OwnerReference, PartialObjectMetadata
from podling.api.scheme import Resource
from podling.api.status import ApiError
from podling.client.client import Client, EventType
from podling.client.informer import Informer, InformerSet
from podling.controllers.work_queue import WorkQueue

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"

_IN_FULL = (Pod, Node, Namespace, Service, Endpoints)
"""Kinds that other controllers watch anyway; of the others only the metadata is kept."""


class _Known(Struct):
    """One object in the graph."""

    resource: Resource
    meta: ObjectMeta

    def is_deleted(self, finalizer: str) -> bool:
        """Whether its deletion is held by this finalizer."""
        return bool(self.meta.deletion_timestamp) and finalizer in self.meta.finalizers


class GarbageCollector:
    """Keeps the graph of all objects by their uids and tidies up after every change of it."""

    def __init__(self, client: Client, informers: InformerSet) -> None:
        self._client = client
        self._known: dict[str, _Known] = {}
        self._dependents: defaultdict[str, set[str]] = defaultdict(set)
        """Owner's uid to those of its dependents, whether the owner is known or not."""
        self._informers: list[Informer[Any]] = []
        self._synced = False
        self._dependent_queue: WorkQueue[str] = WorkQueue("garbage", self._sync_dependent, workers=4)
        self._owner_queue: WorkQueue[str] = WorkQueue("deleted owners", self._sync_owner, workers=2)
        for resource in _collected():
            informer: Informer[Any]
            if resource.type in _IN_FULL:
                informer = informers.of(resource.type)
            else:
                informer = informers.of(PartialObjectMetadata, resource=resource)
            informer.add_handler(partial(self._on_change, resource))
            self._informers.append(informer)

    async def run(self) -> None:
        for informer in self._informers:
            await informer.synced()
        # Only now is an owner that is not in the graph likely to be none at all.
        self._synced = True
        for uid in list(self._known):
            self._consider(uid)
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._dependent_queue.run())
            tasks.create_task(self._owner_queue.run())

    # -- the graph

    def _on_change(self, resource: Resource, type: EventType, obj: Any, old: Any) -> None:
        meta: ObjectMeta = obj.metadata
        if type is EventType.DELETED:
            self._remove(meta)
            return
        before = self._known.get(meta.uid)
        if before is not None:
            self._unlink(before.meta, meta)
        self._known[meta.uid] = _Known(resource, meta)
        for reference in meta.owner_references:
            self._dependents[reference.uid].add(meta.uid)
        if self._synced:
            self._consider(meta.uid)

    def _remove(self, meta: ObjectMeta) -> None:
        known = self._known.pop(meta.uid, None)
        if known is not None:
            self._unlink(known.meta, None)
        for reference in meta.owner_references:
            if (owner := self._known.get(reference.uid)) is not None and owner.is_deleted(FOREGROUND):
                self._owner_queue.add(reference.uid)
        for dependent in self._dependents.get(meta.uid, ()):
            self._dependent_queue.add(dependent)

    def _unlink(self, before: ObjectMeta, now: ObjectMeta | None) -> None:
        kept = {reference.uid for reference in now.owner_references} if now is not None else set()
        for reference in before.owner_references:
            if reference.uid not in kept:
                dependents = self._dependents[reference.uid]
                dependents.discard(before.uid)
                if not dependents:
                    del self._dependents[reference.uid]
                elif reference.uid in self._known and self._known[reference.uid].is_deleted(FOREGROUND):
                    self._owner_queue.add(reference.uid)

    def _consider(self, uid: str) -> None:
        """Queues what a new or changed object calls for."""
        known = self._known[uid]
        if known.is_deleted(FOREGROUND) or known.is_deleted(ORPHAN):
            self._owner_queue.add(uid)
        for reference in known.meta.owner_references:
            owner = self._known.get(reference.uid)
            if owner is None or owner.is_deleted(FOREGROUND):
                self._dependent_queue.add(uid)

    # -- dependents

    async def _sync_dependent(self, uid: str) -> None:
        known = self._known.get(uid)
        if known is None or known.meta.deletion_timestamp:
            return
        gone: list[OwnerReference] = []
        going: list[OwnerReference] = []
        solid: list[OwnerReference] = []
        for reference in known.meta.owner_references:
            owner = self._known.get(reference.uid)
            if owner is not None:
                (going if owner.is_deleted(FOREGROUND) else solid).append(reference)
            elif await self._exists(reference, known.meta.namespace):
                solid.append(reference)
            else:
                gone.append(reference)
        if not gone and not going:
            return
        if solid:
            await self._keep_owners(known, solid)
        elif going and self._dependents.get(uid):
            await self._delete(known, "Foreground")
        else:
            finalizers = known.meta.finalizers
            policy = "Orphan" if ORPHAN in finalizers else "Foreground" if FOREGROUND in finalizers else "Background"
            await self._delete(known, policy)

    async def _exists(self, reference: OwnerReference, namespace: str) -> bool:
        """Asks the server, for the graph may be behind. Owners of kinds that are not served count as there."""
        group, _, version = reference.api_version.rpartition("/")
        resource = scheme.by_kind(group, version, reference.kind)
        if resource is None:
            return True
        if resource.namespaced and not namespace:
            return False
        try:
            answer = await self._client.request("GET", resource.path(namespace, reference.name))
        except ApiError as error:
            if error.code != 404:
                raise
            return False
        return codec.decode(PartialObjectMetadata, answer).metadata.uid == reference.uid

    async def _delete(self, known: _Known, policy: str) -> None:
        await self._tolerant(
            "DELETE",
            known,
            {
                "kind": "DeleteOptions",
                "apiVersion": "v1",
                "propagationPolicy": policy,
                "preconditions": {"uid": known.meta.uid},
            },
        )

    async def _keep_owners(self, known: _Known, kept: list[OwnerReference]) -> None:
        references = [codec.to_builtins(reference) for reference in kept]
        await self._patch(known, {"ownerReferences": references or None})

    # -- owners

    async def _sync_owner(self, uid: str) -> None:
        owner = self._known.get(uid)
        if owner is None:
            return
        dependents = [self._known[dependent] for dependent in self._dependents.get(uid, ())]
        if owner.is_deleted(ORPHAN):
            for dependent in dependents:
                kept = [reference for reference in dependent.meta.owner_references if reference.uid != uid]
                await self._keep_owners(dependent, kept)
            await self._remove_finalizer(owner, ORPHAN)
        elif owner.is_deleted(FOREGROUND):
            for dependent in dependents:
                self._dependent_queue.add(dependent.meta.uid)
            if all(self._waits_for(blocker, uid) for blocker in self._blockers(uid)):
                await self._remove_finalizer(owner, FOREGROUND)

    def _blockers(self, uid: str) -> list[str]:
        """Return the uids of the dependents that the owner has to wait for."""
        return [
            dependent
            for dependent in self._dependents.get(uid, ())
            if any(r.uid == uid and r.block_owner_deletion for r in self._known[dependent].meta.owner_references)
        ]

    def _waits_for(self, uid: str, owner: str) -> bool:
        """Whether the object, deleted in the foreground itself, waits for the owner, if only through others.

        Then the two are in a circle in which each would wait for ever, and the owner may go first.
        """
        seen: set[str] = set()
        pending = [uid]
        while pending:
            current = pending.pop()
            if current == owner:
                return True
            if current not in seen and self._known[current].is_deleted(FOREGROUND):
                seen.add(current)
                pending += self._blockers(current)
        return False

    async def _remove_finalizer(self, known: _Known, finalizer: str) -> None:
        finalizers = [item for item in known.meta.finalizers if item != finalizer]
        await self._patch(known, {"finalizers": finalizers or None})

    async def _patch(self, known: _Known, change: dict[str, Any]) -> None:
        meta = known.meta
        patch = {"metadata": {"uid": meta.uid, "resourceVersion": meta.resource_version, **change}}
        await self._tolerant("PATCH", known, patch, content_type="application/merge-patch+json")

    async def _tolerant(self, method: str, known: _Known, body: object, **options: str) -> None:
        """A request about an object that may be gone meanwhile."""
        path = known.resource.path(known.meta.namespace, known.meta.name)
        try:
            await self._client.request(method, path, body=codec.encode(body), **options)
        except ApiError as error:
            if error.code != 404:
                raise


def _collected() -> list[Resource]:
    """Every kind that may own or be owned. Events are not: there are many, and they pass by themselves."""
    event = scheme.by_type(Event).plural
    return [r for r in scheme.RESOURCES if {"list", "watch", "delete"} <= set(r.verbs) and r.plural != event]
