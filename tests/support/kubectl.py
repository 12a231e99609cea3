"""What kubectl prints: the cells of its tables, and the words of a command that fails."""

from __future__ import annotations

import re

from tests.support.cluster import Cluster


def columns(text: str) -> list[list[str]]:
    """The cells of a table, its head included; columns are at least two blanks apart, or three."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def error(cluster: Cluster, *argv: str, stdin: str | None = None) -> str:
    """What a command that fails says."""
    done = cluster.try_kubectl(*argv, stdin=stdin)
    assert done.returncode == 1, done.stdout + done.stderr
    return done.stderr.strip()
