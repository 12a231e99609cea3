"""Tables of requests and of what upstream answers to them."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from tests.support.api import Answer, Api

REASONS = {
    400: "BadRequest",
    404: "NotFound",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    422: "Invalid",
}


class Row(NamedTuple):
    """A query, and the code and the whole message that it is answered with; what succeeds has no message."""

    query: str
    code: int = 200
    message: str = ""

    @property
    def answer(self) -> tuple[int, str, str]:
        """Code, reason and message."""
        return self.code, REASONS.get(self.code, ""), self.message


def rows(*table: Row) -> pytest.MarkDecorator:
    """Parametrize a test by `row`."""
    return pytest.mark.parametrize("row", table, ids=[row.query[:80] for row in table])


def told(answer: Answer) -> tuple[int, str, str]:
    """Code, reason and message of an answer."""
    refused = answer.code >= 400
    return answer.code, answer.json["reason"] if refused else "", answer.message if refused else ""


def begin(api: Api, path: str) -> Answer:
    """Return the answer to a GET; of a stream, that it has begun."""
    connection = api.open()
    connection.request("GET", path)
    response = connection.getresponse()
    answer = Answer(response.status, response.headers, b"" if response.status == 200 else response.read())
    response.close()
    connection.close()
    return answer
