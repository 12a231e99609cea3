"""The cause in an exception group, which TaskGroup raises also for a single error."""

from __future__ import annotations


def first(error: BaseException) -> BaseException:
    """Return the first error of a group, or of the groups nested in it. Return any other error itself."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
