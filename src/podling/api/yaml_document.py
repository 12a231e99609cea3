"""A YAML document as plain values, read as Kubernetes reads YAML.

Values are made from the parser's events, in one pass. PyYAML's nodes, several objects for each word of the document, cost
several times as much, and the garbage collector stops all threads while it looks at hundreds of thousands of them.
"""

from __future__ import annotations

from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError, SafeConstructor
from yaml.reader import ReaderError
from yaml.resolver import Resolver
from yaml.scanner import ScannerError

from podling.api import yaml_bounds
from podling.api.go import quote

_PREFIX = "tag:yaml.org,2002:"
_TEXT, _MERGE = _PREFIX + "str", _PREFIX + "merge"
_NO_KEY = object()


class _Resolver(Resolver):
    """Dates stay text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _PREFIX + "timestamp"]
        for first, resolvers in Resolver.yaml_implicit_resolvers.items()
    }


def load(document: bytes | str) -> tuple[Any, list[str]]:
    """The value, whose keys are text, and a line for each key that stands twice in a mapping.

    Raises ValueError beyond the limits of yaml_bounds and for keys that JSON cannot have, yaml.YAMLError for what is
    not YAML, or not one document."""
    builder = _Builder()
    for event in yaml_bounds.events(document):
        builder.feed(event)
    return builder.value, builder.duplicates


def problem(error: yaml.YAMLError) -> str:
    """Return what go-yaml, which like PyYAML is made of libyaml, says of it: `yaml: line 2: did not find ...`."""
    if isinstance(error, ReaderError):
        return f"yaml: {error.reason}"
    if not isinstance(error, yaml.MarkedYAMLError):
        return f"yaml: {error}"
    marks = (error.context_mark, error.problem_mark)
    line = next((mark.line for mark in marks if mark is not None and mark.line), 0)
    if line and isinstance(error, ScannerError):
        line += 1  # only these count from one
    return f"yaml: line {line}: {error.problem}" if line else f"yaml: {error.problem}"


class _Open:
    """A collection whose end has not come yet."""

    __slots__ = ("anchor", "items", "key", "merged", "seen", "value")

    def __init__(self, anchor: str | None, *, mapping: bool) -> None:
        self.anchor = anchor
        self.items: list[Any] = []
        self.value: dict[str, Any] | None = {} if mapping else None
        self.key: Any = _NO_KEY
        self.seen: set[tuple[str, str]] = set()
        self.merged: list[dict[str, Any]] = []


class _Builder:
    def __init__(self) -> None:
        self.value: Any = None
        self.duplicates: list[str] = []
        self._documents = 0
        self._open: list[_Open] = []
        self._anchors: dict[str, Any] = {}
        self._resolver: Any = _Resolver()
        self._constructor = SafeConstructor()

    def feed(self, event: yaml.Event) -> None:
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._begin(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._end(event)
        elif isinstance(event, yaml.AliasEvent):
            if event.anchor not in self._anchors:
                raise ComposerError(None, None, f"found undefined alias {event.anchor!r}", _mark(event))
            self._add(self._anchors[event.anchor], event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise ComposerError(None, None, "expected a single document in the stream", _mark(event))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
        parent = self._open[-1] if self._open else None
        if parent is not None and parent.value is not None and parent.key is _NO_KEY:
            if tag == _MERGE:
                parent.key = None
                return
            if (tag, event.value) in parent.seen:
                line = _mark(event).line + 1
                self.duplicates.append(f"  line {line}: key {quote(event.value)} already set in map")
            parent.seen.add((tag, event.value))
        value: Any = event.value
        if tag != _TEXT:
            node = yaml.ScalarNode(tag, event.value, _mark(event))
            value = self._constructor.construct_object(node)
        if event.anchor:
            self._anchors[event.anchor] = value
        self._add(value, event)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _PREFIX + ("map" if mapping else "seq")):
            text = f"could not determine a constructor for the tag {event.tag!r}"
            raise ConstructorError(None, None, text, _mark(event))
        self._open.append(_Open(event.anchor, mapping=mapping))

    def _end(self, event: yaml.Event) -> None:
        done = self._open.pop()
        value: Any = done.items
        if done.value is not None:
            value = done.value
            if done.merged:  # the mapping's own keys count most, then the first mapping that it merges
                value = {name: item for each in reversed(done.merged) for name, item in each.items()} | value
        if done.anchor:
            self._anchors[done.anchor] = value
        self._add(value, event)

    def _add(self, value: Any, event: yaml.Event) -> None:
        if not self._open:
            self.value = value
            return
        parent = self._open[-1]
        if parent.value is None:
            parent.items.append(value)
        elif parent.key is _NO_KEY:
            parent.key = value if isinstance(value, str) else _text(value)
        elif parent.key is None:
            merged = value if isinstance(value, list) else [value]
            if not all(isinstance(each, dict) for each in merged):
                text = "expected a mapping or list of mappings for merging"
                raise ConstructorError("while constructing a mapping", None, text, _mark(event))
            parent.merged += merged
            parent.key = _NO_KEY
        else:
            parent.value[parent.key] = value
            parent.key = _NO_KEY


def _mark(event: yaml.Event) -> Any:
    """Where the event begins; libyaml's marks are not the library's own, but do as well."""
    return event.start_mark


def _text(key: object) -> str:
    """A key that YAML reads as number or boolean ("on", 8080) as JSON's text."""
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise ValueError(f"unsupported map key of type: {type(key).__name__}, key: {key!r}")
