"""Patches. The expected results of strategic merge patches are those of `kubectl patch --local`."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podling.api.core.v1 import Pod, Service
from podling.api.patch import json_patch, merge, strategic
from podling.api.status import ApiError

POD: dict[str, Any] = {
    "metadata": {"name": "x", "finalizers": ["a", "b"], "labels": {"app": "web"}},
    "spec": {
        "containers": [
            {
                "name": "a",
                "image": "1",
                "args": ["p", "q"],
                "env": [{"name": "X", "value": "1"}, {"name": "Y", "value": "2"}],
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
            },
            {"name": "b", "image": "1"},
        ],
        "volumes": [{"name": "v", "emptyDir": {}}],
        "nodeSelector": {"k": "v"},
        "tolerations": [{"key": "a"}],
        "securityContext": {"runAsUser": 1},
    },
}


def patched(patch: dict[str, Any]) -> dict[str, Any]:
    before = copy.deepcopy(POD)
    original = copy.deepcopy(patch)
    result = strategic.apply(POD, patch, Pod)
    assert before == POD
    assert original == patch
    return result


def names(result: dict[str, Any]) -> list[str]:
    return [container["name"] for container in result["spec"]["containers"]]


def test_items_of_a_keyed_list_merge_by_their_key() -> None:
    result = patched({"spec": {"containers": [{"name": "b", "image": "2"}]}})
    assert result["spec"]["containers"] == [POD["spec"]["containers"][0], {"name": "b", "image": "2"}]


def test_new_items_come_before_the_others() -> None:
    assert names(patched({"spec": {"containers": [{"name": "c"}]}})) == ["c", "a", "b"]


def test_nested_keyed_lists_merge_and_plain_lists_are_replaced() -> None:
    change = {"name": "a", "env": [{"name": "Y", "value": "3"}, {"name": "Z", "value": "4"}], "args": ["r"]}
    container = patched({"spec": {"containers": [change]}})["spec"]["containers"][0]
    assert {item["name"]: item["value"] for item in container["env"]} == {"X": "1", "Y": "3", "Z": "4"}
    assert container["args"] == ["r"]


def test_lists_without_a_merge_key_are_replaced() -> None:
    assert patched({"spec": {"tolerations": [{"key": "b"}]}})["spec"]["tolerations"] == [{"key": "b"}]


def test_lists_of_primitives_are_joined_and_the_patch_comes_first() -> None:
    assert patched({"metadata": {"finalizers": ["b", "c"]}})["metadata"]["finalizers"] == ["a", "b", "c"]
    assert patched({"metadata": {"finalizers": ["c"]}})["metadata"]["finalizers"] == ["c", "a", "b"]


def test_nulls_delete_and_leave_nothing_behind() -> None:
    result = patched(
        {"spec": {"nodeSelector": None, "affinity": None}, "metadata": {"labels": {"app": None, "z": "1"}}}
    )
    assert "nodeSelector" not in result["spec"]
    assert "affinity" not in result["spec"]
    assert result["metadata"]["labels"] == {"z": "1"}


def test_items_are_deleted_by_directive() -> None:
    assert names(patched({"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})) == ["b"]
    change = {"name": "a", "env": [{"name": "X", "$patch": "delete"}]}
    assert patched({"spec": {"containers": [change]}})["spec"]["containers"][0]["env"] == [{"name": "Y", "value": "2"}]


def test_lists_and_maps_are_replaced_by_directive() -> None:
    assert names(patched({"spec": {"containers": [{"$patch": "replace"}, {"name": "z"}]}})) == ["z"]
    selector = {"$patch": "replace", "q": "1"}
    assert patched({"spec": {"nodeSelector": selector}})["spec"]["nodeSelector"] == {"q": "1"}
    assert patched({"spec": {"nodeSelector": {"$patch": "delete"}}})["spec"]["nodeSelector"] == {}


def test_retained_keys_drop_the_others() -> None:
    volume = {"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/x"}}
    assert patched({"spec": {"volumes": [volume]}})["spec"]["volumes"] == [{"name": "v", "hostPath": {"path": "/x"}}]


def test_primitives_are_deleted_from_their_list() -> None:
    result = patched({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a", "z"]}})
    assert result["metadata"]["finalizers"] == ["b"]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (["b", "a"], ["b", "a"]),
        (["c", "b", "a"], ["c", "b", "a"]),
        (["a", "c"], ["a", "c", "b"]),
        (["c"], ["c", "a", "b"]),
    ],
)
def test_an_order_is_followed_and_other_items_keep_their_places(order: list[str], expected: list[str]) -> None:
    change = [{"name": "c"}] if "c" in order else []
    patch = {"spec": {"$setElementOrder/containers": [{"name": name} for name in order], "containers": change}}
    assert names(patched(patch)) == expected


def test_an_item_that_is_added_beside_a_deleted_one_takes_its_place() -> None:
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "c"}],
            "containers": [{"name": "c"}, {"name": "a", "$patch": "delete"}],
        }
    }
    assert names(patched(patch)) == ["b", "c"]


def test_directives_in_new_items_are_not_stored() -> None:
    container = {
        "name": "c",
        "env": [{"name": "X"}, {"name": "Y", "$patch": "delete"}],
        "$setElementOrder/env": [{"name": "X"}],
        "resources": {"$retainKeys": [], "limits": {"cpu": None}},
    }
    assert patched({"spec": {"containers": [container]}})["spec"]["containers"][0] == {
        "name": "c",
        "env": [{"name": "X"}],
        "resources": {"limits": {}},
    }


def test_services_merge_ports_by_their_number() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 81, "name": "b"}]}}
    result = strategic.apply(service, {"spec": {"ports": [{"port": 81, "nodePort": 30001}]}}, Service)
    assert result["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 81, "name": "b", "nodePort": 30001}]


@pytest.mark.parametrize(
    ("patch", "code", "message"),
    [
        (
            {"spec": {"containers": [{"image": "2"}]}},
            500,
            "map: map[image:2] does not contain declared merge key: name",
        ),
        ({"spec": {"$patch": "merge"}}, 500, "unknown patch type: merge in map: map[$patch:merge]"),
        (
            {"spec": {"containers": [{"name": "a", "$patch": "merge"}]}},
            500,
            "merging lists cannot yet be specified in the patch",
        ),
        ({"spec": {"$retainKeys": 5}}, 400, "invalid patch format of retainKeys"),
        (
            {"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {}}]}},
            500,
            "patch content doesn't match retainKeys list",
        ),
        ({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}, 400, "invalid patch format of primitive list"),
    ],
)
def test_a_wrong_strategic_patch_is_refused_as_upstream_does(patch: dict[str, Any], code: int, message: str) -> None:
    with pytest.raises(ApiError) as caught:
        patched(patch)
    assert (caught.value.code, str(caught.value)) == (code, message)


def test_a_patch_out_of_order_is_refused() -> None:
    patch = {
        "spec": {
            "$setElementOrder/containers": [{"name": "a"}, {"name": "b"}],
            "containers": [{"name": "b"}, {"name": "a"}],
        }
    }
    with pytest.raises(ApiError, match=r"^The order in patch list:"):
        patched(patch)


SCALARS = st.one_of(st.booleans(), st.integers(0, 9), st.text("ab", max_size=2))
DOCUMENTS: st.SearchStrategy[Any] = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), SCALARS, max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abcd"), st.one_of(SCALARS, inner, st.lists(SCALARS)), max_size=3),
    max_leaves=8,
)


def difference(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The merge patch from one document to another."""
    patch: dict[str, Any] = dict.fromkeys(set(old) - set(new))
    for name, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            patch[name] = difference(old[name], value)
        elif name not in old or old[name] != value or type(old[name]) is not type(value):
            patch[name] = value
    return patch


@given(DOCUMENTS, DOCUMENTS)
def test_the_merge_patch_between_two_documents_leads_from_one_to_the_other(old: Any, new: Any) -> None:
    before = copy.deepcopy(old)
    assert merge.apply(old, difference(old, new)) == new
    assert old == before


@given(DOCUMENTS, DOCUMENTS)
def test_where_nothing_is_typed_a_strategic_patch_is_a_merge_patch(old: Any, new: Any) -> None:
    patch = difference(old, new)
    assert strategic.apply(old, patch, Pod) == merge.apply(old, patch)


CONTAINERS = st.lists(st.sampled_from("abcdef"), unique=True, max_size=5).map(
    lambda found: [{"name": name, "image": name * 2} for name in found]
)


@given(CONTAINERS, CONTAINERS, st.data())
def test_a_complete_order_decides_the_result(old: list[Any], change: list[Any], data: st.DataObject) -> None:
    known = {item["name"] for item in (*old, *change)}
    patch_names = [item["name"] for item in change]
    rest = sorted(known - set(patch_names))
    order = patch_names + data.draw(st.permutations(rest))
    document = {"spec": {"containers": old}}
    patch = {"spec": {"containers": change, "$setElementOrder/containers": [{"name": name} for name in order]}}
    assert names(strategic.apply(document, patch, Pod)) == order


@given(CONTAINERS, CONTAINERS)
def test_applying_a_patch_again_changes_nothing(old: list[Any], change: list[Any]) -> None:
    patch = {"spec": {"containers": change}}
    once = strategic.apply({"spec": {"containers": old}}, patch, Pod)
    assert sorted(names(strategic.apply(once, patch, Pod))) == sorted(names(once))


def test_a_merge_patch_must_be_an_object() -> None:
    with pytest.raises(ApiError) as caught:
        merge.apply({}, [])
    assert caught.value.code == 400


def test_json_patch_operations_apply_in_turn() -> None:
    patch = [
        {"op": "test", "path": "/metadata/name", "value": "x"},
        {"op": "add", "path": "/metadata/labels/a~1b", "value": "c"},
        {"op": "replace", "path": "/spec/containers/1/image", "value": "2"},
        {"op": "move", "from": "/spec/nodeSelector", "path": "/spec/moved"},
        {"op": "copy", "from": "/spec/moved/k", "path": "/spec/copied"},
        {"op": "remove", "path": "/spec/tolerations/0"},
        {"op": "add", "path": "/metadata/finalizers/-", "value": "c"},
    ]
    before = copy.deepcopy(POD)
    result = json_patch.apply(POD, patch)
    assert before == POD
    assert result["metadata"]["labels"] == {"app": "web", "a/b": "c"}
    assert result["metadata"]["finalizers"] == ["a", "b", "c"]
    assert result["spec"]["containers"][1]["image"] == "2"
    assert (result["spec"]["moved"], result["spec"]["copied"]) == ({"k": "v"}, "v")
    assert result["spec"]["tolerations"] == []
    assert "nodeSelector" not in result["spec"]


def test_a_json_patch_cannot_double_a_document_without_end() -> None:
    patch = [{"op": "copy", "from": "/metadata", "path": f"/metadata/x{number}"} for number in range(40)]
    with pytest.raises(ApiError) as caught:
        json_patch.apply(POD, patch)
    assert caught.value.code == 422
    assert "exceeding the limit 3145728" in caught.value.__notes__[0]


@pytest.mark.parametrize(
    ("patch", "code"),
    [
        ({"a": 1}, 400),
        ([1], 400),
        ([{"path": "/a"}], 400),
        ([{"op": "foo", "path": "/a"}], 400),
        ([{"op": "test", "path": "/metadata/name", "value": "y"}], 422),
        ([{"op": "test", "path": "/spec/securityContext/runAsUser", "value": True}], 422),
        ([{"op": "remove", "path": "/nothing"}], 422),
        ([{"op": "add", "path": "/no/where", "value": 1}], 422),
        ([{"op": "replace", "path": "/spec/containers/9", "value": 1}], 422),
        ([{"op": "replace", "path": "", "value": 1}], 422),
    ],
)
def test_a_wrong_json_patch_is_refused(patch: Any, code: int) -> None:
    with pytest.raises(ApiError) as caught:
        json_patch.apply(POD, patch)
    assert caught.value.code == code
