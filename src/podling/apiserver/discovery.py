"""Which resources there are: /api, /apis, their groups and versions; aggregated or one document for each version.

Source: the discovery API of apimachinery (APIVersions, APIGroupList, APIGroup, APIResourceList of meta/v1) and
aggregated discovery (KEP-3352, apidiscovery.k8s.io v2 and v2beta1), chosen by the Accept header on /api and /apis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import msgspec

from podling.api.scheme import SERVED, Resource, Subresource
from podling.apiserver import negotiation
from podling.apiserver.document import Document, digest
from podling.apiserver.negotiation import JSON

_AGGREGATED_GROUP = "apidiscovery.k8s.io"
_AGGREGATED_KIND = "APIGroupDiscoveryList"
_AGGREGATED_VERSIONS = ("v2", "v2beta1")


def handle(path: str, accept: str, address: str = "") -> Document | None:
    """The document at /api, /apis, /api/<version>, /apis/<group> or /apis/<group>/<version>; None if there is none.

    address: host:port of this server, as clients reach it. Raises ApiError (406).
    """
    parts = path.strip("/").split("/")
    if parts in (["api"], ["apis"]):
        version = _aggregated_version(accept)
        if version:
            return _aggregated(parts[0] == "api", version)
    document = _document(tuple(parts), address)
    if document is None:
        return None
    media_type = negotiation.accept(accept, transform=False).media_type
    if media_type == JSON:
        return document
    return Document(negotiation.to_yaml(document.body), media_type, digest(document.body, media_type.encode()))


def _aggregated_version(accept: str) -> str:
    """The version of aggregated discovery to answer with, or "" for a client that wants the plain documents."""
    for name, parameters in negotiation.by_quality(accept):
        if name in (JSON, negotiation.YAML, "*/*", "application/*") and not parameters.get("as"):
            return ""
        if (
            name == JSON
            and parameters.get("g") == _AGGREGATED_GROUP
            and parameters.get("as") == _AGGREGATED_KIND
            and parameters.get("v") in _AGGREGATED_VERSIONS
        ):
            return parameters["v"]
    return ""


def _document(parts: tuple[str, ...], address: str) -> Document | None:
    match parts:
        case ("api",):
            content = _legacy_versions(address)
        case ("apis",):
            groups = [_group(name, versions) for name, versions in _groups(SERVED) if name]
            content = {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        case ("apis", wanted):
            found = [versions for name, versions in _groups(SERVED) if name and name == wanted]
            if not found:
                return None
            content = {"kind": "APIGroup", "apiVersion": "v1", **_group(wanted, found[0])}
        case ("api", version):
            return _resource_list("", version)
        case ("apis", group, version) if group:
            return _resource_list(group, version)
        case _:
            return None
    return _json(content)


def _json(content: object, content_type: str = JSON) -> Document:
    body = msgspec.json.encode(content) + b"\n"
    return Document(body, content_type, digest(body, content_type.encode()))


def _groups(resources: Iterable[Resource]) -> Iterator[tuple[str, list[str]]]:
    """Each group with its versions, the core group first, the others in the order of the scheme."""
    versions: dict[str, list[str]] = {"": []}
    for resource in resources:
        known = versions.setdefault(resource.group, [])
        if resource.version not in known:
            known.append(resource.version)
    yield from versions.items()


def _legacy_versions(address: str) -> dict[str, Any]:
    clients = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    versions = next(versions for name, versions in _groups(SERVED) if not name)
    return {"kind": "APIVersions", "versions": versions, "serverAddressByClientCIDRs": clients}


def _group(name: str, versions: list[str]) -> dict[str, Any]:
    listed = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _of_version(group: str, version: str) -> list[Resource]:
    found = [item for item in SERVED if item.group == group and item.version == version]
    return sorted(found, key=lambda item: item.plural)


def _resource_list(group: str, version: str) -> Document | None:
    resources = _of_version(group, version)
    if not resources:
        return None
    listed = []
    for resource in resources:
        if resource.verbs:
            listed.append(_resource(resource))
        listed += [_subresource(resource, item) for item in _sorted(resource.subresources)]
    header = {"kind": "APIResourceList"}
    if group:  # the legacy group's list has no apiVersion upstream either
        header["apiVersion"] = "v1"
    return _json({**header, "groupVersion": resources[0].api_version, "resources": listed})


def _sorted(subresources: Iterable[Subresource]) -> list[Subresource]:
    return sorted(subresources, key=lambda item: item.name)


def _resource(resource: Resource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": sorted(resource.verbs),
    }
    return {**entry, **_names(resource)}


def _names(resource: Resource) -> dict[str, list[str]]:
    names = {}
    if resource.short_names:
        names["shortNames"] = list(resource.short_names)
    if resource.categories:
        names["categories"] = list(resource.categories)
    return names


def _subresource(resource: Resource, item: Subresource) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": f"{resource.plural}/{item.name}",
        "singularName": "",
        "namespaced": resource.namespaced,
    }
    if (item.group, item.version) != (resource.group, resource.version):
        entry |= {"group": item.group, "version": item.version}
    return {**entry, "kind": item.kind, "verbs": sorted(item.verbs)}


@cache
def _aggregated(legacy: bool, version: str) -> Document:
    groups = [
        {
            "metadata": {"name": name, "creationTimestamp": None} if name else {"creationTimestamp": None},
            "versions": [_aggregated_resources(name, item) for item in versions],
        }
        for name, versions in _groups(SERVED)
        if legacy == (not name)
    ]
    content = {
        "kind": _AGGREGATED_KIND,
        "apiVersion": f"{_AGGREGATED_GROUP}/{version}",
        "metadata": {},
        "items": groups,
    }
    return _json(content, f"{JSON};g={_AGGREGATED_GROUP};v={version};as={_AGGREGATED_KIND}")


def _aggregated_resources(group: str, version: str) -> dict[str, Any]:
    resources = []
    for resource in _of_version(group, version):
        entry: dict[str, Any] = {"resource": resource.plural}
        if resource.verbs:
            entry["responseKind"] = _kind(resource.group, resource.version, resource.kind)
        entry |= {
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": sorted(resource.verbs),
            **_names(resource),
        }
        if resource.subresources:
            entry["subresources"] = [
                {
                    "subresource": item.name,
                    "responseKind": _kind(item.group, item.version, item.kind),
                    "verbs": sorted(item.verbs),
                }
                for item in _sorted(resource.subresources)
            ]
        resources.append(entry)
    return {"version": version, "resources": resources, "freshness": "Current"}


def _kind(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}
