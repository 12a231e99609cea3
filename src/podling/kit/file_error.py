"""Errors of the operating system in words, for people: no error number, and never without the file."""

from __future__ import annotations

import errno
import os
from typing import Final

from podling.kit import document_error

_REMEDIES: Final = {
    errno.ENOSPC: "free space on its file system",
    errno.EDQUOT: "free space or raise the quota of its file system",
    errno.EROFS: "mount its file system so that it can be written to",
    errno.EMFILE: "raise the limit of open files of the process (LimitNOFILE)",
    errno.ENFILE: "raise the limit of open files of the machine (fs.file-max)",
}


def reason(error: BaseException, path: str | os.PathLike[str] | None = None) -> str:
    """Return which file the system refused, why, and what to do where that is known.

    Of errors that are not the system's it returns what document_error says.

    `path` is what the error is about where it does not say so itself, as those of reads and writes.
    """
    if not isinstance(error, OSError):
        return document_error.reason(error)
    text = error.strerror or "".join(str(part) for part in error.args[-1:]) or type(error).__name__
    if remedy := _REMEDIES.get(error.errno or 0):
        text = f"{text} ({remedy})"
    name = error.filename if isinstance(error.filename, str | bytes | os.PathLike) else path
    return text if name is None else f"{os.fsdecode(name)}: {text}"
