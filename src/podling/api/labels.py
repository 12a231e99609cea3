"""Label selectors: the string grammar ("app in (a,b),!old,tier!=db") and the LabelSelector struct.

Source: k8s.io/apimachinery/pkg/labels (grammar, messages) and pkg/apis/meta/v1/helpers.go (the struct).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from podling.api import field, names
from podling.api.field import FieldError, Path
from podling.api.go import quote
from podling.api.meta.v1 import LabelSelector
from podling.kit.short_cache import short_cache

EQUALS = "="
DOUBLE_EQUALS = "=="
NOT_EQUALS = "!="
IN = "in"
NOT_IN = "notin"
EXISTS = "exists"
DOES_NOT_EXIST = "!"
GREATER_THAN = "gt"
LESS_THAN = "lt"

_BINARY = (IN, NOT_IN, EQUALS, DOUBLE_EQUALS, NOT_EQUALS, GREATER_THAN, LESS_THAN)
_SIGNS = {GREATER_THAN: ">", LESS_THAN: "<", IN: " in ", NOT_IN: " notin "}
_INTEGER = re.compile(r"[+-]?[0-9]+\Z", re.ASCII)


def _integer(text: str) -> int | None:
    if _INTEGER.match(text) is None:
        return None
    value = int(text)
    return value if -(2**63) <= value < 2**63 else None


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label. `operator` is one of the constants of this module."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        have, wanted = _integer(value or ""), _integer(self.values[0])
        if have is None or wanted is None:
            return False
        return have > wanted if self.operator == GREATER_THAN else have < wanted

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == DOES_NOT_EXIST:
            return f"!{self.key}"
        values = ",".join(sorted(self.values))
        if self.operator in (IN, NOT_IN):
            values = f"({values})"
        return f"{self.key}{_SIGNS.get(self.operator, self.operator)}{values}"


def requirement(key: str, operator: str, values: Sequence[str]) -> Requirement:
    """A checked requirement. Raises ValueError with all of upstream's messages."""
    errors: list[FieldError] = []
    if messages := names.qualified_name(key):
        errors.append(field.invalid(Path("key"), key, "; ".join(messages)))
    path = Path("values")
    if operator in (IN, NOT_IN):
        if not values:
            errors.append(field.invalid(path, list(values), "for 'in', 'notin' operators, values set can't be empty"))
    elif operator in (EQUALS, DOUBLE_EQUALS, NOT_EQUALS):
        if len(values) != 1:
            errors.append(field.invalid(path, list(values), "exact-match compatibility requires one single value"))
    elif operator in (EXISTS, DOES_NOT_EXIST):
        if values:
            message = "values set must be empty for exists and does not exist"
            errors.append(field.invalid(path, list(values), message))
    elif operator in (GREATER_THAN, LESS_THAN):
        if len(values) != 1:
            errors.append(field.invalid(path, list(values), "for 'Gt', 'Lt' operators, exactly one value is required"))
        message = "for 'Gt', 'Lt' operators, the value must be an integer"
        errors += [field.invalid(path.index(i), v, message) for i, v in enumerate(values) if _integer(v) is None]
    else:
        errors.append(field.not_supported(Path("operator"), operator, (*_BINARY, EXISTS, DOES_NOT_EXIST)))
    for i, value in enumerate(values):
        if messages := names.label_value(value):
            errors.append(field.invalid(path.index(i).key(key), value, "; ".join(messages)))
    if errors:
        raise ValueError(field.messages(errors))
    return Requirement(key, operator, tuple(values))


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements have to match. `nothing` selects no object whatever the requirements."""

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether every object is selected."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str]) -> bool:
        return not self.nothing and all(item.matches(labels) for item in self.requirements)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()
NOTHING = Selector(nothing=True)


def from_set(labels: Mapping[str, str]) -> Selector:
    """Selects by equality; an empty set selects everything."""
    return Selector(tuple(Requirement(key, EQUALS, (labels[key],)) for key in sorted(labels)))


_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": DOES_NOT_EXIST}


def from_struct(selector: LabelSelector | None) -> Selector:
    """The selector of an object's field: None selects nothing, an empty one everything. Raises ValueError."""
    if selector is None:
        return NOTHING
    found = [requirement(key, EQUALS, [value]) for key, value in selector.match_labels.items()]
    for expression in selector.match_expressions:
        operator = _OPERATORS.get(expression.operator)
        if operator is None:
            raise ValueError(f"{quote(expression.operator)} is not a valid label selector operator")
        found.append(requirement(expression.key, operator, expression.values))
    return Selector(tuple(sorted(found, key=lambda item: item.key)))


@short_cache(256)
def parse(text: str) -> Selector:
    """The selector of a query parameter. Raises ValueError with upstream's message."""
    return Selector(tuple(sorted(_Parser(text).parse(), key=lambda item: item.key)))


_IDENTIFIER = "identifier"
_END = ""
_SYMBOLS = frozenset({")", ",", "!", "==", "=", ">", "<", "!=", "("})
_TOKEN = re.compile(r"[ \t\r\n]*(?:([^ \t\r\n=!(),<>]+)|([=!(),<>]+))?")
_FROM_SYMBOL = {"=": EQUALS, "==": DOUBLE_EQUALS, "!=": NOT_EQUALS, ">": GREATER_THAN, "<": LESS_THAN}


class _Parser:
    """Recursive descent over (kind, text) tokens; kind is a symbol, "in", "notin", an identifier or the end."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self.position = 0

    def peek(self, *, keywords: bool = False) -> tuple[str, str]:
        """The next token. "in" and "notin" are identifiers where no keyword may stand."""
        kind, text = self.tokens[min(self.position, len(self.tokens) - 1)]
        return (_IDENTIFIER, text) if kind in (IN, NOT_IN) and not keywords else (kind, text)

    def take(self, *, keywords: bool = False) -> tuple[str, str]:
        token = self.peek(keywords=keywords)
        self.position += 1
        return token

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while True:
            kind, text = self.peek()
            if kind == _END:
                return found
            if kind not in (_IDENTIFIER, "!"):
                raise ValueError(f"found '{text}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self.requirement())
            except ValueError as error:
                raise ValueError(f"unable to parse requirement: {error}") from None
            kind, text = self.take()
            if kind == _END:
                return found
            if kind != ",":
                raise ValueError(f"found '{text}', expected: ',' or 'end of string'")
            kind, text = self.peek()
            if kind not in (_IDENTIFIER, "!"):
                raise ValueError(f"found '{text}', expected: identifier after ','")

    def requirement(self) -> Requirement:
        kind, key = self.take()
        negated = kind == "!"
        if negated:
            kind, key = self.take()
        if kind != _IDENTIFIER:
            raise ValueError(f"found '{key}', expected: identifier")
        if messages := names.qualified_name(key):
            raise ValueError(str(field.invalid(Path(), key, "; ".join(messages))))
        if negated:
            return requirement(key, DOES_NOT_EXIST, [])
        if self.peek()[0] in (_END, ","):
            return requirement(key, EXISTS, [])
        kind, text = self.take(keywords=True)
        if kind in (IN, NOT_IN):
            return requirement(key, kind, self.values())
        if kind not in _FROM_SYMBOL:
            raise ValueError(f"found '{text}', expected: {', '.join(_BINARY)}")
        return requirement(key, _FROM_SYMBOL[kind], [self.value()])

    def value(self) -> str:
        if self.peek()[0] in (_END, ","):
            return ""
        kind, text = self.take()
        if kind != _IDENTIFIER:
            raise ValueError(f"found '{text}', expected: identifier")
        return text

    def values(self) -> list[str]:
        kind, text = self.take()
        if kind != "(":
            raise ValueError(f"found '{text}' expected: '('")
        kind, text = self.peek()
        if kind == ")":
            self.take()
            return [""]
        if kind not in (_IDENTIFIER, ","):
            raise ValueError(f"found '{text}', expected: ',', ')' or identifier")
        found: set[str] = set()
        while True:
            kind, text = self.take()
            following, next_text = self.peek()
            if kind == _IDENTIFIER:
                found.add(text)
                if following not in (",", ")"):
                    raise ValueError(f"found '{next_text}', expected: ',' or ')'")
            elif kind == ",":
                if not found or following in (",", ")"):
                    found.add("")
            else:
                raise ValueError(f"found '{text}', expected: ',', or identifier")
            if following == ")":
                self.take()
                return sorted(found)


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    while match := _TOKEN.match(text, position):
        word, signs = match.groups()
        position = match.end()
        if word:
            found.append((word if word in (IN, NOT_IN) else _IDENTIFIER, word))
        elif signs:
            sign = signs[:2] if signs[:2] in _SYMBOLS else signs[0]
            position = match.start(2) + len(sign)
            found.append((sign, sign))
        else:
            break
    found.append((_END, ""))
    return found
