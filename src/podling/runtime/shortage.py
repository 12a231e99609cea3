"""Errors of a machine that is short of something for the moment."""

from __future__ import annotations

import errno

_PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS})


def passes(error: OSError) -> bool:
    """Return whether the same call may well succeed a moment later.

    A full disk (ENOSPC) or a damaged one (EIO) is not among these: what waited for that might wait for ever.
    """
    return error.errno in _PASSING
