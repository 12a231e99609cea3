"""How a command says that it failed."""

from __future__ import annotations

from podling.kit import error_group, file_error


class CommandError(Exception):
    """One line for people: what is wrong and what to do about it. `details` are shown with -v."""

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


def one_line(error: BaseException) -> str:
    """Return the line that tells an error, of whatever kind, to the user of a command."""
    error = error_group.first(error)
    text = " ".join(file_error.reason(error).split())
    if isinstance(error, OSError | ValueError | TimeoutError) or type(error).__module__.startswith("podling."):
        return text
    return f"an unexpected error, please report it with what -v shows: {type(error).__name__}: {text}"
