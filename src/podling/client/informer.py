"""Informers: a local cache of one kind, kept true by list and watch, and the handlers that hear of every change."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from podling.api import codec, scheme
from podling.api.scheme import Resource
from podling.api.status import ApiError
from podling.client.backoff import Backoff
from podling.client.client import Client, ConnectionFailed, EventType
from podling.client.objects import Object

log = logging.getLogger(__name__)

T = TypeVar("T", bound=Object)

Handler = Callable[[EventType, T, T | None], None]
"""Called with what happened, the object as it is now (for DELETED: as it was last), and what the cache held before."""

_PAGE = 500
_NAMED = 5
"""Objects that cannot be read, of which the log tells at most; the server's own log names all."""
_SHORT_WATCH = 1.0
"""Seconds; a watch that ends sooner did not really work, and the next one waits."""


class Informer(Generic[T]):
    """The objects of one kind, in one namespace or in all, that match the selectors.

    With `resource`, `type` may be one that holds less of each object than the scheme's (its metadata, say).

    Objects handed out are shared: never change them, copy them first (`copy.replace`, `msgspec.structs.replace`).
    After any interruption handlers see exactly the difference, once each: what vanished in between, then what came and
    changed, in the order in which the objects were created.
    """

    def __init__(
        self,
        client: Client,
        type: type[T],
        namespace: str = "",
        *,
        field_selector: str = "",
        label_selector: str = "",
        resource: Resource | None = None,
    ) -> None:
        self.type = type
        self.resource = resource or scheme.by_type(type)
        self._client = client
        self._namespace = namespace
        self._field_selector = field_selector
        self._label_selector = label_selector
        self._objects: dict[tuple[str, str], T] = {}
        self._handlers: list[Handler[T]] = []
        self._resource_version = ""
        self._synced = asyncio.Event()
        self._complaint = ""

    def add_handler(self, on_event: Handler[T]) -> None:
        """Handlers are called in the order they were added. What is known already is announced as ADDED at once."""
        self._handlers.append(on_event)
        for obj in list(self._objects.values()):
            self._call(on_event, EventType.ADDED, obj, None)

    async def synced(self) -> None:
        """Returns once the first list is in the cache."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    def get(self, namespace: str, name: str) -> T | None:
        """`namespace` is "" for kinds without namespaces."""
        return self._objects.get((namespace, name))

    def list(self, namespace: str = "") -> list[T]:
        """Everything known, or everything known in one namespace."""
        if not namespace:
            return list(self._objects.values())
        return [obj for key, obj in self._objects.items() if key[0] == namespace]

    def __len__(self) -> int:
        return len(self._objects)

    def forget_history(self) -> None:
        """The next attempt lists anew, as when the server's history does not reach back far enough."""
        self._resource_version = ""

    async def run(self) -> None:
        """Lists and watches until cancelled. Outlasts everything that the server does or does not do."""
        backoff = Backoff()
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            try:
                if not self._resource_version:
                    await self._relist()
                await self._watch()
                self._complaint = ""
            except ConnectionFailed:
                pass  # The client logs it, once for all its users.
            except ApiError as error:
                # 504, "Too large resource version": the server's data went back in time (restored from a copy).
                if error.code in (410, 504):
                    self.forget_history()
                if error.code != 410:
                    self._complain(str(error))
            except codec.DecodeError as error:
                # An object that is not of this type (from another server, of another version). The next list leaves it
                # out, and the watch goes on from there.
                self.forget_history()
                self._complain(str(error))
            if loop.time() - started > _SHORT_WATCH:
                backoff.reset()
            await self._client.recovered(backoff.next())

    async def _relist(self) -> None:
        fresh: dict[tuple[str, str], T] = {}
        unreadable: list[str] = []
        token = version = ""
        while True:
            page = await self._client.list(
                self.type,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=_PAGE,
                continue_token=token,
                resource=self.resource,
            )
            for obj in page.items:
                fresh[_key(obj)] = obj
            unreadable += page.unreadable
            version = page.resource_version
            token = page.continue_token
            if not token:
                break
        if unreadable:
            self._complain("left out " + "; ".join(unreadable[:_NAMED]))
        for key in [key for key in self._objects if key not in fresh]:
            gone = self._objects.pop(key)
            self._dispatch(EventType.DELETED, gone, gone)
        for key, obj in sorted(fresh.items(), key=lambda item: item[1].metadata.creation_timestamp):
            old = self._objects.get(key)
            if old is None:
                self._objects[key] = obj
                self._dispatch(EventType.ADDED, obj, None)
            elif old.metadata.uid != obj.metadata.uid:
                # Deleted and made anew in between: two objects, two events.
                del self._objects[key]
                self._dispatch(EventType.DELETED, old, old)
                self._objects[key] = obj
                self._dispatch(EventType.ADDED, obj, None)
            elif old.metadata.resource_version != obj.metadata.resource_version:
                self._objects[key] = obj
                self._dispatch(EventType.MODIFIED, obj, old)
        self._resource_version = version
        self._synced.set()

    async def _watch(self) -> None:
        events = self._client.watch(
            self.type,
            self._namespace,
            resource_version=self._resource_version,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            resource=self.resource,
        )
        async with contextlib.aclosing(events):
            async for event in events:
                obj = event.object
                self._resource_version = obj.metadata.resource_version
                if event.type is EventType.BOOKMARK:
                    continue
                key = _key(obj)
                if event.type is EventType.DELETED:
                    self._dispatch(EventType.DELETED, obj, self._objects.pop(key, None))
                    continue
                old = self._objects.get(key)
                self._objects[key] = obj
                self._dispatch(EventType.ADDED if old is None else EventType.MODIFIED, obj, old)

    def _dispatch(self, type: EventType, obj: T, old: T | None) -> None:
        for handler in self._handlers:
            self._call(handler, type, obj, old)

    def _call(self, handler: Handler[T], type: EventType, obj: T, old: T | None) -> None:
        try:
            handler(type, obj, old)
        except Exception:
            # One wrong handler must not cost the others their events.
            log.exception("a handler failed on %s %s %s", type, self.resource.kind, "/".join(_key(obj)))

    def _complain(self, text: str) -> None:
        if text != self._complaint:
            self._complaint = text
            log.warning("cannot list and watch %s: %s", self.resource.plural, text)


class InformerSet:
    """Informers shared by the parts of one process: one cache and one watch a kind, whoever asks for it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._informers: dict[tuple[object, ...], Informer[Any]] = {}
        self._tasks: asyncio.TaskGroup | None = None

    def of(
        self,
        type: type[T],
        namespace: str = "",
        *,
        field_selector: str = "",
        label_selector: str = "",
        resource: Resource | None = None,
    ) -> Informer[T]:
        """The informer of the objects of this kind that match. It runs as soon as the set does."""
        key = (type, resource and resource.key_prefix, namespace, field_selector, label_selector)
        informer = self._informers.get(key)
        if informer is None:
            informer = self._informers[key] = Informer(
                self.client,
                type,
                namespace,
                field_selector=field_selector,
                label_selector=label_selector,
                resource=resource,
            )
            if self._tasks is not None:
                self._tasks.create_task(informer.run(), name=f"informer {informer.resource.plural}")
        return informer

    async def run(self) -> None:
        """Runs every informer asked for, now and later, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            try:
                for informer in list(self._informers.values()):
                    tasks.create_task(informer.run(), name=f"informer {informer.resource.plural}")
                await asyncio.get_running_loop().create_future()
            finally:
                self._tasks = None

    async def synced(self) -> None:
        """Returns once every informer asked for so far has its first list."""
        for informer in list(self._informers.values()):
            await informer.synced()


def _key(obj: Object) -> tuple[str, str]:
    return obj.metadata.namespace, obj.metadata.name
