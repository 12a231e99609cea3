"""What a group of errors tells: a TaskGroup raises one, where its tasks failed one after the other."""

from __future__ import annotations


def first(error: BaseException) -> BaseException:
    """Return the error that a group holds first, in however many groups; the error itself if it is no group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
