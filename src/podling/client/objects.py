"""What the client needs to know of an API object, whatever its kind."""

from __future__ import annotations

from typing import Protocol

from podling.api.meta.v1 import ObjectMeta


class Object(Protocol):
    """A top-level object: every struct that `podling.api.scheme` names as the type of a resource is one."""

    api_version: str
    kind: str
    metadata: ObjectMeta
