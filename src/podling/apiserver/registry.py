"""The objects of one resource: reading, creating, updating and deleting them by upstream's generic rules.

Values are encoded once, by the store's callback, with their own resourceVersion; what was stored is what is returned.
"""

from __future__ import annotations

import contextlib
import logging
import random
import uuid
from collections.abc import Callable
from typing import Generic, TypeVar, cast

import msgspec
from msgspec import Struct

from podling.api import codec, field, go, status, time
from podling.api.field import FieldError
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.api.scheme import Resource
from podling.apiserver import offload, unreadable
from podling.apiserver.admission.chain import Chain, Operation, Review
from podling.apiserver.deletion import begin_deletion, goes_with_update
from podling.apiserver.strategy import ApiObject, Strategy
from podling.apiserver.user import User
from podling.kit.time_slice import TimeSlice
from podling.store.protocol import Conflict, Entry, KeyExists, KeyNotFound, Store

log = logging.getLogger(__name__)

T = TypeVar("T", bound=ApiObject)

_NAME_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
_NAME_SUFFIX = 5
_MAX_GENERATED_PREFIX = 63 - _NAME_SUFFIX
_GENERATE_ATTEMPTS = 8
_CONFLICT_RETRIES = 5


class Caller(Struct, frozen=True):
    """On whose behalf, and whether for real."""

    user: User
    warnings: list[str] = msgspec.field(default_factory=list)
    """Takes what the user is to be warned of."""
    dry_run: bool = False
    large: bool = False
    """What is asked for, or what it changes, is large enough to be judged in a thread."""


class Result(Struct, frozen=True):
    value: bytes
    """The object as stored (or as it would be, for a dry run)."""
    created: bool = False
    deleted: bool = False


class Encoder(Generic[T]):
    """The store's Encode callback for an object; keeps what it made."""

    __slots__ = ("obj", "value")

    def __init__(self, obj: T) -> None:
        self.obj = obj
        self.value = b""

    def __call__(self, revision: int) -> bytes:
        """Raise ApiError (500) for an object that could not be read back; such an object is never stored."""
        self.obj.metadata.resource_version = str(revision)
        self.value = codec.encode(self.obj)
        try:
            codec.decode_exact(type(self.obj), self.value)
        except codec.DecodeError as error:
            what = f"{self.obj.kind} {go.quote(self.obj.metadata.name)}"
            raise status.internal(f"{what} is not stored, for it could not be read back: {error}") from error
        return self.value


class Registry(Generic[T]):
    def __init__(self, strategy: Strategy[T], store: Store, admission: Chain) -> None:
        self.strategy = strategy
        self.resource: Resource = strategy.resource
        self.store = store
        self._admission = admission

    def key(self, namespace: str, name: str) -> str:
        return self.resource.key(namespace, name)

    def prefix(self, namespace: str = "") -> str:
        """What the keys of the resource (in a namespace) start with."""
        base = self.resource.key_prefix
        return f"{base}{namespace}/" if namespace and self.resource.namespaced else base

    def decode(self, value: bytes) -> T:
        return cast(T, codec.decode(self.resource.type, value))

    def entry(self, namespace: str, name: str) -> Entry:
        """Raises ApiError (404, 500)."""
        key = self.key(namespace, name)
        entry = self.store.get(key)
        if entry is None:
            raise self.not_found(name) if key not in self.store.unreadable else self.unreadable_error(namespace, name)
        return entry

    def unreadable_error(self, namespace: str, name: str) -> status.ApiError:
        text = unreadable.describe(self.resource, namespace, name, self.store.unreadable[self.key(namespace, name)])
        return status.storage_read_error(self.resource, name, text)

    def find(self, namespace: str, name: str) -> T | None:
        entry = self.store.get(self.key(namespace, name))
        return None if entry is None else self.decode(entry.value)

    def get(self, namespace: str, name: str) -> T:
        """Raises ApiError (404)."""
        return self.decode(self.entry(namespace, name).value)

    async def list_all(self, namespace: str = "") -> list[T]:
        page = await self.store.list(self.prefix(namespace))
        found, time_slice = [], TimeSlice()
        for entry in page.entries:
            found.append(self.decode(entry.value))
            if time_slice.over:
                await time_slice.next()
        return found

    async def admit(
        self,
        operation: Operation,
        caller: Caller,
        *,
        namespace: str,
        name: str,
        obj: object = None,
        old: T | None = None,
        subresource: str = "",
    ) -> None:
        """Asks the admission plugins; they may change `obj`, the object to be written or a subresource's. Raises ApiError."""
        review = Review(
            operation=operation,
            resource=self.resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
            obj=obj,
            old=old,
            user=caller.user,
            dry_run=caller.dry_run,
        )
        await self._admission.admit(review)

    def not_found(self, name: str) -> status.ApiError:
        return status.not_found(self.resource, name)

    async def create(self, obj: T, namespace: str, caller: Caller) -> Result:
        """Creates the object, which must have its defaults. Raises ApiError."""
        metadata = obj.metadata
        metadata.namespace = namespace if self.resource.namespaced else ""
        await self.admit(Operation.CREATE, caller, obj=obj, namespace=metadata.namespace, name=metadata.name)
        generated = bool(metadata.generate_name) and not metadata.name
        _fill_new(metadata)
        await offload.run(caller.large, self.strategy.prepare_for_create, obj)
        for attempt in range(_GENERATE_ATTEMPTS):
            if generated:
                metadata.name = _generate_name(metadata.generate_name)
            if attempt == 0:
                await offload.run(caller.large, self._reject, obj, self.strategy.validate)
                caller.warnings.extend(await offload.run(caller.large, self.strategy.warnings, obj))
            key = self.key(namespace, metadata.name)
            undo = self.strategy.begin_create(obj)
            try:
                if caller.dry_run:
                    if self.store.get(key) is not None:
                        raise KeyExists(key)
                    result = Result(codec.encode(obj), created=True)
                    undo()
                    return result
                _check_unset(metadata.resource_version)
                encoder = Encoder(obj)
                await self.store.create(key, encoder)
                caller.warnings.extend(self.strategy.shortcomings(obj))
                return Result(encoder.value, created=True)
            except KeyExists:
                undo()
                if not generated:
                    raise status.already_exists(self.resource, metadata.name) from None
            except Exception:  # not cancellation: the write may still succeed
                undo()
                raise
        raise status.generate_name_conflict(self.resource, metadata.name)

    async def update(
        self,
        namespace: str,
        name: str,
        change: Callable[[Entry], T],
        caller: Caller,
        *,
        subresource: str = "",
        retry: bool = False,
        create: Callable[[], T] | None = None,
    ) -> Result:
        """Replaces the object by what `change` makes of the stored entry; it is called again after a lost race.

        retry: a lost race is tried again even where the change is tied to a resourceVersion (patches).
        create: makes the object where none exists and the resource allows that. Raises ApiError.
        """
        key = self.key(namespace, name)
        lost = 0
        while True:
            may_create = create is not None and self.strategy.create_on_update and not subresource
            if create is not None and may_create and self.store.get(key) is None and key not in self.store.unreadable:
                return await self.create(create(), namespace, caller)
            entry = self.entry(namespace, name)
            if offload.is_large(entry.value):
                caller = msgspec.structs.replace(caller, large=True)
            old = await offload.run(caller.large, self.decode, entry.value)
            new = await offload.run(caller.large, change, entry)
            unconditional = self._check_version(new, entry, name)
            new.metadata.resource_version = str(entry.revision)
            undo = await self._prepare_update(new, old, subresource, caller)
            try:
                same = codec.encode(new) == entry.value
                gone = goes_with_update(self.strategy, new)
                if caller.dry_run or (same and not gone):
                    result = Result(entry.value if same else codec.encode(new), deleted=gone)
                    undo()
                    return result
                encoder = Encoder(new)
                if gone:
                    deleted = await self.store.delete(key, encoder, expected=entry.revision)
                    self.strategy.after_delete(new)
                    return Result(deleted.value, deleted=True)
                reserve = self.strategy.uses_reserve(new, subresource)
                await self.store.update(key, encoder, expected=entry.revision, from_reserve=reserve)
                self.strategy.after_update(new, old)
                return Result(encoder.value)
            except Conflict:
                undo()
                lost += 1
                if not (unconditional or (retry and lost <= _CONFLICT_RETRIES)):
                    raise status.conflict(self.resource, name) from None
            except KeyNotFound:
                undo()
            except Exception:  # not cancellation: the write may still succeed
                undo()
                raise

    async def modify(self, namespace: str, name: str, change: Callable[[T], None], caller: Caller) -> Result:
        """Changes the stored object in place, past strategy and admission; lost races are tried again.

        What `change` raises ends the attempt. Raises ApiError (404)."""
        while True:
            entry = self.entry(namespace, name)
            obj = await offload.run(offload.is_large(entry.value), self.decode, entry.value)
            change(obj)
            if caller.dry_run:
                return Result(codec.encode(obj))
            encoder = Encoder(obj)
            try:
                if goes_with_update(self.strategy, obj):
                    deleted = await self.store.delete(entry.key, encoder, expected=entry.revision)
                    self.strategy.after_delete(obj)
                    return Result(deleted.value, deleted=True)
                reserve = self.strategy.uses_reserve(obj, "")
                await self.store.update(entry.key, encoder, expected=entry.revision, from_reserve=reserve)
                return Result(encoder.value)
            except Conflict:
                continue
            except KeyNotFound:
                raise self.not_found(name) from None

    async def delete(self, namespace: str, name: str, options: DeleteOptions, caller: Caller) -> Result:
        """Deletes the object, or begins its deletion. Raises ApiError."""
        await self.admit(Operation.DELETE, caller, namespace=namespace, name=name)
        key = self.key(namespace, name)
        while True:
            if key in self.store.unreadable:
                return await self._delete_unreadable(namespace, name, options, caller)
            entry = self.entry(namespace, name)
            obj = await offload.run(offload.is_large(entry.value), self.decode, entry.value)
            self._check_preconditions(obj, entry, options)
            # A copy: the grace period is computed anew if another write comes between.
            step = begin_deletion(self.strategy, obj, msgspec.structs.replace(options))
            if step.pending:
                return Result(entry.value)
            encoder = Encoder(obj)
            if caller.dry_run:
                return Result(codec.encode(obj), deleted=not step.keep)
            try:
                if step.keep:
                    if codec.encode(obj) == entry.value:
                        return Result(entry.value)
                    await self.store.update(key, encoder, expected=entry.revision, from_reserve=True)
                    return Result(encoder.value)
                deleted = await self.store.delete(key, encoder, expected=entry.revision)
            except Conflict:
                continue
            except KeyNotFound:
                raise self.not_found(name) from None
            self.strategy.after_delete(obj)
            return Result(deleted.value, deleted=True)

    async def _delete_unreadable(self, namespace: str, name: str, options: DeleteOptions, caller: Caller) -> Result:
        """Only by force: whatever would have had to be done before, nobody can tell any more. Raises ApiError."""
        if options.grace_period_seconds != 0:
            raise self.unreadable_error(namespace, name)
        key = self.key(namespace, name)
        entry = self.store.unreadable[key].entry
        obj = cast(T, self.resource.type())
        obj.metadata = ObjectMeta(
            name=name, namespace=namespace if self.resource.namespaced else "", uid=unreadable.uid(entry.value)
        )
        self._check_preconditions(obj, entry, options)
        encoder = Encoder(obj)
        if caller.dry_run:
            return Result(codec.encode(obj), deleted=True)
        try:
            deleted = await self.store.delete(key, encoder, expected=entry.revision)
        except (Conflict, KeyNotFound):  # another request was faster
            raise self.not_found(name) from None
        log.warning("removed the unreadable %s from the store", key)
        return Result(deleted.value, deleted=True)

    async def _prepare_update(self, new: T, old: T, subresource: str, caller: Caller) -> Callable[[], None]:
        _keep_identity(new.metadata, old.metadata, self.resource.namespaced)
        metadata = new.metadata
        await self.admit(
            Operation.UPDATE,
            caller,
            obj=new,
            old=old,
            subresource=subresource,
            namespace=metadata.namespace,
            name=metadata.name,
        )
        new.metadata.generation = old.metadata.generation
        if subresource == "status":
            await offload.run(caller.large, self.strategy.prepare_for_status_update, new, old)
            _keep_identity(new.metadata, old.metadata, self.resource.namespaced)
            await offload.run(caller.large, self._reject, new, self.strategy.validate_status_update, old)
            return _nothing
        await offload.run(caller.large, self.strategy.prepare_for_update, new, old)
        await offload.run(caller.large, self._reject, new, self.strategy.validate_update, old)
        return self.strategy.begin_update(new, old)

    def _check_version(self, new: T, entry: Entry, name: str) -> bool:
        """Whether the update is unconditional. Raises ApiError where it is made for another version."""
        version = new.metadata.resource_version
        if not version or version == "0":
            if not self.strategy.unconditional_update:
                error = field.invalid("metadata.resourceVersion", "0x0", "must be specified for an update")
                raise status.invalid(self.resource, name, [error])
            return True
        if version != str(entry.revision):
            raise status.conflict(self.resource, name)
        return False

    def _check_preconditions(self, obj: T, entry: Entry, options: DeleteOptions) -> None:
        wanted = options.preconditions
        if wanted is None:
            return
        name, uid, version = obj.metadata.name, obj.metadata.uid, str(entry.revision)
        if wanted.uid is not None and wanted.uid != uid:
            raise self.strategy.precondition_failed(name, "UID", wanted.uid, uid)
        if wanted.resource_version is not None and wanted.resource_version != version:
            raise self.strategy.precondition_failed(name, "ResourceVersion", wanted.resource_version, version)

    def _reject(self, obj: T, validate: Callable[..., list[FieldError]], *old: T) -> None:
        if errors := validate(obj, *old):
            raise status.invalid(self.resource, obj.metadata.name, errors)


def _nothing() -> None:
    pass


def _check_unset(version: str) -> None:
    """Refuse the version of a stored object. What could not be one means nothing, as upstream. Raises ApiError (500)."""
    if not version:
        return
    with contextlib.suppress(ValueError):
        if go.parse_uint(version):
            raise status.unexpected("resourceVersion should not be set on objects to be created")


def _fill_new(metadata: ObjectMeta) -> None:
    metadata.uid = str(uuid.uuid4())
    metadata.creation_timestamp = time.now()
    metadata.deletion_timestamp = ""
    metadata.deletion_grace_period_seconds = None
    metadata.managed_fields = []
    metadata.self_link = ""


def _keep_identity(new: ObjectMeta, old: ObjectMeta, namespaced: bool) -> None:
    """What a client may leave out of an update is taken over; deletion is never undone."""
    new.uid = new.uid or old.uid
    new.creation_timestamp = new.creation_timestamp or old.creation_timestamp
    if old.deletion_timestamp:
        new.deletion_timestamp = old.deletion_timestamp
    if old.deletion_grace_period_seconds is not None:
        new.deletion_grace_period_seconds = new.deletion_grace_period_seconds or old.deletion_grace_period_seconds
    new.namespace = new.namespace or old.namespace if namespaced else ""
    new.managed_fields = []
    new.self_link = ""


def _generate_name(base: str) -> str:
    return base[:_MAX_GENERATED_PREFIX] + "".join(random.choices(_NAME_ALPHABET, k=_NAME_SUFFIX))
