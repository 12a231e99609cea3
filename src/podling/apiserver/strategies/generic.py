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


class Returned(Strategy[Any]):
    """DELETE answers with the object."""

    returns_deleted = True
