"""What a request asks for, read from its method, path and query as upstream's RequestInfo."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from msgspec import Struct

from podling.apiserver import parameters

_METHOD_VERBS = {"GET": "get", "HEAD": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

# Subresources of a namespace: in /namespaces/<name>/<word> these words are not resources inside the namespace.
_NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})


class RequestInfo(Struct, frozen=True):
    """A request in terms of the API. For paths outside of resources `resource` is "" and `verb` is the HTTP method."""

    path: str
    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    rest: str = ""
    """What follows the subresource."""

    @property
    def is_resource(self) -> bool:
        return self.resource != ""


def parse(method: str, path: str, query: Mapping[str, str]) -> RequestInfo:
    """The RequestInfo of a request. path: percent-encoded, without the query."""
    parts = [unquote(part) if "%" in part else part for part in path.split("/") if part]
    other = RequestInfo(path=path, verb=method.lower())
    if len(parts) >= 3 and parts[0] == "api":
        group, version, parts = "", parts[1], parts[2:]
    elif len(parts) >= 4 and parts[0] == "apis":
        group, version, parts = parts[1], parts[2], parts[3:]
    else:
        return other
    verb = _METHOD_VERBS.get(method, "")
    if parts[0] == "watch":  # deprecated form of ?watch=true, still served upstream
        parts = parts[1:]
        if not parts:
            return other
        verb = "watch"
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in _NAMESPACE_SUBRESOURCES:
            parts = parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    if verb == "get" and not name:
        verb = "watch" if parameters.flag(query, "watch") else "list"
    elif verb == "delete" and not name:
        verb = "deletecollection"
    return RequestInfo(
        path=path,
        verb=verb,
        group=group,
        version=version,
        resource=parts[0],
        subresource=parts[2] if len(parts) > 2 else "",
        namespace=namespace,
        name=name,
        rest="/".join(parts[3:]),
    )
