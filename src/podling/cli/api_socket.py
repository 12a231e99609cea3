"""The API server's unix socket, for commands: a few blocking requests, without the weight of the asynchronous client."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from podling.cli.errors import CommandError
from podling.kit import document_error


class NobodyListens(CommandError):
    """There is no server at the socket, or not yet."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def get(path: Path, url: str, timeout: float = 10.0) -> Any:
    """The JSON document at `url`. Raises CommandError where no answer comes, or one that is an error."""
    with _told(path, timeout), _answer(path, url, timeout) as answer:
        return json.loads(answer.read())


def check(path: Path, url: str, timeout: float = 10.0) -> str:
    """The text at `url`, whether the server says that all is well or not. Raises CommandError where no answer comes."""
    with _told(path, timeout), _answer(path, url, timeout, accept=(200, 500)) as answer:
        return answer.read().decode(errors="replace")


def watch(path: Path, url: str, timeout: float) -> Iterator[Any]:
    """The watch events of `url`; ends, or raises TimeoutError, after `timeout` seconds, and ends when the server does."""
    with _answer(path, url, timeout) as answer, contextlib.suppress(ConnectionError, http.client.HTTPException):
        for line in answer:
            if line.endswith(b"\n"):  # a server that dies breaks off anywhere
                yield json.loads(line)


def _answer(path: Path, url: str, timeout: float, accept: tuple[int, ...] = (200,)) -> http.client.HTTPResponse:
    connection = _Connection(path, timeout)
    with _told(path, timeout):
        connection.request("GET", url)
        answer = connection.getresponse()
        if answer.status not in accept:
            details = answer.read().decode(errors="replace")
            raise CommandError(f"the API server answers {answer.status} to {url}", details)
    return answer


@contextlib.contextmanager
def _told(path: Path, timeout: float) -> Iterator[None]:
    """Raises CommandError for what goes wrong in the exchange."""
    try:
        yield
    except TimeoutError:
        raise CommandError(f"the API server does not answer within {timeout:g} s") from None
    except OSError as error:
        kind = NobodyListens if isinstance(error, (ConnectionRefusedError, FileNotFoundError)) else CommandError
        raise kind(f"the API server does not answer at {path}: {error.strerror or error}") from None
    except http.client.IncompleteRead:
        raise CommandError(f"the answer of the API server at {path} broke off") from None
    except http.client.HTTPException:
        raise CommandError(f"what answers at {path} is not an API server: it does not speak HTTP") from None
    except ValueError as error:
        raise CommandError(f"what answers at {path} is not an API server: {document_error.reason(error)}") from None
