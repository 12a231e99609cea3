"""Limit of JSON documents: two bytes of one stand for an object of many fields, or for a list that the collector looks at.

A body of 3 MB of nothing but brackets would take gigabytes of memory and a minute. Upstream has no such limit.
"""

from __future__ import annotations

import re

MAX_COLLECTIONS = 50_000
"""Objects and arrays in a document. A Pod with its defaults has dozens."""

_TEXT_OR_START = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]', re.DOTALL)


def check(document: bytes) -> None:
    """Raise ValueError for a document with more collections than MAX_COLLECTIONS."""
    if not may_exceed(document, MAX_COLLECTIONS):
        return
    found = 0
    for match in _TEXT_OR_START.finditer(document):
        found += match[0] in b"[{"
        if found > MAX_COLLECTIONS:
            raise ValueError(f"json: document has more than {MAX_COLLECTIONS} objects and arrays")


def may_exceed(document: bytes, limit: int) -> bool:
    """Return whether a document may have more objects and arrays, at little cost: brackets within texts are counted, too."""
    return len(document) > limit and document.count(b"{") + document.count(b"[") > limit
