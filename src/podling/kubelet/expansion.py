"""$(VAR) references in command, args and environment values.

Source: Kubernetes API reference, Container.command: "$(VAR_NAME)" expands from the container's environment, "$$" stands
for one "$", and a reference that cannot be resolved stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

MOST: Final = 6 << 20
"""Bytes of arguments and environment together that Linux passes to a program, whatever its limits (execve(2))."""

_TOKEN = re.compile(r"\$(?:\$|\(([^)]*)\))")


class TooLong(Exception):
    """The text would be longer than anything that a program can be given."""


def expand(text: str, env: Mapping[str, str], most: int = MOST) -> str:
    """Return `text` with its references to `env` replaced. Raises TooLong for more than `most` characters.

    A few kilobytes can ask for any number of gigabytes: each variable may refer twice to the one before it.
    """
    if "$" not in text:
        return text
    length = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal length
        name = match.group(1)
        value = "$" if name is None else env.get(name, match.group(0))
        length += len(value)
        if length > most:
            raise TooLong
        return value

    return _TOKEN.sub(replace, text)
