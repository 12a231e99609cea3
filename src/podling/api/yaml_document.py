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
_NUMBERS = (_PREFIX + "int", _PREFIX + "float")
_BASE_60 = ":"
"""Numbers like 1:30 are of YAML 1.1; Kubernetes reads a text. To multiply out a long one takes PyYAML minutes."""
_NO_KEY = object()
_SHOWN = 100
"""Characters of a value that cannot be read that its error quotes."""


class _Resolver(Resolver):
    """Dates stay text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _PREFIX + "timestamp"]
        for first, resolvers in Resolver.yaml_implicit_resolvers.items()
    }


class Malformed(yaml.YAMLError):
    """The document is not YAML. The text is that of upstream's parser: `yaml: line 3: did not find expected key`."""


def load(document: bytes | str) -> tuple[Any, list[str]]:
    """The value, whose keys are text, and a line for each key that stands twice in a mapping.

    Raises ValueError beyond the limits of yaml_bounds and for keys that JSON cannot have, Malformed for what is not YAML,
    or not one document."""
    builder = _Builder()
    try:
        for event in yaml_bounds.events(document):
            builder.feed(event)
    except ReaderError as error:
        raise Malformed(f"yaml: {error.reason}") from None
    except yaml.MarkedYAMLError as error:
        raise Malformed(f"yaml: {_line(error)}{error.problem or 'unknown problem parsing YAML content'}") from None
    return builder.value, builder.duplicates


def _line(error: yaml.MarkedYAMLError) -> str:
    """Return where the problem is, as go-yaml says it: nowhere in the first line, and one line less unless it scans."""
    marks = (error.context_mark, error.problem_mark)
    line = next((mark.line for mark in marks if mark is not None and mark.line), 0)
    if line and isinstance(error, ScannerError):
        line += 1
    return f"line {line}: " if line else ""


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
                raise ComposerError(None, None, f"unknown anchor '{event.anchor}' referenced", _mark(event))
            self._add(self._anchors[event.anchor], event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self._documents += 1
            if self._documents > 1:
                raise ComposerError(None, None, "expected a single document in the stream", _mark(event))

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        tag = event.tag
        if tag is None or tag == "!":
            tag = self._resolver.resolve(yaml.ScalarNode, event.value, event.implicit)
            if tag in _NUMBERS and _BASE_60 in event.value:
                tag = _TEXT
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
            try:
                if tag in _NUMBERS and _BASE_60 in event.value:
                    raise ValueError(event.value)
                value = self._constructor.construct_object(node)
            except (ConstructorError, ValueError, LookupError, AttributeError):  # whatever PyYAML did not expect
                text = f"cannot decode `{event.value[:_SHOWN]}` as a {tag.replace(_PREFIX, '!!')}"
                raise ConstructorError(None, None, text, _mark(event)) from None
        if event.anchor:
            self._anchors[event.anchor] = value
        self._add(value, event)

    def _begin(self, event: yaml.CollectionStartEvent) -> None:
        mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in (None, "!", _PREFIX + ("map" if mapping else "seq")):
            text = f"the tag {event.tag.replace(_PREFIX, '!!')} is not supported"
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
                text = "map merge requires map or sequence of maps as the value"
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
    kinds = {dict: "mapping", list: "list", type(None): "null"}
    raise ValueError(f"unsupported map key: it is a {kinds.get(type(key), 'value')} instead of a text")
