"""Field selectors: "metadata.name=x,spec.nodeName!=y". Source: k8s.io/apimachinery/pkg/fields."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from podling.api.go import quote
from podling.kit.short_cache import short_cache


@dataclass(frozen=True, slots=True)
class Requirement:
    """One field equals `value`, or differs from it where `negated`."""

    field: str
    value: str
    negated: bool = False

    def matches(self, fields: Mapping[str, str]) -> bool:
        """An absent field counts as empty."""
        return (fields.get(self.field, "") == self.value) is not self.negated

    def __str__(self) -> str:
        return f"{self.field}{'!=' if self.negated else '='}{escape(self.value)}"


@dataclass(frozen=True, slots=True)
class Selector:
    """All requirements have to match."""

    requirements: tuple[Requirement, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether every object is selected."""
        return not self.requirements

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all(item.matches(fields) for item in self.requirements)

    def exact(self, field: str) -> str | None:
        """The value that `field` has to have, None where several do."""
        return next((item.value for item in self.requirements if item.field == field and not item.negated), None)

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


EVERYTHING = Selector()


def escape(value: str) -> str:
    """A value as it may stand in a selector."""
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def from_set(fields: Mapping[str, str]) -> Selector:
    return Selector(tuple(Requirement(field, fields[field]) for field in sorted(fields)))


@short_cache(256)
def parse(text: str) -> Selector:
    """The selector of a query parameter. Raises ValueError with upstream's message."""
    found = []
    for term in sorted(_split(text)):
        if not term:
            continue
        field, sign, value = _operator(term)
        if not sign:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        found.append(Requirement(field, _unescape(value), sign == "!="))
    return Selector(tuple(found))


def _split(text: str) -> list[str]:
    """Cut at the commas that no backslash escapes."""
    terms, start, escaped = [], 0, False
    for i, char in enumerate(text):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == ",":
            terms.append(text[start:i])
            start = i + 1
    terms.append(text[start:])
    return terms


def _operator(term: str) -> tuple[str, str, str]:
    for i in range(len(term)):
        for sign in ("!=", "==", "="):
            if term.startswith(sign, i):
                return term[:i], sign, term[i + len(sign) :]
    return "", "", ""


def _unescape(value: str) -> str:
    if "\\" not in value and "," not in value and "=" not in value:
        return value
    result, escaped = [], False
    for char in value:
        if escaped:
            if char not in "\\,=":
                raise ValueError(f"invalid field selector: invalid escape sequence: {quote(chr(92) + char)}")
            result.append(char)
            escaped = False
        elif char == "\\":
            escaped = True
        elif char in ",=":
            raise ValueError(f"invalid field selector: unescaped character in value: {quote(char)}")
        else:
            result.append(char)
    if escaped:
        raise ValueError(f"invalid field selector: invalid escape sequence: {quote(chr(92))}")
    return "".join(result)
