"""Limits of YAML documents. YAML parsers recurse in C, and aliases let a short document stand for a huge one; so every
document from outside is judged here, event by event, before it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import yaml

MAX_DEPTH = 500
MAX_NODES = 1_000_000
MAX_BYTES = 3 << 20
"""What a request's body may have: no client can say more in JSON."""

_COLLECTION, _SEPARATOR = 3, 1
"""Bytes of JSON: brackets and what follows them, and what follows a scalar."""


def events(document: bytes | str) -> Iterator[yaml.Event]:
    """The events of a document within the limits. Raises ValueError beyond them, yaml.YAMLError for what is no YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    open_nodes: list[str | None] = []
    # What the document has once its aliases are written out: here, and at each start of an anchored collection.
    nodes, size = 0, 0
    starts: list[tuple[int, int]] = []
    anchored: dict[str, tuple[int, int]] = {}
    for event in yaml.parse(document, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(event.anchor)
            starts.append((nodes, size))
            nodes, size = nodes + 1, size + _COLLECTION
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_nodes.pop(), starts.pop()
            if anchor:
                anchored[anchor] = nodes - start[0], size - start[1]
        elif isinstance(event, yaml.ScalarEvent):
            length = len(msgspec.json.encode(event.value)) + _SEPARATOR
            nodes, size = nodes + 1, size + length
            if event.anchor:
                anchored[event.anchor] = 1, length
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_nodes:
                raise ValueError(f"yaml: anchor '{event.anchor}' value contains itself")
            more = anchored.get(event.anchor or "", (1, 0))
            nodes, size = nodes + more[0], size + more[1]
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"yaml: exceeded max depth of {MAX_DEPTH}")
        if nodes > MAX_NODES:
            raise ValueError("yaml: document contains excessive aliasing")
        if size > MAX_BYTES:
            raise ValueError(f"yaml: document has more than {MAX_BYTES} bytes once it is JSON")
        yield event


def check(document: bytes | str) -> None:
    """Raises ValueError for a document beyond the limits, yaml.YAMLError for what is no YAML."""
    for _ in events(document):
        pass
