"""The admission chain."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct

from podling.api import status
from podling.api.scheme import Resource
from podling.apiserver.user import User

Lookup = Callable[[type[Any], str, str], Any]
"""From type, namespace and name to the stored object, or None."""
ListAll = Callable[[type[Any]], Awaitable[list[Any]]]
"""Every stored object of a type."""


LookupSoon = Callable[[type[Any], str, str, float], Awaitable[Any]]
"""As Lookup, but waits so many seconds for the object to appear."""


class Operation(StrEnum):
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


class Review(Struct):
    """What is to be admitted. `obj` is the object as it will be stored (None for DELETE), plugins change it in place."""

    operation: Operation
    resource: Resource
    subresource: str
    namespace: str
    name: str
    obj: Any
    old: Any
    user: User
    dry_run: bool = False


class Plugin(Protocol):
    async def admit(self, review: Review) -> None:
        """Raises ApiError to refuse."""


class Chain:
    """Asks the plugins in order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self._plugins = tuple(plugins)

    async def admit(self, review: Review) -> None:
        for plugin in self._plugins:
            await plugin.admit(review)


def refuse(review: Review, reason: str) -> status.ApiError:
    """The error (403) of a plugin that does not admit an object."""
    name = review.name
    if not name and review.obj is not None:
        name = review.obj.metadata.generate_name
    return status.forbidden(review.resource, name, reason)
