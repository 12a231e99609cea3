"""The line that a command ends with when it fails."""

from __future__ import annotations

import errno
import socket
import threading
from pathlib import Path

import pytest

from podling.cli import api_socket
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


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"garbage\r\n\r\n", "what answers at {} is not an API server: it does not speak HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "the answer of the API server at {} broke off"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{",
            "what answers at {} is not an API server: it is not valid JSON: ",
        ),
        (b"", "the API server does not answer at {}: Remote end closed connection without response"),
    ],
)
def test_what_is_not_an_api_server_is_named(tmp_path: Path, answer: bytes, text: str) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(CommandError) as caught:
            api_socket.get(path, "/version")
        thread.join()
    assert str(caught.value).startswith(text.format(path))
