"""Small variations of the generic strategy."""

from __future__ import annotations

from typing import Any

from podling.apiserver.strategy import Strategy


class Counted(Strategy[Any]):
    """With metadata.generation."""

    counts_generation = True


class CreatedOnUpdate(Strategy[Any]):
    """PUT creates what does not exist."""

    create_on_update = True


class CreatedWithStatus(Strategy[Any]):
    """The status given at creation counts: a kubelet registers its Node ready for Pods."""

    def prepare_for_create(self, obj: Any) -> None:
        status = obj.status
        super().prepare_for_create(obj)
        obj.status = status


class Returned(Strategy[Any]):
    """DELETE answers with the object."""

    returns_deleted = True
