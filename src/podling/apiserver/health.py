"""/healthz, /livez and /readyz, with their single checks and ?verbose."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from aiohttp.web import Response
from multidict import MultiMapping

from podling.apiserver import responses

Check = Callable[[], str]
"""Empty if all is well, else what is wrong."""
Checks = Mapping[str, Check]

ENDPOINTS = ("healthz", "livez", "readyz")


def handle(endpoint: str, single: str, query: MultiMapping[str], checks: Checks) -> Response:
    """endpoint: one of ENDPOINTS. single: the name of the only check wanted, or ""."""
    excluded = set(query.getall("exclude", ()))
    if single:
        if single not in checks:
            return responses.text("404 page not found\n", code=404)
        wanted = {single: checks[single]}
    else:
        wanted = {name: check for name, check in checks.items() if name not in excluded}
    results = {name: check() for name, check in wanted.items()}
    failed = [name for name, problem in results.items() if problem]
    if not failed and "verbose" not in query:
        return responses.text("ok")
    lines = [f"[-]{name} failed: {problem}" if problem else f"[+]{name} ok" for name, problem in results.items()]
    lines += [f"[+]{name} excluded: ok" for name in checks if name in excluded and not single]
    outcome = "failed" if failed else "passed"
    lines.append(f"{endpoint} check {outcome}")
    return responses.text("\n".join(lines) + "\n", code=500 if failed else 200)
