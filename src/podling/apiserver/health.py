"""/healthz, /livez and /readyz, with their single checks and ?verbose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp.web import Response
from multidict import MultiMapping

from podling.api.go import quote
from podling.apiserver import responses

Check = Callable[[], str]
"""Empty if all is well, else what is wrong."""
Checks = Mapping[str, Check]

ENDPOINTS = ("healthz", "livez", "readyz")


def handle(endpoint: str, single: str, query: MultiMapping[str], checks: Checks) -> Response:
    """endpoint: one of ENDPOINTS. single: the name of the only check wanted, or "".

    Only who may ask for single checks is told why one fails: the others are public."""
    if single:
        if single not in checks:
            return responses.text("404 page not found\n", code=404)
        problem = checks[single]()
        return responses.text(f"internal server error: {problem}\n", code=500) if problem else responses.text("ok")
    excluded = set(query.getall("exclude", ()))
    lines: list[str] = []
    failed = False
    for name, check in checks.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
        elif check():
            lines.append(f"[-]{name} failed: reason withheld")
            failed = True
        else:
            lines.append(f"[+]{name} ok")
    if unknown := sorted(excluded - checks.keys()):
        names = ", ".join(map(quote, unknown))
        lines.append(f"warn: some health checks cannot be excluded: no matches for {names}")
    if not failed and "verbose" not in query:
        return responses.text("ok")
    lines.append(f"{endpoint} check {'failed' if failed else 'passed'}")
    return responses.text("\n".join(lines) + "\n", code=500 if failed else 200)
