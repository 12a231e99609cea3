"""The paths of an API version and what can be done there, made from the scheme; both OpenAPI versions render it."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from podling.api.scheme import SERVED, Resource, Subresource

OBJECT_TYPES = ("application/json", "application/yaml")
STREAM_TYPES = (*OBJECT_TYPES, "application/json;stream=watch")
PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
)
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
STATUS = META + "Status"
RETURNED_WHEN_DELETED = frozenset({"pods", "services", "serviceaccounts"})
"""Resources whose deletion answers with the object; others answer with a Status."""


class Parameter(Struct, frozen=True):
    name: str
    type: str
    description: str


_PARAMETERS = (
    Parameter("allowWatchBookmarks", "boolean", "Whether a watch may send BOOKMARK events."),
    Parameter("container", "string", "The container to read the log of; needed if the Pod has several."),
    Parameter("continue", "string", "The token of the previous page of the list."),
    Parameter("dryRun", "string", "All: validate and answer, but store nothing."),
    Parameter("fieldSelector", "string", "Restricts the list by the values of fields."),
    Parameter("fieldValidation", "string", "What to do about unknown and duplicate fields: Ignore, Warn or Strict."),
    Parameter("follow", "boolean", "Keep sending the log as it is written."),
    Parameter("gracePeriodSeconds", "integer", "Seconds before the object is deleted; 0 is at once."),
    Parameter("insecureSkipTLSVerifyBackend", "boolean", "Do not verify the certificate of the node."),
    Parameter("labelSelector", "string", "Restricts the list by labels."),
    Parameter("limit", "integer", "The most items to answer; `continue` of the answer leads to the rest."),
    Parameter("limitBytes", "integer", "The most bytes to answer."),
    Parameter("orphanDependents", "boolean", "Deprecated: use propagationPolicy."),
    Parameter("previous", "boolean", "The log of the previous, terminated container."),
    Parameter("propagationPolicy", "string", "What happens to dependents: Orphan, Background or Foreground."),
    Parameter("resourceVersion", "string", "The version that the answer must have, or start from."),
    Parameter("resourceVersionMatch", "string", "How resourceVersion is meant: Exact or NotOlderThan."),
    Parameter("sendInitialEvents", "boolean", "Start a watch with the objects there are, then a bookmark."),
    Parameter("sinceSeconds", "integer", "Only lines of so many last seconds."),
    Parameter("sinceTime", "string", "Only lines since this time (RFC 3339)."),
    Parameter("stream", "string", "Which output: All, Stdout or Stderr."),
    Parameter("tailLines", "integer", "Only so many last lines."),
    Parameter("timeoutSeconds", "integer", "How long a list or watch may take."),
    Parameter("timestamps", "boolean", "Begin every line with its time (RFC 3339)."),
    Parameter("watch", "boolean", "Stream the changes instead of answering a list."),
)
QUERY = {item.name: item for item in _PARAMETERS}
PATH = {
    "name": Parameter("name", "string", "The name of the object."),
    "namespace": Parameter("namespace", "string", "The namespace of the object."),
}

_LIST = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
)
_WRITE = ("dryRun", "fieldValidation")
_DELETE = ("dryRun", "gracePeriodSeconds", "orphanDependents", "propagationPolicy")
_LOG = (
    "container",
    "follow",
    "insecureSkipTLSVerifyBackend",
    "limitBytes",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "stream",
    "tailLines",
    "timestamps",
)


class Operation(Struct, frozen=True, kw_only=True):
    """body and result are names of definitions, "" for none (result: text)."""

    method: str
    action: str
    id: str
    tag: str
    description: str
    group: str
    version: str
    kind: str
    query: tuple[str, ...] = ()
    body: str = ""
    body_required: bool = True
    consumes: tuple[str, ...] = ("*/*",)
    result: str = ""
    produces: tuple[str, ...] = OBJECT_TYPES
    codes: tuple[int, ...] = (200,)


class Path(Struct, frozen=True):
    path: str
    parameters: tuple[str, ...]
    operations: tuple[Operation, ...]


def definition(type: type[object]) -> str:
    """The definition of an API struct: podling.api.core.v1.Pod is io.k8s.api.core.v1.Pod."""
    package = type.__module__.removeprefix("podling.api.")
    return META + type.__name__ if package == "meta.v1" else f"io.k8s.api.{package}.{type.__name__}"


def paths(group: str, version: str) -> list[Path]:
    """All paths of an API version that lead to resources, in order."""
    found: list[Path] = []
    for resource in SERVED:
        if (resource.group, resource.version) == (group, version):
            found += (path for path in _paths(resource) if path.operations)
    return sorted(found, key=lambda path: path.path)


def _paths(resource: Resource) -> Iterator[Path]:
    make = _Maker(resource)
    namespace = "{namespace}" if resource.namespaced else ""
    scope = ("namespace",) if resource.namespaced else ()
    collection = (make.list(), make.create(), make.delete_collection())
    yield Path(resource.path(namespace), scope, _present(*collection))
    if resource.namespaced:
        yield Path(resource.path(), (), _present(make.list(everywhere=True)))
    one = (make.get(), make.replace(), make.patch(), make.delete())
    yield Path(resource.path(namespace, "{name}"), ("name", *scope), _present(*one))
    for item in resource.subresources:
        if item.name == "log":
            operations = _present(make.log())
        else:
            operations = _present(make.get(item), make.replace(item), make.patch(item), make.create(item))
        yield Path(resource.path(namespace, "{name}", item.name), ("name", *scope), operations)


def _present(*operations: Operation | None) -> tuple[Operation, ...]:
    return tuple(operation for operation in operations if operation is not None)


class _Maker:
    """Makes the operations of one resource; None for a verb that it does not have."""

    def __init__(self, resource: Resource) -> None:
        self._resource = resource
        group = resource.group.removesuffix(".k8s.io") or "core"
        self._tag = f"{group.replace('.', '')}_{resource.version}"
        words = [*group.split("."), resource.version]
        self._api = "".join(word[0].upper() + word[1:] for word in words)
        self._scope = "Namespaced" if resource.namespaced else ""

    def _make(
        self,
        verb: str,
        method: str,
        action: str,
        word: str,
        item: Subresource | None = None,
        *,
        name: str = "",
        query: tuple[str, ...] = (),
        body: str = "",
        body_required: bool = True,
        consumes: tuple[str, ...] = ("*/*",),
        result: str | None = None,
        produces: tuple[str, ...] = OBJECT_TYPES,
        codes: tuple[int, ...] = (200,),
    ) -> Operation | None:
        of = item or self._resource
        if verb not in of.verbs:
            return None
        part = item.name[0].upper() + item.name[1:] if item else ""
        return Operation(
            method=method,
            action=action,
            id=f"{word}{self._api}{name or self._scope + self._resource.kind}{part}",
            tag=self._tag,
            description=f"{word} {item.name + ' of ' if item else ''}the specified {self._resource.kind}",
            group=of.group,
            version=of.version,
            kind=of.kind,
            query=query,
            body=body,
            body_required=body_required,
            consumes=consumes,
            result=definition(of.type) if result is None else result,
            produces=produces,
            codes=codes,
        )

    def list(self, *, everywhere: bool = False) -> Operation | None:
        resource = self._resource
        query = (*_LIST, "watch") if "watch" in resource.verbs else _LIST
        return self._make(
            "list",
            "get",
            "list",
            "list",
            name=f"{resource.kind}ForAllNamespaces" if everywhere else "",
            query=query,
            result=definition(resource.list_type),
            produces=STREAM_TYPES if "watch" in resource.verbs else OBJECT_TYPES,
        )

    def create(self, item: Subresource | None = None) -> Operation | None:
        body = definition((item or self._resource).type)
        return self._make("create", "post", "post", "create", item, query=_WRITE, body=body, codes=(200, 201))

    def get(self, item: Subresource | None = None) -> Operation | None:
        return self._make("get", "get", "get", "read", item)

    def replace(self, item: Subresource | None = None) -> Operation | None:
        body = definition((item or self._resource).type)
        return self._make("update", "put", "put", "replace", item, query=_WRITE, body=body)

    def patch(self, item: Subresource | None = None) -> Operation | None:
        return self._make(
            "patch", "patch", "patch", "patch", item, query=_WRITE, body=META + "Patch", consumes=PATCH_TYPES
        )

    def delete(self) -> Operation | None:
        return self._make(
            "delete",
            "delete",
            "delete",
            "delete",
            query=_DELETE,
            body=META + "DeleteOptions",
            body_required=False,
            result=None if self._resource.plural in RETURNED_WHEN_DELETED else STATUS,
        )

    def delete_collection(self) -> Operation | None:
        return self._make(
            "deletecollection",
            "delete",
            "deletecollection",
            "delete",
            name=f"Collection{self._scope}{self._resource.kind}",
            query=tuple(sorted({*_LIST, *_DELETE} - {"allowWatchBookmarks", "sendInitialEvents"})),
            body=META + "DeleteOptions",
            body_required=False,
            result=STATUS,
        )

    def log(self) -> Operation | None:
        item = self._resource.subresource("log")
        return self._make("get", "get", "get", "read", item, query=_LOG, result="", produces=("text/plain",))
