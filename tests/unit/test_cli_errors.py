"""The line that a command ends with when it fails."""

from __future__ import annotations

import errno

import pytest

from podling.cli.errors import CommandError, one_line
from podling.runtime.protocol import CRIError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (CommandError("no cluster\n in /x"), "no cluster in /x"),
        (CRIError("Reason", "a sentence"), "a sentence"),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "/a/file"), "/a/file: Not a directory"),
        (ExceptionGroup("tasks", [ExceptionGroup("more", [OSError(errno.EIO, "I/O error", "/d")])]), "/d: I/O error"),
        (KeyError("x"), "an unexpected error, please report it with what -v shows: KeyError: 'x'"),
    ],
)
def test_an_error_of_any_kind_is_told_in_one_line(error: Exception, text: str) -> None:
    assert one_line(error) == text
