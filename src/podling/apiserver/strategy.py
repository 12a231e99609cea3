"""What makes one resource differ from another when its objects are created, updated and deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, cast

from podling.api import status, validation
from podling.api.field import FieldError
from podling.api.meta.v1 import DeleteOptions, ObjectMeta
from podling.api.scheme import Resource


class ApiObject(Protocol):
    """A top-level object of any kind."""

    api_version: str
    kind: str
    metadata: ObjectMeta


T = TypeVar("T", bound=ApiObject)
Undo = Callable[[], None]


def nothing() -> None:
    """The undo of what had no side effect."""


class Strategy(Generic[T]):
    """The generic behaviour; a file in strategies/ for each kind that needs another."""

    create_on_update = False
    """PUT of an object that does not exist creates it."""
    unconditional_update = True
    """An update without a resourceVersion replaces whatever is there."""
    counts_generation = False
    """metadata.generation starts at 1 and grows when anything but metadata and status changes."""
    returns_deleted = False
    """DELETE answers with the deleted object instead of a Status."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource

    def prepare_for_create(self, obj: T) -> None:
        """Clears what clients may not set."""
        _reset_status(obj)
        if self.counts_generation:
            obj.metadata.generation = 1

    def prepare_for_update(self, obj: T, old: T) -> None:
        """Keeps of `old` what this endpoint does not change."""
        new: Any = obj
        if hasattr(new, "status"):
            new.status = cast(Any, old).status
        if self.counts_generation and self.specification(obj) != self.specification(old):
            obj.metadata.generation = old.metadata.generation + 1

    def prepare_for_status_update(self, obj: T, old: T) -> None:
        """The counterpart for the status subresource: everything but the status and soft metadata is kept."""
        for attribute in cast(Any, obj).__struct_fields__:
            if attribute not in ("status", "metadata"):
                setattr(obj, attribute, getattr(old, attribute))

    def precondition_failed(self, name: str, what: str, wanted: str, found: str) -> status.ApiError:
        """Return the refusal of a deletion that was meant for another UID or ResourceVersion."""
        happened = "deleted and then recreated" if what == "UID" else "modified"
        text = (
            f"the {what} in the precondition ({wanted}) does not match the {what} in record ({found}). "
            f"The object might have been {happened}"
        )
        return status.conflict(self.resource.qualified_kind, name, text)

    def specification(self, obj: T) -> object:
        """What metadata.generation counts changes of."""
        return getattr(obj, "spec", None)

    def validate(self, obj: T) -> list[FieldError]:
        return validation.validate_create(obj)

    def validate_update(self, obj: T, old: T) -> list[FieldError]:
        return validation.validate_update(obj, old)

    def validate_status_update(self, obj: T, old: T) -> list[FieldError]:
        return validation.validate_status_update(obj, old)

    def warnings(self, obj: T) -> list[str]:
        """What to warn the creator of."""
        return validation.warnings(obj)

    def shortcomings(self, obj: T) -> list[str]:
        """Return what to warn the creator of once the object is stored: what Podling does not do for it yet."""
        return []

    def begin_create(self, obj: T) -> Undo:
        """Takes what the object needs beside its own record; what is returned gives it back if the write fails."""
        return nothing

    def begin_update(self, obj: T, old: T) -> Undo:
        """As begin_create, for an update."""
        return nothing

    def after_update(self, obj: T, old: T) -> None:
        """Gives back what the object no longer needs."""

    def after_delete(self, obj: T) -> None:
        """Gives back what begin_create took."""

    def check_graceful_delete(self, obj: T, options: DeleteOptions) -> bool:
        """Whether the object is deleted in two steps; if so, sets options.grace_period_seconds."""
        return False

    def uses_reserve(self, obj: T, subresource: str) -> bool:
        """Whether an update may use the disk space that is kept for deletions: it is a step of one."""
        return bool(obj.metadata.deletion_timestamp)

    def is_held(self, obj: T) -> bool:
        """Whether finalizers keep a deleted object from going."""
        return bool(obj.metadata.finalizers)

    def mark_deleting(self, obj: T) -> None:
        """Changes the object beyond its metadata when its deletion begins."""


def _reset_status(obj: Any) -> None:
    if hasattr(obj, "status"):
        obj.status = type(obj.status)()
