"""Fixtures of several files here."""

from __future__ import annotations

from tests.support.bridge import node, outside

__all__ = ["node", "outside"]
