"""Objects in the store that cannot be read: damaged by hand, or written by a version that wrote what it could not read.

Nothing unreadable is ever written (see registry.Encoder), so all of it is there when the store is opened. The store
keeps it apart: lists and watches go on without it, and only the requests that name it fail. It is told of in the log, in
an event and by a warning of each list that lacks it; deletion by force removes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from msgspec import Struct

from podling.api import codec
from podling.api.go import quote
from podling.api.meta.v1 import ObjectMeta
from podling.api.scheme import RESOURCES, Resource
from podling.apiserver.conversion import stored_resource
from podling.store.protocol import Entry, Store, Unreadable

_STORED = {resource.key_prefix: resource for resource in RESOURCES if stored_resource(resource) == resource}


class _Metadata(Struct):
    uid: str = ""


class _Identity(Struct):
    metadata: _Metadata


def resource_of(key: str) -> Resource | None:
    """The resource whose objects have such keys; None for a kind that is not served."""
    return _STORED.get("/".join(key.split("/", 3)[:3]) + "/")


def check(entry: Entry) -> str:
    """The store's check of what it holds: why the value is not the object that its key names, or ""."""
    resource = resource_of(entry.key)
    if resource is None:
        return ""
    try:
        obj: Any = codec.decode_exact(resource.type, entry.value)
    except codec.DecodeError as error:
        return str(error)
    metadata: ObjectMeta = obj.metadata
    if resource.key(metadata.namespace, metadata.name) != entry.key:
        return f"it is stored as {entry.key}, but says that it is {metadata.namespace}/{metadata.name}"
    if metadata.resource_version != str(entry.revision):
        return f"it is stored at revision {entry.revision}, but says {quote(metadata.resource_version)}"
    return ""


def uid(value: bytes) -> str:
    """The object's uid if the value still tells it, else ""."""
    try:
        return msgspec.json.decode(value, type=_Identity).metadata.uid
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""


def describe(resource: Resource, namespace: str, name: str, found: Unreadable) -> str:
    """One sentence for people, with the command that removes the object."""
    where = f" in namespace {quote(namespace)}" if resource.namespaced else ""
    flag = f" --namespace {namespace}" if resource.namespaced else ""
    return (
        f"{resource.qualified} {quote(name)}{where} cannot be read from the store: {found.problem}. "
        f"`kubectl delete {resource.qualified} {name}{flag} --force --grace-period=0` removes it"
    )


def all_of(store: Store, prefix: str = "") -> Iterator[tuple[Resource, str, str, Unreadable]]:
    """Resource, namespace and name of each unreadable object whose key starts so."""
    for key, found in sorted(store.unreadable.items()):
        resource = resource_of(key)
        if resource is not None and key.startswith(prefix):
            namespace, _, name = key.removeprefix(resource.key_prefix).rpartition("/")
            yield resource, namespace, name, found


def warnings(store: Store, prefix: str) -> list[str]:
    """What a list of these keys lacks."""
    if not store.unreadable:
        return []
    return [f"{describe(*item)}; it is left out here" for item in all_of(store, prefix)]
