"""The tag of an image reference, which the default pull policy depends on."""

from __future__ import annotations

import re

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])"
_DOMAIN = rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?"
_DIGEST = r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}"
_REFERENCE = re.compile(
    rf"(?:{_DOMAIN}/)?{_COMPONENT}(?:/{_COMPONENT})*"
    rf"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?(?P<digest>@{_DIGEST})?\Z",
    re.ASCII,
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}\Z")


def image_tag(reference: str) -> str:
    """`latest` where neither tag nor digest is given; empty with only a digest and for what is no reference.

    Source: ParseImageName of Kubernetes' pkg/util/parsers, whose error defaulting ignores.
    """
    match = _REFERENCE.match(reference)
    if match is None or _IDENTIFIER.match(reference):
        return ""
    tag: str | None = match["tag"]
    return tag or ("" if match["digest"] else "latest")
