"""What is wrong with a patch."""

from __future__ import annotations

BAD_REQUEST = 400
UNPROCESSABLE = 422
INTERNAL = 500


class PatchError(Exception):
    """A patch cannot be applied. `code` is the HTTP status that upstream answers with."""

    def __init__(self, message: str, code: int = BAD_REQUEST) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
