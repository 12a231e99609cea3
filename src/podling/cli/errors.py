"""How a command says that it failed."""

from __future__ import annotations


class CommandError(Exception):
    """One line for people: what is wrong and what to do about it. `details` are shown with -v."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details
