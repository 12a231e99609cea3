"""The resources that are served."""

from __future__ import annotations

import pytest

from podling.api import scheme
from podling.api.coordination.v1 import Lease
from podling.api.core.v1 import Event, Namespace, Node, Pod
from podling.api.events.v1 import Event as NewEvent


def test_resources_are_found_by_every_name() -> None:
    for resource in scheme.RESOURCES:
        assert scheme.by_plural(resource.group, resource.version, resource.plural) is resource
        assert scheme.by_kind(resource.group, resource.version, resource.kind) is resource
        assert scheme.by_type(resource.type) is resource
    assert scheme.by_plural("", "v1", "nothing") is None
    assert scheme.by_kind("apps", "v1", "Pod") is None
    with pytest.raises(KeyError):
        scheme.by_type(int)


def test_types_carry_the_kind_that_the_scheme_says() -> None:
    for resource in scheme.RESOURCES:
        obj, items = resource.type(), resource.list_type()
        assert (obj.api_version, obj.kind) == (resource.api_version, resource.kind)  # type: ignore[attr-defined]
        assert (items.api_version, items.kind) == (resource.api_version, f"{resource.kind}List")  # type: ignore[attr-defined]


def test_paths_are_those_of_the_rest_api() -> None:
    pods, nodes, leases = scheme.by_type(Pod), scheme.by_type(Node), scheme.by_type(Lease)
    assert pods.path() == "/api/v1/pods"
    assert pods.path("ns") == "/api/v1/namespaces/ns/pods"
    assert pods.path("ns", "x", "log") == "/api/v1/namespaces/ns/pods/x/log"
    assert nodes.path("ignored", "n") == "/api/v1/nodes/n"
    assert leases.path("ns", "l") == "/apis/coordination.k8s.io/v1/namespaces/ns/leases/l"
    assert scheme.by_type(Namespace).path(name="a") == "/api/v1/namespaces/a"


def test_keys_keep_namespaces_apart_and_both_event_apis_together() -> None:
    assert scheme.by_type(Pod).key("ns", "x") == "/registry/pods/ns/x"
    assert scheme.by_type(Node).key("", "n") == "/registry/nodes/n"
    assert scheme.by_type(Event).key_prefix == scheme.by_type(NewEvent).key_prefix


def test_namespaces_cannot_be_deleted_as_a_collection() -> None:
    assert "deletecollection" not in scheme.by_type(Namespace).verbs
    assert "deletecollection" in scheme.by_type(Pod).verbs


def test_subresources_are_found_by_name() -> None:
    pods = scheme.by_type(Pod)
    binding = pods.subresource("binding")
    assert binding is not None
    assert (binding.kind, binding.verbs) == ("Binding", ("create",))
    assert pods.subresource("nothing") is None
