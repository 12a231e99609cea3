"""$(VAR) references in command, args and environment values.

Source: Kubernetes API reference, Container.command: "$(VAR_NAME)" expands from the container's environment, "$$" stands
for one "$", and a reference that cannot be resolved stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

_TOKEN = re.compile(r"\$(?:\$|\(([^)]*)\))")


def expand(text: str, env: Mapping[str, str]) -> str:
    """`text` with its references to `env` replaced."""
    if "$" not in text:
        return text

    def replace(match: re.Match[str]) -> str:
        name = match.group(1)
        if name is None:
            return "$"
        return env.get(name, match.group(0))

    return _TOKEN.sub(replace, text)
