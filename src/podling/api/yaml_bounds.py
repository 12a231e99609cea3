"""Limits of YAML documents. YAML parsers recurse in C, and aliases let a short document stand for a huge one; so every
document from outside is judged here, event by event, before it is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator

import yaml

MAX_DEPTH = 500
MAX_NODES = 1_000_000


def events(document: bytes | str) -> Iterator[yaml.Event]:
    """The events of a document within the limits. Raises ValueError beyond them, yaml.YAMLError for what is no YAML."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    open_nodes: list[str | None] = []
    # Nodes that a document has once its aliases are written out, up to each start of an anchored collection.
    starts: list[int] = []
    sizes: dict[str, int] = {}
    nodes = 0
    for event in yaml.parse(document, Loader=loader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append(event.anchor)
            starts.append(nodes)
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, start = open_nodes.pop(), starts.pop()
            if anchor:
                sizes[anchor] = nodes - start
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
            if event.anchor:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor in open_nodes:
                raise ValueError(f"yaml: anchor '{event.anchor}' value contains itself")
            nodes += sizes.get(event.anchor or "", 1)
        if len(open_nodes) > MAX_DEPTH:
            raise ValueError(f"yaml: exceeded max depth of {MAX_DEPTH}")
        if nodes > MAX_NODES:
            raise ValueError("yaml: document contains excessive aliasing")
        yield event


def check(document: bytes | str) -> None:
    """Raises ValueError for a document beyond the limits, yaml.YAMLError for what is no YAML."""
    for _ in events(document):
        pass
