"""What the manager runs."""

from __future__ import annotations

from typing import Protocol


class Controller(Protocol):
    """Brings one aspect of the cluster in line with what is wanted. Handlers are added when it is made; `run` works until
    cancelled."""

    async def run(self) -> None: ...
